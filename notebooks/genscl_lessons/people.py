"""Photographs that people disagree about: CIFAR-10H's answers where they were downloaded, and a teacher's."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from genscl_lessons.cifar10h import read_counts, shares_of
from genscl_lite.datasets import load_dataset
from genscl_lite.runs.paths import NOTEBOOKS
from genscl_lite.train.augment import as_unit_float

__all__ = ["NOT_HERE", "People", "ask_people", "teacher_says"]

NOT_HERE = (
    "Not here: CIFAR-10's photographs and CIFAR-10H's answers. `genscl data cifar10` and `python -m "
    "genscl_lessons.cifar10h download` fetch them; then run this cell again. The answers' licence forbids commercial use, so the "
    "kit comes without them."
)
TEACHER = NOTEBOOKS / "pictures" / "doubtful_photos.csv"


class People(NamedTuple):
    """What people said about some photographs."""

    said: np.ndarray
    """(N, C) shares of the answers."""
    photographs: np.ndarray
    """(N, 3, H, W) in [0, 1]."""
    class_names: tuple[str, ...]


def ask_people(numbers: Sequence[int], root: str | Path | None = None) -> People | None:
    """Return people's answers about CIFAR-10's test images by number, or None where the data is not there.

    ``root`` as in ``load_dataset``. ValueError if the file of answers holds something else.
    """
    try:
        counts, cifar = read_counts(root), load_dataset("cifar10", root)
    except FileNotFoundError:
        return None
    photographs = as_unit_float(cifar.test_images[list(numbers)]).numpy()
    return People(shares_of(counts[list(numbers)]), photographs, cifar.class_names)


def teacher_says(path: Path = TEACHER) -> pd.DataFrame:
    """Return the committed answers of a small teacher: a row for each photograph, a column a class."""
    return pd.read_csv(path, index_col="photograph")
