"""Labels from a CSV file, a row for each image: classes, or distributions of annotators or of a teacher."""

import csv
import posixpath
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from genscl_lite.datasets.files import as_path

OTHER_COLUMNS = ("path", "label", "split", "group")
"""Columns that are no classes."""
LEAST_TOLERANCE = 1e-3
"""So far may the sum of a row always be from 1."""


@dataclass(frozen=True, eq=False)
class LabelTable:
    """A CSV of labels that was read: its rows by line number, and which of its columns are classes."""

    where: str  # "labels: soft.csv", how messages begin
    rows: pd.DataFrame
    classes: tuple[str, ...]
    ignored: tuple[str, ...] = ()  # columns that are neither

    def distributions(
        self,
        files: Sequence[str],
        class_names: Sequence[str],
        others: Sequence[str] | None = (),
    ) -> Tensor:
        """Return a label distribution for each file: float32 (N, C), as ``files`` and ``class_names`` are ordered.

        Each row is divided by its sum, which must be 1 as nearly as C numbers of so many decimals can have it;
        rows of whole numbers are counts of votes.

        Args:
            files: N files, each of which needs a row.
            class_names: C names.
            others: files that may have a row as well, which is checked and passed over; None: any.

        Raises:
            ValueError: columns differ from the classes; a row is no distribution, names an unknown file or one
                that had a row; a file has none. The message gives file and line.

        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     csv = Path(folder) / "labels.csv"
        ...     _ = csv.write_text("path,dog,cat\\ncat/1.png,0.2,0.8\\ndog/1.png,1,0\\n")
        ...     read_table(csv).distributions(["cat/1.png", "dog/1.png"], ["cat", "dog"])
        tensor([[0.8000, 0.2000],
                [0.0000, 1.0000]])
        """
        wrong = {
            "missing": [name for name in class_names if name not in self.classes],
            "not among the classes": [name for name in self.classes if name not in class_names],
        }
        if found := [f"{what}: {first_few(which)}" for what, which in wrong.items() if which]:
            raise ValueError(f"{self.where}: expected a column for each class; {'; '.join(found)}")
        paths = self.rows.path
        unknown = paths[~paths.isin([*files, *others])] if others is not None else paths[:0]
        for line, file in unknown.items():
            hint = " (write / for \\)" if "\\" in file else ""
            raise ValueError(
                f"{self.where}, line {line}: {file!r} is none of the image files{hint}"
            )
        shares = self.shares[list(class_names)].set_index(paths).reindex(files)
        missing = shares.index[shares.isna().all(axis=1)].tolist()
        if missing:
            raise ValueError(
                f"{self.where}: {len(missing)} of {len(files)} training files have no row: "
                f"{first_few(missing)}"
            )
        self.warn_of_sums()
        return torch.from_numpy(np.ascontiguousarray(shares, dtype=np.float32))

    @cached_property
    def numbers(self) -> pd.DataFrame:
        """The columns of classes; NaN if there is no number."""
        columns = self.rows[list(self.classes)].replace(",", ".", regex=True)
        return columns.apply(pd.to_numeric, errors="coerce").astype(float)

    @cached_property
    def sums(self) -> pd.Series:
        with np.errstate(over="ignore"):  # infinite sums are refused
            return self.numbers.sum(axis=1, skipna=False)

    @cached_property
    def are_votes(self) -> bool:
        """Whether all numbers are whole, and rows are not one-hot labels."""
        return half_unit(self.numbers.to_numpy()) == 0.5 and bool((self.sums != 1).any())

    @cached_property
    def shares(self) -> pd.DataFrame:
        """Each row divided by its sum, after a look at whether it is a distribution, or counts of votes."""
        numbers, sums, values = self.numbers, self.sums, self.numbers.to_numpy()
        good = (values >= 0).all(axis=1) & np.isfinite(sums) & (sums >= 0.5)
        expected = "finite counts of at least 0, not all of them 0"
        if self.are_votes:
            self._refuse_commas()
        else:
            half = half_unit(values)
            below = np.maximum(LEAST_TOLERANCE, half * values.shape[1])
            above = np.maximum(LEAST_TOLERANCE, half * (values != 0).sum(axis=1))
            good &= (1 - sums <= below) & (sums - 1 <= above)
            expected = "finite numbers of at least 0 with sum 1"
        if not good.all():
            line = good.idxmin()
            row = numbers.loc[line]
            no_number = self.rows.loc[line, row.index[row.isna()]]
            got = (
                f"{no_number.iloc[0]} for {no_number.index[0]}"
                if len(no_number)
                else f"sum {sums[line]:.6g}, smallest {row.min():g}"
            )
            percent = "; divide percent by 100" if np.allclose(sums, 100, atol=1) else ""
            raise ValueError(
                f"{self.where}, line {line}, {self.rows.path[line]}: expected {len(row)} "
                f"{expected}, got {got}{percent}"
            )
        return numbers.div(sums, axis=0)

    def _refuse_commas(self) -> None:
        """Counts of votes have no decimals, so a comma in one of them may part thousands."""
        written = self.rows[list(self.classes)]
        commas = written.apply(lambda cells: cells.str.contains(",", na=False))
        for line in commas.index[commas.any(axis=1)]:
            raise ValueError(
                f"{self.where}, line {line}, {self.rows.path[line]}: expected counts without commas, "
                f"got {written.loc[line, commas.loc[line]].iloc[0]}"
            )

    def found(self) -> tuple[str, ...]:
        """Say what its rows are, if they are distributions."""
        if not self.classes:
            return ()
        what = "counts of votes" if self.are_votes else "distributions"
        return (f"labels   {what} of {len(self.sums)} images, sums {self._range_of_sums()}",)

    def warn_of_sums(self) -> None:
        """Warn of rows that have another sum than 1."""
        if abs(self.sums - 1).max() > LEAST_TOLERANCE:
            what = "counts of votes" if self.are_votes else "distributions rounded"
            warnings.warn(
                f"{self.where}: taken as {what}, sums {self._range_of_sums()}; each row is divided "
                "by its sum",
                stacklevel=3,
            )

    def _range_of_sums(self) -> str:
        return f"{self.sums.min():.6g} to {self.sums.max():.6g}"


