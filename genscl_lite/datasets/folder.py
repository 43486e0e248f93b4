"""A folder of your own images as a data set: in memory where it fits, from its files as they are needed where it does not."""

import hashlib
import os
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from genscl_lite._checks import require_choice, require_whole
from genscl_lite.datasets.builtin import Dataset, few_labels, load_dataset, mean_and_std, value_counts
from genscl_lite.datasets.decoding import CHUNK, CentreCrops, chunks, decode_resident, start_workers
from genscl_lite.datasets.distributions import read_distributions, some
from genscl_lite.datasets.files import read_json, write_json
from genscl_lite.datasets.folderscan import FolderFiles, scan_folder
from genscl_lite.datasets.imagefiles import ImageFiles
from genscl_lite.train.config import TrainConfig

RESIDENT_BYTES = 4 * 2**30
"""Up to so many bytes of pixels, both splits together, resident="auto" keeps images in memory."""


@dataclass(frozen=True)
class FolderCheck:
    """Which files cannot be read, file -> what is wrong, and mean and deviation of the training images in [0, 1]."""

    bad: dict[str, str]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str
    """Of names, sizes and times of change of all files, and the size they are cropped to."""


def check_files(files: FolderFiles, size: int, *, workers: int | None = None, path: str | Path | None = None) -> FolderCheck:
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
    bad, counts = {}, torch.zeros(3, 256, dtype=torch.long)
    splits = (("train", files.train_files), ("test", files.test_files))
    tasks = [(split, part) for split, names in splits for part in chunks(names, CHUNK)]
    for part, wrong in start_workers(_Check(CentreCrops(files.root, size)), workers, len(tasks))(tasks):
        counts += part
        bad |= wrong
    check = FolderCheck(bad, *mean_and_std(counts), fingerprint)
    if path:
        write_json(path, asdict(check))
    return check


@dataclass(frozen=True)
class _Check:
    """The work: counts of the training images' values, (3, 256), and what is wrong with which file."""

    crops: CentreCrops

    def __call__(self, task: tuple[str, Sequence[str]]) -> tuple[Tensor, dict[str, str]]:
        split, files = task
        images, bad = self.crops(files)
        return value_counts(images) if split == "train" else torch.zeros(3, 256, dtype=torch.long), bad


def _fingerprint(files: FolderFiles, size: int) -> str:
    digest = hashlib.sha256(f"{size}\n".encode())
    for split, names in (("train", files.train_files), ("test", files.test_files)):
        for name in names:
            path = files.root / name
            stat = path.stat() if path.exists() else os.lstat(path)  # a link may lead nowhere
            digest.update(f"{split} {name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


# The data set


def load_image_folder(
    root: str | Path, size: int, *, val_share: float = 0.2, seed: int = 0, resident: str | bool = "auto",
    distributions: str | Path = "", on_bad_image: str = "stop", workers: int | None = None, check_path: str | Path | None = None,
) -> Dataset:  # fmt: skip
    """Load a folder of images, RGB and square.

    Resident images are uint8 tensors of centre crops (``decode_resident``); streamed ones ``ImageFiles``, decoded as they
    are needed. Every file is decoded once here, to find those that cannot be read, and the training images' mean and std.
    Test images come in an order that does not depend on their classes, so that the first few stand for all.

    Args:
        root, val_share, seed: as in ``scan_folder``.
        size: height and width in pixels.
        resident: True, False, or "auto": resident where all crops take up to ``RESIDENT_BYTES``.
        distributions: CSV file of label distributions for the training images (``read_distributions``); empty: none.
        on_bad_image: "stop" with a ValueError, or "skip" those files: warn and list them in ``skipped``.
        workers: processes that decode; None: one for each core, 0: this one.
        check_path: file that keeps what the first pass over streamed images told, for the next time (``check_files``).

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
    if resident not in ("auto", True, False):
        raise ValueError(f'resident: expected True, False or "auto", got {resident!r}')
    files = scan_folder(root, val_share=val_share, seed=seed).with_shuffled_test()
    soft = None
    if distributions:
        soft = read_distributions(distributions, files.train_files, files.class_names, others=files.test_files)
    images = len(files.train_files) + len(files.test_files)
    if resident == "auto":
        resident = images * 3 * size**2 <= RESIDENT_BYTES
    if resident:
        (train, bad), (test, bad_too) = (decode_resident(names, size, root=files.root, workers=workers)
                                         for names in (files.train_files, files.test_files))  # fmt: skip
        bad |= bad_too
        mean, std = mean_and_std(sum(map(value_counts, train.split(CHUNK)), torch.zeros(3, 256, dtype=torch.long)))
    else:
        check = check_files(files, size, workers=workers, path=check_path)
        bad, mean, std = check.bad, check.mean, check.std
    kept = _without_bad(files, bad, on_bad_image)
    if soft is not None:
        soft = soft[[i for i, file in enumerate(files.train_files) if file not in bad]]
    if not resident:
        train, test = (ImageFiles(files.root, names, size, workers=workers) for names in (kept.train_files, kept.test_files))
    labels = [torch.tensor(numbers) for numbers in (kept.train_labels, kept.test_labels)]
    return Dataset("folder", train, labels[0], test, labels[1], kept.class_names, mean, std, soft,
                   train_files=kept.train_files, skipped=tuple(bad))


def load_data(config: TrainConfig, root: str | Path | None = None, check_path: str | Path | None = None) -> Dataset:
    """Load the data set a configuration names: a folder of images at ``root``, or one of ``load_dataset``.

    Args:
        config: ``dataset`` and what belongs to it.
        root: the folder of images, or of CIFAR's files.
        check_path: as in ``load_image_folder``.

    Raises:
        ValueError, FileNotFoundError: as ``load_dataset`` and ``load_image_folder``; or no folder is given.

    >>> len(load_data(TrainConfig(labels_per_class=3)).train_labels)
    30
    """
    if config.dataset != "folder":
        return load_dataset(config.dataset, root, config.labels_per_class, config.seed)
    if not root:
        raise ValueError("data_root: dataset folder needs the folder of the images")
    resident = {"auto": "auto", "always": True, "never": False}[config.resident]
    images = load_image_folder(root, config.image_size, val_share=config.val_share, resident=resident,
                               distributions=config.distributions, on_bad_image=config.on_bad_image, check_path=check_path)
    return few_labels(images, config.labels_per_class, config.seed) if config.labels_per_class else images


def _without_bad(files: FolderFiles, bad: dict[str, str], on_bad_image: str) -> FolderFiles:
    """Leave out the files that cannot be read, with a warning, or raise ValueError."""
    if not bad:
        return files
    images = len(files.train_files) + len(files.test_files)
    which = f"{len(bad)} of {images} images in {files.root} cannot be read: " + some([f"{f} ({what})" for f, what in bad.items()])
    if on_bad_image == "stop":
        raise ValueError(f'root: {which}; mend or delete them, or leave them out with on_bad_image="skip"')
    warnings.warn(f"left out: {which}", stacklevel=3)
    return files.without(list(bad))
