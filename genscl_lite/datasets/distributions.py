"""Label distributions from a CSV file: soft labels of annotators, or what a teacher said, a row for each image file."""

import csv
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

SUM_TOLERANCE = 1e-3


def read_distributions(
    path: str | Path, files: Sequence[str], class_names: Sequence[str], *, others: Sequence[str] | None = (),
    name: str = "distributions",
) -> Tensor:  # fmt: skip
    """Read a label distribution for each file.

    The first column is ``path``, relative to the images' folder, with forward slashes; the others are the classes, in any
    order. Rows may come in any order; each must sum to 1 within 1e-3 and is then divided by its sum.

    Args:
        path: the CSV file.
        files: N files, each of which needs a row.
        class_names: C names.
        others: files that may have a row as well, which is checked and passed over (the other split); None: any.
        name: of the argument, for messages.

    Returns:
        float32 (N, C), rows in the order of ``files``, columns in that of ``class_names``.

    Raises:
        ValueError: columns differ from the classes; a row is no distribution, names an unknown file or one that had a row;
            a file has none. The message gives file and line.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     csv = Path(folder) / "labels.csv"
    ...     _ = csv.write_text("path,dog,cat\\ncat/1.png,0.2,0.8\\ndog/1.png,1,0\\n")
    ...     read_distributions(csv, ["cat/1.png", "dog/1.png"], ["cat", "dog"])
    tensor([[0.8000, 0.2000],
            [0.0000, 1.0000]])
    """
    path, row_of = Path(path), {file: i for i, file in enumerate(files)}
    known = None if others is None else {*files, *others}
    if not path.is_file():
        raise ValueError(f"{name}: {path} is no file")
    distributions, line_of = torch.zeros(len(files), len(class_names)), {}
    with path.open(encoding="utf-8-sig", newline="") as text:
        reader = csv.reader(text)
        columns = _columns(f"{name}: {path}", next(reader, []), class_names)
        for row in reader:
            if not row:
                continue
            where, file = f"{name}: {path}, line {reader.line_num}", row[0]
            if known is not None and file not in known:
                hint = " (write / for \\)" if "\\" in file else ""
                raise ValueError(f"{where}: {file!r} is none of the image files{hint}")
            if file in line_of:
                raise ValueError(f"{where}: {file} had a row already, line {line_of[file]}")
            line_of[file] = reader.line_num
            values = _distribution(f"{where}, {file}", row[1:], columns)
            if file in row_of:
                distributions[row_of[file]] = values
    missing = [file for file in files if file not in line_of]
    if missing:
        raise ValueError(f"{name}: {path}: {len(missing)} of {len(files)} training files have no row: {some(missing)}")
    return distributions


def _columns(where: str, header: list[str], class_names: Sequence[str]) -> list[int]:
    """Return for each class the column it has, after the first."""
    first, names = header[0] if header else "", header[1:]
    if first != "path":
        raise ValueError(f"{where}: expected the first column to be path, got {first!r}")
    there, wanted = set(names), set(class_names)
    missing, unknown = [name for name in class_names if name not in there], [name for name in names if name not in wanted]
    twice = sorted({name for name in names if names.count(name) > 1})
    if missing or unknown or twice:
        wrong = {"missing": missing, "not among the classes": unknown, "there twice": twice}
        raise ValueError(f"{where}: expected a column for each class; "
                         + "; ".join(f"{what}: {some(which)}" for what, which in wrong.items() if which))
    return [names.index(name) for name in class_names]


def _distribution(where: str, row: list[str], columns: list[int]) -> Tensor:
    """Return the row's numbers in the order of the classes, divided by their sum."""
    if len(row) != len(columns):
        raise ValueError(f"{where}: expected {len(columns)} numbers, got {len(row)}")
    try:
        numbers = [float(value) for value in row]
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    total = sum(numbers)
    if not all(math.isfinite(x) and x >= 0 for x in numbers) or abs(total - 1) > SUM_TOLERANCE:
        raise ValueError(f"{where}: expected finite numbers of at least 0 with sum 1, "
                         f"got sum {total:.6g}, smallest {min(numbers):g}")
    return torch.tensor([numbers[column] / total for column in columns])


def some(names: Sequence[str], most: int = 5) -> str:
    """Return the first few names, and how many more there are.

    >>> some("abcd", most=2)
    'a, b and 2 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