def half_unit(values: np.ndarray) -> float:
    """Return half a unit of the last decimal that all values have, or 0 if there are more than six.

    >>> half_unit(np.array([3.0, 0.0])), half_unit(np.array([0.25, 0.5])), half_unit(np.array([1 / 3]))
    (0.5, 0.005, 0.0)
    """
    values = values[np.isfinite(values)]
    for decimals in range(7):
        scaled = values * 10**decimals
        if np.allclose(scaled, np.rint(scaled), rtol=0, atol=1e-6):
            return 0.5 / 10**decimals
    return 0.0


def read_table(path: str | Path, name: str = "labels") -> LabelTable:
    """Read a CSV with a column ``path``, relative to the images' folder, with forward slashes.

    Further columns: ``label``, the class; or one for each class, of distributions or votes; ``split``;
    ``group``. Of a spreadsheet's file, ``;`` or tabs may part the columns, and 0,5 is 0.5.

    Args:
        path: the CSV file.
        name: of the argument, for messages.

    Raises:
        ValueError: it cannot be read, has no column ``path``, a column twice, or two rows of one file. The
            message gives file and line.
    """
    path, where = as_path(path), f"{name}: {path}"
    if not path.is_file():
        raise ValueError(f"{where} is no file")
    table = _read_csv(path, where).dropna(how="all")
    for column in table.columns.intersection(OTHER_COLUMNS):
        table[column] = table[column].fillna("").str.strip()
    if not len(table):
        raise ValueError(f"{where}: holds no rows")
    table["path"] = _below_folder(table.path, where)
    others = tuple(column for column in table.columns if column not in OTHER_COLUMNS)
    if "label" in table and {*others} != {*table.label}:
        return LabelTable(where, table, (), others)
    return LabelTable(where, table, others)


def _read_csv(path: Path, where: str) -> pd.DataFrame:
    """Return the rows, as text, by the numbers of their lines, after a look at the names of the columns."""
    try:
        cells = pd.read_csv(
            path,
            sep=None,  # found by the first line
            engine="python",
            header=None,
            dtype=str,
            keep_default_na=False,
            na_values=[""],
            skip_blank_lines=False,
            skipinitialspace=True,
            encoding="utf-8-sig",
        )
    except UnicodeError:
        raise ValueError(
            f'{where} is not UTF-8; save it from the spreadsheet as "CSV UTF-8"'
        ) from None
    except (csv.Error, pd.errors.ParserError) as error:
        raise ValueError(f"{where}: {str(error).strip()}") from None
    header = cells.iloc[0].fillna("").str.strip().tolist()
    if "path" not in header:
        raise ValueError(
            f"{where}: expected columns parted by commas, semicolons or tabs, one of them path, "
            f"got {first_few(header)}"
        )
    if twice := sorted({column for column in header if header.count(column) > 1}):
        raise ValueError(f"{where}: columns that are there twice: {first_few(twice)}")
    rows = cells[1:].set_axis(header, axis=1)
    rows.index += 1
    return rows


def _below_folder(written: pd.Series, where: str) -> pd.Series:
    """Return paths without "./" and the like; ValueError names one that is missing, leads out or had a row."""
    for line in written.index[written == ""]:
        raise ValueError(f"{where}, line {line}: no path")
    paths = written.map(posixpath.normpath)
    for line in paths.index[paths.str.contains(r"^/|^\.\.(?:/|$)|[\x00-\x1f]")]:
        raise ValueError(
            f"{where}, line {line}: expected a path below the folder of the images, "
            f"got {written[line]!r}"
        )
    for line, file in paths[paths.duplicated()].items():
        first = (paths == file).idxmax()
        raise ValueError(f"{where}, line {line}: {file} had a row already, line {first}")
    return paths


def first_few(names: Sequence[str], most: int = 5) -> str:
    """Return the first few names, on one line, and how many more there are.

    >>> first_few(["a\\n", "b", "c", "d"], most=2)
    'a\\\\n, b and 2 more'
    """
    shown = [name if name.isprintable() else repr(name)[1:-1] for name in names[:most]]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(shown) + more
