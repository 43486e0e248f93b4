"""A folder of your own images as a data set: in memory where it fits, decoded as they are needed where it
does not."""

import hashlib
import os
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Generator, Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS, find_classes, make_dataset

from genscl_lite._checks import require_choice, require_whole
from genscl_lite.datasets.dataset import Dataset, mean_and_std, value_counts
from genscl_lite.datasets.distributions import first_few, read_distributions
from genscl_lite.datasets.files import read_json, write_json
from genscl_lite.datasets.images import CHUNK, CentreCrops, ImageFiles, chunks, load, resolve_workers

SECOND_SPLITS = ("val", "test")
RESIDENT_BYTES = 4 * 2**30
"""Up to so many bytes of pixels, both splits together, resident="auto" keeps images in memory."""


# Which images there are


@dataclass(frozen=True)
class FolderFiles:
    """Paths relative to ``root``, with forward slashes, in torchvision's order, and class numbers."""

    root: Path
    train_files: tuple[str, ...]
    train_labels: tuple[int, ...]
    test_files: tuple[str, ...]
    test_labels: tuple[int, ...]
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.train_files) + len(self.test_files)

    def with_shuffled_test(self) -> "FolderFiles":
        """Return the same with the files to test with in a random order, always the same one."""
        order = torch.randperm(len(self.test_files), generator=Generator().manual_seed(0)).tolist()
        files, labels = (tuple(column[i] for i in order) for column in (self.test_files, self.test_labels))
        return replace(self, test_files=files, test_labels=labels)

    def without(self, left_out: Sequence[str]) -> "FolderFiles":
        """Return the same without some files; ValueError where a class has none left to train or to test
        with."""
        out, kept = set(left_out), {}
        for split in ("train", "test"):
            files, labels = getattr(self, f"{split}_files"), getattr(self, f"{split}_labels")
            pairs = [(file, label) for file, label in zip(files, labels, strict=True) if file not in out]
            present = {label for _, label in pairs}
            empty = [name for c, name in enumerate(self.class_names) if c not in present]
            if empty:
                raise ValueError(f"root: {self.root}: no readable image is left to {split} with "
                                 f"of {first_few(empty)}")
            kept[f"{split}_files"], kept[f"{split}_labels"] = zip(*pairs, strict=True)
        return replace(self, **kept)


def scan_folder(root: str | Path, *, val_share: float = 0.2, seed: int = 0) -> FolderFiles:
    """Find the images of ROOT/train/CLASS and ROOT/val/CLASS (or ROOT/test/CLASS), or of ROOT/CLASS, and
    split the latter.

    Classes and order of files are those of torchvision's ImageFolder. Files whose names do not end like an
    image's are passed over.

    Args:
        root: the folder.
        val_share: share of each class that is split off to test with; at least one image of a class is on
            either side.
        seed: which images these are.

    Raises:
        ValueError: there is no such folder, no two classes, a class without an image or in one split only,
            or, where a split must be made, with a single image.
    """
    root = Path(root).expanduser()
    if not root.is_dir():
        raise ValueError(f"root: {root} is no folder")
    if not 0 < val_share < 1:
        raise ValueError(f"val_share: expected a share between 0 and 1, got {val_share!r}")
    second = next((name for name in SECOND_SPLITS if (root / name).is_dir()), None)
    if (root / "train").is_dir() and second:
        names, others = (_class_names(root / split) for split in ("train", second))
        if names != others:
            only_train, only_second = sorted(set(names) - set(others)), sorted(set(others) - set(names))
            raise ValueError(f"root: {root}: train and {second} must hold the same classes; "
                             f"only in train: {first_few(only_train) or 'none'}; "
                             f"only in {second}: {first_few(only_second) or 'none'}")
        train, test = (_samples(root, root / split, names) for split in ("train", second))
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
        raise ValueError(f"root: expected a folder for each of two or more classes in {folder}, "
                         f"got {first_few(names) or 'none'}")
    return names


