"""Photographs that people disagree about: CIFAR-10H's answers where they were downloaded, and a teacher's."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from genscl_lite.datasets import load_dataset
from genscl_lite.datasets.builtin import data_root
from genscl_lite.runs.paths import NOTEBOOKS
from genscl_lite.train.augment import as_unit_float

__all__ = ["COUNTS", "NOT_HERE", "People", "ask_people", "teacher_says"]

COUNTS = "cifar10h-counts.npy", "cifar10h.npz"
"""How many people chose each class, (10000, 10), in the order of CIFAR-10's test images; one will do."""
NOT_HERE = (
    "Not here: CIFAR-10H's answers and CIFAR-10's photographs. `genscl data cifar10` downloads the "
    "photographs into the data folder (`$GENSCL_DATA`, or `data`). Put `cifar10h-counts.npy` from "
    "https://github.com/jcpeterson/cifar-10h beside them and run this cell again. Its licence forbids "
    "commercial use, so the kit comes without it.")
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

    ``root`` as in ``load_dataset``. ValueError if the file holds something else.
    """
    path = next((path for path in (data_root(root) / name for name in COUNTS) if path.is_file()), None)
    if path is None:
        return None
    try:
        cifar = load_dataset("cifar10", root)
    except FileNotFoundError:
        return None
    counts = np.load(path, allow_pickle=False)
    if not isinstance(counts, np.ndarray):
        with counts as archive:
            counts = archive["counts"]
    expected = len(cifar.test_labels), cifar.num_classes
    if counts.shape != expected:
        raise ValueError(f"{path}: expected counts of shape {expected}, got {counts.shape}")
    counts = counts[list(numbers)].astype(float)
    photographs = as_unit_float(cifar.test_images[list(numbers)]).numpy()
    return People(counts / counts.sum(axis=1, keepdims=True), photographs, cifar.class_names)


def teacher_says(path: Path = TEACHER) -> pd.DataFrame:
    """Return the committed answers of a small teacher: a row for each photograph, a column a class."""
    return pd.read_csv(path, index_col="photograph")
