"""Which images are trained and which are tested with: as the data say, or by a split that keeps groups whole."""

import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.model_selection import StratifiedGroupKFold
from torch import Generator

from genscl_lite.datasets.labels import first_few
from genscl_lite.datasets.listing import Listing


@dataclass(frozen=True)
class FolderFiles:
    """Pairs of a path relative to ``root``, with forward slashes, and its class number."""

    root: Path
    train: list[tuple[str, int]]
    test: list[tuple[str, int]]
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.train) + len(self.test)

    def with_shuffled_test(self) -> "FolderFiles":
        """Return the same with the files to test with in a random order, always the same one."""
        order = torch.randperm(len(self.test), generator=Generator().manual_seed(0))
        return replace(self, test=[self.test[i] for i in order.tolist()])


def paths(images: list[tuple[str, int]]) -> list[str]:
    return [path for path, _ in images]


def split_files(
    listing: Listing,
    val_share: float = 0.2,
    seed: int = 0,
    on_small_class: str = "stop",
    soft: bool = False,
) -> FolderFiles:
    """Return what is trained and what is tested with.

    Args:
        listing: files, classes, and splits or groups if they are known.
        val_share: share of each class that is split off to test with, at least one image on either side. With
            groups, as nearly as whole groups allow.
        seed: which images these are.
        on_small_class: of a class without an image on either side: "stop", or "take" the others alone.
        soft: the images have distributions, so a class may do without an image of its own.

    Raises:
        ValueError: a class has no image on a side, or fewer than two classes have.
    """
    if not 0 < val_share < 1:
        raise ValueError(f"val_share: expected a share between 0 and 1, got {val_share!r}")
    table, names, root = listing.table, listing.class_names, listing.root
    if not (table.split != "").any():
        by = _by_group if "group" in table else _by_class
        test = by(table, val_share, seed)
        table = table.assign(split=np.where(test, "test", "train"))
    sides = {side: table[table.split == side] for side in ("train", "test")}
    lacks = {side: {*range(len(names))} - {*part.label} for side, part in sides.items()}
    small = sorted(lacks["train"] | lacks["test"])
    if soft and all(map(len, sides.values())):
        small = []
    if small:
        missing = [
            f"none to {side} with: {first_few([names[c] for c in sorted(which)])}"
            for side, which in lacks.items()
            if which
        ]
        what = f"classes without images to train and to test with; {'; '.join(missing)}"
        if on_small_class == "stop" or soft:
            hint = "" if soft else '; add some, or leave these out with on_small_class="take"'
            raise ValueError(f"root: {root}: {what}{hint}")
        if len(names) - len(small) < 2:
            raise ValueError(f"root: {root}: fewer than two classes are left; {what}")
        warnings.warn(f"root: {root}: left out {len(small)} {what}", stacklevel=2)
    left = [c for c in range(len(names)) if c not in small]
    number = {c: new for new, c in enumerate(left)}
    parts = (
        [(path, number[c]) for path, c in zip(part.path, part.label, strict=True) if c in number]
        for part in sides.values()
    )
    return FolderFiles(root, *parts, tuple(names[c] for c in left))


def _by_class(table: pd.DataFrame, val_share: float, seed: int) -> np.ndarray:
    """Tell which rows are to test with: a share of each class, none of a class with a single image."""
    generator, test = Generator().manual_seed(seed), np.zeros(len(table), dtype=bool)
    for _, members in sorted(table.reset_index(drop=True).groupby("label").groups.items()):
        count = min(max(round(val_share * len(members)), 1), len(members) - 1)
        chosen = torch.randperm(len(members), generator=generator)[:count]
        test[np.asarray(members)[chosen.numpy()]] = True
    return test


def _by_group(table: pd.DataFrame, val_share: float, seed: int) -> np.ndarray:
    """Tell the same for whole groups, with classes as even as these allow (scikit-learn's StratifiedGroupKFold).

    Of the folds, the one that leaves most classes an image on either side, and is nearest to the share.
    """
    groups = table.group.nunique()
    if groups < 2:
        raise ValueError(f"group: a split needs two or more groups, got {groups}")
    share = min(val_share, 1 - val_share)
    count = max(2, min(round(1 / share), groups, int(table.label.value_counts().max())))
    folds = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes with fewer members than folds
        parts = [part for _, part in folds.split(table.path, table.label, table.group)]
    labels = table.label.to_numpy()

    def fit(part: np.ndarray) -> tuple[int, float]:
        rest = np.delete(labels, part)
        return len({*labels[part]} & {*rest}), -abs(len(part) / len(labels) - share)

    test = np.zeros(len(table), dtype=bool)
    test[max(parts, key=fit)] = True
    return test if val_share <= 0.5 else ~test
