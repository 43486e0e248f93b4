"""Which images a folder holds, of which class and for which split: found by torchvision, checked before any work."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Generator
from torchvision.datasets.folder import IMG_EXTENSIONS, find_classes, make_dataset

from genscl_lite.datasets.distributions import some

SECOND_SPLITS = ("val", "test")

@dataclass(frozen=True)
class FolderFiles:
    """Which images there are: paths relative to ``root``, with forward slashes, in torchvision's order, and class numbers."""

    root: Path
    train_files: tuple[str, ...]
    train_labels: tuple[int, ...]
    test_files: tuple[str, ...]
    test_labels: tuple[int, ...]
    class_names: tuple[str, ...]

    def with_shuffled_test(self) -> "FolderFiles":
        """Return the same with the files to test with in a random order, always the same one."""
        order = torch.randperm(len(self.test_files), generator=Generator().manual_seed(0)).tolist()
        files, labels = (tuple(column[i] for i in order) for column in (self.test_files, self.test_labels))
        return replace(self, test_files=files, test_labels=labels)

    def without(self, left_out: Sequence[str]) -> "FolderFiles":
        """Return the same without some files.

        Raises:
            ValueError: a class has no file left to train or to test with.
        """
        out, kept = set(left_out), {}
        for split in ("train", "test"):
            files, labels = getattr(self, f"{split}_files"), getattr(self, f"{split}_labels")
            pairs = [(file, label) for file, label in zip(files, labels, strict=True) if file not in out]
            empty = [name for c, name in enumerate(self.class_names) if c not in {label for _, label in pairs}]
            if empty:
                raise ValueError(f"root: {self.root}: no readable image is left to {split} with of {some(empty)}")
            kept[f"{split}_files"], kept[f"{split}_labels"] = (tuple(column) for column in zip(*pairs, strict=True))
        return replace(self, **kept)


def scan_folder(root: str | Path, *, val_share: float = 0.2, seed: int = 0) -> FolderFiles:
    """Find the images of ROOT/train/CLASS and ROOT/val/CLASS (or ROOT/test/CLASS), or of ROOT/CLASS, and split the latter.

    Classes and order of files are those of torchvision's ImageFolder. Files whose names do not end like an image's are
    passed over.

    Args:
        root: the folder.
        val_share: share of each class that is split off to test with; at least one image of a class is on either side.
        seed: which images these are.

    Raises:
        ValueError: there is no such folder, no two classes, a class without an image or in one split only, or, where a split
            must be made, with a single image.
    """
    root = Path(root).expanduser()
    if not root.is_dir():
        raise ValueError(f"root: {root} is no folder")
    if not 0 < val_share < 1:
        raise ValueError(f"val_share: expected a share between 0 and 1, got {val_share!r}")
    second = next((name for name in SECOND_SPLITS if (root / name).is_dir()), None)
    if (root / "train").is_dir() and second:
        names = [_class_names(root / split) for split in ("train", second)]
        if set(names[0]) != set(names[1]):
            raise ValueError(f"root: {root}: train and {second} must hold the same classes; "
                             f"only in train: {some(sorted(set(names[0]) - set(names[1]))) or 'none'}; "
                             f"only in {second}: {some(sorted(set(names[1]) - set(names[0]))) or 'none'}")
        train, test = (_samples(root, root / split, names[0]) for split in ("train", second))
        names = names[0]
    else:
        if (root / "train").is_dir() and any(path.is_dir() for path in (root / "train").iterdir()):
            raise ValueError(f"root: {root} holds train but neither val nor test; add one, "
                             f"or give {root / 'train'} to have a split made")
        names = _class_names(root)
        train, test = _split(_samples(root, root, names), names, val_share, seed)
    (train_files, train_labels), (test_files, test_labels) = zip(*train, strict=True), zip(*test, strict=True)
    return FolderFiles(root, train_files, train_labels, test_files, test_labels, tuple(names))


def _class_names(folder: Path) -> list[str]:
    try:
        names, _ = find_classes(folder)
    except FileNotFoundError:
        names = []
    if len(names) < 2:
        raise ValueError(f"root: expected a folder for each of two or more classes in {folder}, got {some(names) or 'none'}")
    return names


def _samples(root: Path, folder: Path, names: list[str]) -> list[tuple[str, int]]:
    """Return (path relative to root, class number) of all images."""
    found = make_dataset(folder, {name: c for c, name in enumerate(names)}, IMG_EXTENSIONS, allow_empty=True)
    empty = sorted(set(names) - {names[c] for _, c in found})
    if empty:
        raise ValueError(f"root: no image ({' '.join(IMG_EXTENSIONS)}) in {folder} of {some(empty)}")
    return [(Path(path).relative_to(root).as_posix(), c) for path, c in found]


def _split(samples: list, names: list[str], val_share: float, seed: int) -> tuple[list, list]:
    """Split off a share of each class."""
    generator, held_out = Generator().manual_seed(seed), set()
    for c, name in enumerate(names):
        own = [i for i, (_, label) in enumerate(samples) if label == c]
        if len(own) < 2:
            raise ValueError(f"root: class {name} has a single image, {samples[own[0]][0]}; a split needs two or more")
        count = min(max(round(val_share * len(own)), 1), len(own) - 1)
        held_out |= {own[k] for k in torch.randperm(len(own), generator=generator)[:count].tolist()}
    return [s for i, s in enumerate(samples) if i not in held_out], [s for i, s in enumerate(samples) if i in held_out]
