"""Label distributions from a CSV file, a row for each image file: of annotators, or of a teacher."""

import codecs
import csv
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from genscl_lite.datasets.files import as_path

SUM_TOLERANCE = 1e-3


def read_distributions(
    path: str | Path,
    files: Sequence[str],
    class_names: Sequence[str],
    *,
    others: Sequence[str] | None = (),
    name: str = "distributions",
) -> Tensor:
    """Read a label distribution for each file.

    The first column is ``path``, relative to the images' folder, with forward slashes; the others are the
    classes. Rows and classes may come in any order; each row must sum to 1 within 1e-3 and is then divided
    by its sum. A spreadsheet's file may be UTF-16, and ``;`` or tabs may part its columns: then 0,5 is 0.5.

    Args:
        path: the CSV file.
        files: N files, each of which needs a row.
        class_names: C names.
        others: files that may have a row as well, which is checked and passed over; None: any.
        name: of the argument, for messages.

    Returns:
        float32 (N, C), rows in the order of ``files``, columns in that of ``class_names``.

    Raises:
        ValueError: columns differ from the classes; a row is no distribution, names an unknown file or one
            that had a row; a file has none. The message gives file and line.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     csv = Path(folder) / "labels.csv"
    ...     _ = csv.write_text("path,dog,cat\\ncat/1.png,0.2,0.8\\ndog/1.png,1,0\\n")
    ...     read_distributions(csv, ["cat/1.png", "dog/1.png"], ["cat", "dog"])
    tensor([[0.8000, 0.2000],
            [0.0000, 1.0000]])
    """
    path, where = as_path(path), f"{name}: {path}"
    if not path.is_file():
        raise ValueError(f"{where} is no file")
    with open(path, "rb") as start:
        utf16 = start.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    encoding = "utf-16" if utf16 else "utf-8-sig"
    try:
        with open(path, encoding=encoding, newline="") as text:
            after_path = text.readline().lstrip('"').removeprefix("path").lstrip('"')[:1]
            separator = after_path if after_path in (";", "\t") else ","
            text.seek(0)
            _check_columns(where, next(csv.reader(text, delimiter=separator), [""]), class_names)
        table = pd.read_csv(
            path,
            dtype={"path": str},
            skip_blank_lines=False,
            low_memory=False,
            encoding=encoding,
            sep=separator,
            decimal="." if separator == "," else ",",
        )
    except UnicodeError:
        raise ValueError(
            f"{where} is neither UTF-8 nor marked as UTF-16; "
            'save it from the spreadsheet as "CSV UTF-8"'
        ) from None
    except pd.errors.ParserError as error:
        raise ValueError(f"{where}: {str(error).strip()}") from None
    if not isinstance(
        table.index, pd.RangeIndex
    ):  # pandas takes the first values for the names of rows
        raise ValueError(f"{where}, line 2: expected {len(class_names)} numbers, got more")
    table.index += 2  # the number of its line
    table = table.dropna(how="all")
    _check_files(where, table.path.fillna(""), files, others)

    numbers = table[list(class_names)].apply(
        pd.to_numeric, errors="coerce"
    )  # (rows, C); no number: NaN
    sums = numbers.sum(axis=1, skipna=False)
    good = (numbers >= 0).all(axis=1) & ((sums - 1).abs() <= SUM_TOLERANCE)
    if not good.all():
        line = good.idxmin()
        wrong = table.loc[line, numbers.columns[numbers.loc[line].isna()]]
        got = (
            f"{wrong.iloc[0]} for {wrong.index[0]}"
            if len(wrong)
            else (f"sum {sums[line]:.6g}, smallest {numbers.loc[line].min():g}")
        )
        raise ValueError(
            f"{where}, line {line}, {table.path[line]}: expected {len(class_names)} finite "
            f"numbers of at least 0 with sum 1, got {got}"
        )
    shares = numbers.div(sums, axis=0).set_index(table.path).reindex(files)
    missing = shares.index[shares.isna().all(axis=1)].tolist()
    if missing:
        raise ValueError(
            f"{where}: {len(missing)} of {len(files)} training files have no row: "
            f"{first_few(missing)}"
        )
    return torch.tensor(shares.to_numpy(), dtype=torch.float32)


def _check_columns(where: str, header: list[str], class_names: Sequence[str]) -> None:
    first, *names = header
    if first != "path":
        raise ValueError(f"{where}: expected the first column to be path, got {first!r}")
    wrong = {
        "missing": [name for name in class_names if name not in names],
        "not among the classes": [name for name in names if name not in class_names],
        "there twice": sorted({name for name in names if names.count(name) > 1}),
    }
    found = [f"{what}: {first_few(which)}" for what, which in wrong.items() if which]
    if found:
        raise ValueError(f"{where}: expected a column for each class; {'; '.join(found)}")


def _check_files(
    where: str, paths: pd.Series, files: Sequence[str], others: Sequence[str] | None
) -> None:
    unknown = paths[~paths.isin([*files, *others])] if others is not None else paths[:0]
    for line, file in unknown.items():
        hint = " (write / for \\)" if "\\" in file else ""
        raise ValueError(f"{where}, line {line}: {file!r} is none of the image files{hint}")
    for line, file in paths[paths.duplicated()].items():
        raise ValueError(
            f"{where}, line {line}: {file} had a row already, line {(paths == file).idxmax()}"
        )


def first_few(names: Sequence[str], most: int = 5) -> str:
    """Return the first few names, and how many more there are.

    >>> first_few("abcd", most=2)
    'a, b and 2 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
