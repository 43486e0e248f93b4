"""Label distributions from a CSV file: soft labels of annotators, or of a teacher, a row for each image
file."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

SUM_TOLERANCE = 1e-3


def read_distributions(
    path: str | Path, files: Sequence[str], class_names: Sequence[str], *, others: Sequence[str] | None = (),
    name: str = "distributions",
) -> Tensor:
    """Read a label distribution for each file.

    The first column is ``path``, relative to the images' folder, with forward slashes; the others are the
    classes, in any order. Rows may come in any order; each must sum to 1 within 1e-3 and is then divided by
    its sum.

    Args:
        path: the CSV file.
        files: N files, each of which needs a row.
        class_names: C names.
        others: files that may have a row as well, which is checked and passed over (the other split); None:
            any.
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
    where = f"{name}: {path}"
    if not Path(path).is_file():
        raise ValueError(f"{where} is no file")
    try:  # a row a line, so that lines can be named; all as text, so that what is wrong can be shown
        as_text = {"header": None, "dtype": str, "na_filter": False, "skip_blank_lines": False}
        text = pd.read_csv(path, encoding="utf-8-sig", **as_text)
    except pd.errors.EmptyDataError:
        text = pd.DataFrame([[""]])
    except pd.errors.ParserError as error:
        raise ValueError(f"{where}: {str(error).strip()}") from None
    _check_columns(where, list(text.loc[0]), class_names)
    text.columns = text.loc[0]
    text = text[1:].set_index(pd.RangeIndex(2, len(text) + 1))  # the number of its line
    text = text[text.path != ""]
    _check_files(where, text.path, files, others)

    numbers = text[list(class_names)].apply(pd.to_numeric, errors="coerce")
    sums = numbers.sum(axis=1, skipna=False)
    good = (numbers >= 0).all(axis=1) & ((sums - 1).abs() <= SUM_TOLERANCE)  # NaN is neither
    if not good.all():
        line = good.idxmin()
        got = ", ".join(text.loc[line, list(class_names)])
        raise ValueError(f"{where}, line {line}, {text.path[line]}: expected {len(class_names)} finite "
                         f"numbers of at least 0 with sum 1, got {got} (sum {sums[line]:.6g})")
    shares = numbers.div(sums, axis=0).set_index(text.path).reindex(files)
    missing = shares.index[shares.isna().any(axis=1)].tolist()
    if missing:
        raise ValueError(f"{where}: {len(missing)} of {len(files)} training files have no row: "
                         f"{first_few(missing)}")
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


def _check_files(where: str, paths: pd.Series, files: Sequence[str], others: Sequence[str] | None) -> None:
    unknown = paths[~paths.isin([*files, *others])] if others is not None else paths[:0]
    for line, file in unknown.items():
        hint = " (write / for \\)" if "\\" in file else ""
        raise ValueError(f"{where}, line {line}: {file!r} is none of the image files{hint}")
    for line, file in paths[paths.duplicated()].items():
        earlier = paths.index[paths == file][0]
        raise ValueError(f"{where}, line {line}: {file} had a row already, line {earlier}")


def first_few(names: Sequence[str], most: int = 5) -> str:
    """Return the first few names, and how many more there are.

    >>> first_few("abcd", most=2)
    'a, b and 2 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