def _samples(root: Path, folder: Path, names: list[str]) -> list[tuple[str, int]]:
    """Return (path relative to root, class number) of all images."""
    numbers = {name: c for c, name in enumerate(names)}
    found = make_dataset(folder, numbers, IMG_EXTENSIONS, allow_empty=True)
    empty = sorted(set(names) - {names[c] for _, c in found})
    if empty:
        raise ValueError(f"root: no image ({' '.join(IMG_EXTENSIONS)}) in {folder} of {first_few(empty)}")
    return [(Path(path).relative_to(root).as_posix(), c) for path, c in found]


def _split(samples: list, names: list[str], val_share: float, seed: int) -> tuple[list, list]:
    """Split off a share of each class."""
    generator, held_out = Generator().manual_seed(seed), set()
    for c, name in enumerate(names):
        members = [i for i, (_, label) in enumerate(samples) if label == c]
        if len(members) < 2:
            raise ValueError(f"root: class {name} has a single image, {samples[members[0]][0]}; "
                             "a split needs two or more")
        count = min(max(round(val_share * len(members)), 1), len(members) - 1)
        held_out |= {members[k] for k in torch.randperm(len(members), generator=generator)[:count].tolist()}
    kept = [sample for i, sample in enumerate(samples) if i not in held_out]
    return kept, [sample for i, sample in enumerate(samples) if i in held_out]


# The first pass over the files


@dataclass(frozen=True)
class FolderCheck:
    """Which files cannot be read, file -> what is wrong, and mean and deviation of the training images in [0,
    1]."""

    bad: dict[str, str]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str
    """Of names, sizes and times of change of all files, and the size they are cropped to."""


@dataclass(frozen=True)
class _Counts:
    """Asked for files: how often each value is in each channel, (3, 256), and what is wrong with which
    file."""

    crops: CentreCrops

    def __getitems__(self, files: Sequence[str]) -> tuple[Tensor, dict[str, str]]:
        images, bad = self.crops.__getitems__(files)
        return value_counts(images), bad


def check_files(
    files: FolderFiles, size: int, *, workers: int | None = None, path: str | Path | None = None
) -> FolderCheck:
    """Decode every file once, by several processes, and keep nothing of it but the ``FolderCheck``.

    Args:
        files: of ``scan_folder``.
        size: of the centre crops that mean and deviation are taken of, in pixels.
        workers: processes; None: one for each core.
        path: JSON file to keep the result in. If it holds that of the very same files, it is read instead.
    """
    fingerprint = _fingerprint(files, size)
    if path and Path(path).exists():
        stored = read_json(path)
        if stored.get("fingerprint") == fingerprint:
            return FolderCheck(stored["bad"], tuple(stored["mean"]), tuple(stored["std"]), fingerprint)
    train, test = chunks(files.train_files, CHUNK), chunks(files.test_files, CHUNK)
    bad, counts = {}, torch.zeros(3, 256, dtype=torch.long)
    answers = load(_Counts(CentreCrops(files.root, size)), train + test, workers)
    for number, (of_chunk, wrong) in enumerate(answers):
        bad |= wrong
        if number < len(train):
            counts += of_chunk
    check = FolderCheck(bad, *mean_and_std(counts), fingerprint)
    if path:
        write_json(path, asdict(check))
    return check


def _fingerprint(files: FolderFiles, size: int) -> str:
    digest = hashlib.sha256(f"{size}\n".encode())
    for split, names in (("train", files.train_files), ("test", files.test_files)):
        for name in names:
            path = files.root / name
            stat = path.stat() if path.exists() else os.lstat(path)  # a link may lead nowhere
            digest.update(f"{split} {name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


# The data set


def decode_resident(
    files: Sequence[str], size: int, *, root: str | Path = "", workers: int | None = None
) -> tuple[Tensor, dict[str, str]]:
    """Decode files, each once: uint8 (N, 3, size, size) of those that can be read, and file -> what is wrong
    with others."""
    images, bad, filled = torch.empty(len(files), 3, size, size, dtype=torch.uint8), {}, 0
    for part, wrong in load(CentreCrops(Path(root), size), chunks(files, CHUNK), workers):
        images[filled : filled + len(part)] = part
        filled += len(part)
        bad |= wrong
    return images[:filled], bad


def load_image_folder(
    root: str | Path, size: int, *, val_share: float = 0.2, seed: int = 0, resident: str | bool = "auto",
    distributions: str | Path = "", on_bad_image: str = "stop", workers: int | None = None,
    check_path: str | Path | None = None,
) -> Dataset:
    """Load a folder of images, RGB and square.

    Resident images are uint8 tensors of centre crops; streamed ones ``ImageFiles``, decoded as they are
    needed. Every file is decoded once here, to find those that cannot be read, and the training images' mean
    and deviation. Test images come in an order that does not depend on their classes, so that the first few
    stand for all.

    Args:
        root, val_share, seed: as in ``scan_folder``.
        size: height and width in pixels.
        resident: True, False, or "auto": resident where all crops take up to ``RESIDENT_BYTES``.
        distributions: CSV file of label distributions for the training images (``read_distributions``);
            empty: none.
        on_bad_image: "stop" with a ValueError, or "skip" those files: warn and list them in ``skipped``.
        workers: processes that decode; None: one for each core, 0: this one.
        check_path: file that keeps what the first pass over streamed images found, for the next time.

    Returns:
        The ``Dataset`` "folder"; ``train_distributions`` is (N, C) or None.

    Raises:
        ValueError: an argument is wrong, the folder is not as it must be, or files cannot be read.

    >>> load_image_folder("no/such/folder", size=224)
    Traceback (most recent call last):
    ValueError: root: no/such/folder is no folder
    """
    require_whole("size", size)
    require_choice("on_bad_image", on_bad_image, ("stop", "skip"))
    resolve_workers(workers)
    if resident not in ("auto", True, False):
        raise ValueError(f'resident: expected True, False or "auto", got {resident!r}')
    files = scan_folder(root, val_share=val_share, seed=seed).with_shuffled_test()
    soft = None
    if distributions:
        soft = read_distributions(
            distributions, files.train_files, files.class_names, others=files.test_files
        )
    if resident == "auto":
        resident = len(files) * 3 * size**2 <= RESIDENT_BYTES
    if resident:
        train, bad = decode_resident(files.train_files, size, root=files.root, workers=workers)
        test, bad_test = decode_resident(files.test_files, size, root=files.root, workers=workers)
        bad |= bad_test
        counts = sum(map(value_counts, train.split(CHUNK)), torch.zeros(3, 256, dtype=torch.long))
        mean, std = mean_and_std(counts)
    else:
        check = check_files(files, size, workers=workers, path=check_path)
        bad, mean, std = check.bad, check.mean, check.std
    kept = _without_bad(files, bad, on_bad_image)
    if soft is not None:
        soft = soft[[i for i, file in enumerate(files.train_files) if file not in bad]]
    if not resident:
        splits = kept.train_files, kept.test_files
        train, test = (ImageFiles(files.root, names, size, workers=workers) for names in splits)
    labels = [torch.tensor(numbers) for numbers in (kept.train_labels, kept.test_labels)]
    return Dataset("folder", train, labels[0], test, labels[1], kept.class_names, mean, std, soft,
                   train_files=kept.train_files, skipped=tuple(bad))


def load_folder(root: str | Path | None, config, check_path: str | Path | None = None) -> Dataset:
    """Load the folder of images at ``root`` as a configuration asks for it; ValueError where no folder is
    given."""
    if not root:
        raise ValueError("data_root: dataset folder needs the folder of the images")
    resident = {"auto": "auto", "always": True, "never": False}[config.resident]
    return load_image_folder(
        root, config.image_size, val_share=config.val_share, resident=resident, check_path=check_path,
        distributions=config.distributions, on_bad_image=config.on_bad_image,
    )


def _without_bad(files: FolderFiles, bad: dict[str, str], on_bad_image: str) -> FolderFiles:
    """Leave out the files that cannot be read, with a warning, or raise ValueError."""
    if not bad:
        return files
    named = first_few([f"{file} ({what})" for file, what in bad.items()])
    which = f"{len(bad)} of {len(files)} images in {files.root} cannot be read: {named}"
    if on_bad_image == "stop":
        raise ValueError(f'root: {which}; mend or delete them, or leave them out with on_bad_image="skip"')
    warnings.warn(f"left out: {which}", stacklevel=4)
    return files.without(list(bad))
