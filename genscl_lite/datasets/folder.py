"""A folder of your own images: in memory where it fits, decoded as they are needed where it does not."""

import hashlib
import os
import re
import warnings
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import torch
from PIL import Image
from torch import Generator

from genscl_lite.datasets.check import Seen, odd_pixels, warn_of
from genscl_lite.datasets.distributions import first_few, read_distributions
from genscl_lite.datasets.files import as_path, read_json, write_json
from genscl_lite.datasets.images import ImageFiles, decode_all, mean_and_std, resolve_workers
from genscl_lite.datasets.registry import Dataset, dataset

RESIDENT_BYTES = 4 * 2**30
"""Up to so many bytes of pixels, both splits together, resident="auto" keeps images in memory."""


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

    def without(self, left_out: Collection[str]) -> "FolderFiles":
        """Return the same without some files; ValueError where a class has none left in a split."""
        kept = {
            split: [pair for pair in getattr(self, split) if pair[0] not in left_out]
            for split in ("train", "test")
        }
        for split, pairs in kept.items():
            empty = set(range(len(self.class_names))) - {c for _, c in pairs}
            if empty:
                raise ValueError(
                    f"root: {self.root}: no readable image is left to {split} with "
                    f"of {first_few([self.class_names[c] for c in sorted(empty)])}"
                )
        return replace(self, **kept)


SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
"""Names of the folders that hold splits, in small letters or large."""
LIKE_A_SPLIT = re.compile(r"(train|val|test)(ing|id|idation)?([\W_].*|set)?", re.IGNORECASE)
HIDDEN = (".", "__MACOSX", "@eaDir", "Thumbs.db", "desktop.ini")
"""How the names of files and folders begin that programs keep for themselves, copies of images among them."""
NO_PIXELS = ("BUFR", "GRIB", "HDF5", "MPEG", "WMF")
"""Formats that PIL knows by name but cannot decode."""


def scan_folder(root: str | Path, *, val_share: float = 0.2, seed: int = 0) -> FolderFiles:
    """Find the images of ROOT/train/CLASS and ROOT/val/CLASS (or test), or of ROOT/CLASS and split those.

    Splits are known by their usual names (``SPLITS``); val goes before test. Classes and order of files are
    those of torchvision's ImageFolder. An image is what PIL reads; nothing hidden is looked at, and other
    files are passed over with a warning that counts them.

    Args:
        root: the folder.
        val_share: share of each class that is split off to test with, at least one image on either side.
        seed: which images these are.

    Raises:
        ValueError: there is no such folder, no two classes, a class without an image or in one split only,
            or, where a split must be made, with a single image; or splits cannot be told from classes.
    """
    root = as_path(root)
    if not root.is_dir():
        raise ValueError(f"root: {root} is no folder")
    if not 0 < val_share < 1:
        raise ValueError(f"val_share: expected a share between 0 and 1, got {val_share!r}")
    names = _find_splits(root)
    passed_over, parts = Counter(), []
    for folder in [root / name for name in names] or [root]:
        parts.append(_find_images(root, folder, passed_over))
    (classes, train), (others, test) = parts[0], parts[-1]
    if passed_over:
        warnings.warn(
            f"root: passed over in {root}, as no image that PIL reads or of no class: "
            f"{_counted(passed_over)}",
            stacklevel=2,
        )
    if classes != others:
        first, second = names
        only_train, only_second = (
            sorted(set(classes) - set(others)),
            sorted(set(others) - set(classes)),
        )
        raise ValueError(
            f"root: {root}: {first} and {second} must hold the same classes; "
            f"only in {first}: {first_few(only_train) or 'none'}; "
            f"only in {second}: {first_few(only_second) or 'none'}"
        )
    if not names:
        train, test = _split(train, classes, val_share, seed)
    return FolderFiles(root, train, test, tuple(classes))


def _find_splits(root: Path) -> tuple[str, ...]:
    """Return the names of the folders to train and to test with; none where the folders are classes.

    Raises:
        ValueError: folders are called like splits, and which is which cannot be told.
    """
    folders = _folders(root)
    found = {
        kind: [name for name in folders if name.lower() in names] for kind, names in SPLITS.items()
    }
    named = [name for names in found.values() for name in names]
    nested = [name for name in named if _folders(root / name)]
    trains, seconds = found["train"], found["val"] or found["test"]
    if len(trains) == len(seconds) == 1:
        return trains[0], seconds[0]
    if len(trains) == 1 and not seconds and nested:
        raise ValueError(
            f"root: {root} holds {trains[0]} but neither val nor test; add one, "
            f"or give {root / trains[0]} to have a split made"
        )
    like = [match[1].lower() for name in folders if (match := LIKE_A_SPLIT.fullmatch(name))]
    inner = [{name.lower() for name in _folders(root / name)} for name in folders]
    upside_down = any(
        names & {*SPLITS["train"]} and names & {*SPLITS["val"], *SPLITS["test"]} for names in inner
    )
    if (
        nested
        or len(named) > 1
        or upside_down
        or (len(like) == len(folders) and len(set(like)) > 1)
    ):
        raise ValueError(
            f"root: {root} holds {first_few(named or folders)}, and which of them are splits is "
            "not clear; expected one train and one val or test, each with a folder for each "
            "class, or the folders of classes alone"
        )
    return ()


def _folders(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith(HIDDEN))


def _find_images(
    root: Path, folder: Path, passed_over: Counter
) -> tuple[list[str], list[tuple[str, int]]]:
    """Return the names of classes, and (path relative to root, class number) of all images.

    ``passed_over`` counts other files, by their ending, and images that lie in no class.
    """
    names = _folders(folder)
    if len(names) < 2:
        raise ValueError(
            f"root: expected a folder for each of two or more classes in {folder}, "
            f"got {first_few(names) or 'none'}"
        )
    kinds = Image.registered_extensions()
    endings = {
        ending for ending in kinds if kinds[ending] in Image.OPEN and kinds[ending] not in NO_PIXELS
    }
    images = []
    for c, name in enumerate(names):
        for inside, files in sorted(_walk(folder / name)):
            for file in files:
                ending = Path(file).suffix.lower()
                if ending in endings:
                    images.append((f"{Path(inside).relative_to(root).as_posix()}/{file}", c))
                else:
                    passed_over[ending or "without ending"] += 1
    loose = [
        p for p in folder.iterdir() if p.suffix.lower() in endings and not p.name.startswith(HIDDEN)
    ]
    passed_over.update({f"in no class ({loose[0].name})": len(loose)} if loose else {})
    empty = sorted(set(range(len(names))) - {c for _, c in images})
    if empty:
        raise ValueError(
            f"root: no image (.jpg .png and whatever else PIL reads) in {folder} "
            f"of {first_few([names[c] for c in empty])}; "
            f"passed over: {_counted(passed_over) or 'nothing'}"
        )
    return names, images


def _counted(files: Counter) -> str:
    return first_few([f"{count} {kind}" for kind, count in files.most_common()], 9)


def _walk(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Give each folder below, itself included, and its files; nothing hidden, no folder twice by links."""
    been = set()
    for inside, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(HIDDEN)]
        if (real := os.path.realpath(inside)) in been:
            folders.clear()
            continue
        been.add(real)
        yield inside, sorted(name for name in files if not name.startswith(HIDDEN))


def _split(
    images: list[tuple[str, int]], names: list[str], val_share: float, seed: int
) -> tuple[list, list]:
    """Split off a share of each class."""
    generator, held_out = Generator().manual_seed(seed), set()
    for c, group in groupby(images, key=itemgetter(1)):
        members = list(group)
        if len(members) < 2:
            raise ValueError(
                f"root: class {names[c]} has a single image, {members[0][0]}; "
                "a split needs two or more"
            )
        count = min(max(round(val_share * len(members)), 1), len(members) - 1)
        held_out |= {
            members[k] for k in torch.randperm(len(members), generator=generator)[:count].tolist()
        }
    kept = [image for image in images if image not in held_out]
    return kept, [image for image in images if image in held_out]


def paths(images: list[tuple[str, int]]) -> list[str]:
    return [path for path, _ in images]


@dataclass(frozen=True)
class FolderCheck:
    """What the first look at all files found."""

    bad: dict[str, str]  # file that cannot be read -> what is wrong
    mean: tuple[float, ...]  # of the training images in [0, 1]
    std: tuple[float, ...]
    fingerprint: (
        str  # of names, sizes and times of change of all files, and the size they are cropped to
    )
    odd: list[str]  # what ``odd_pixels`` says of them


def check_files(
    files: FolderFiles, size: int, *, workers: int | None = None, path: str | Path | None = None
) -> FolderCheck:
    """Decode every file once, by several processes, and keep nothing of it but the ``FolderCheck``.

    Args:
        files: of ``scan_folder``.
        size: of the centre crops that mean and deviation are taken of, in pixels.
        workers: processes; None: one for each core, at most 16.
        path: JSON file to keep the result in. If it holds that of the very same files, it is read instead.
    """
    fingerprint = _fingerprint(files, size)
    if path and Path(path).exists():
        stored = read_json(path)
        if stored.get("fingerprint") == fingerprint:
            std = tuple(
                value or 1.0 for value in stored["std"]
            )  # earlier versions wrote 0, and no oddities
            return FolderCheck(
                stored["bad"], tuple(stored["mean"]), std, fingerprint, stored.get("odd", [])
            )
    seen, bad, counts = [Seen(), Seen()], {}, []
    for split, part in zip((files.train, files.test), seen, strict=True):
        _, part_counts, part_bad = decode_all(
            files.root, paths(split), size, workers, keep=False, seen=part
        )
        counts.append(part_counts)
        bad |= part_bad
    names = [
        [file for file in paths(split) if file not in bad] for split in (files.train, files.test)
    ]
    check = FolderCheck(bad, *mean_and_std(counts[0]), fingerprint, odd_pixels(*seen, *names))
    if path:
        write_json(path, asdict(check))
    return check


def _fingerprint(files: FolderFiles, size: int) -> str:
    digest = hashlib.sha256(f"{size}\n".encode())
    for split, images in (("train", files.train), ("test", files.test)):
        for name, _ in images:
            path = files.root / name
            stat = path.stat() if path.exists() else os.lstat(path)  # a link may lead nowhere
            digest.update(f"{split} {name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


@dataset("folder")
def load_folder(
    root: str | Path | None,
    config,
    check_path: str | Path | None = None,
    workers: int | None = None,
) -> Dataset:
    """Load a folder of images, RGB and square, as a configuration asks for it.

    Resident images are uint8 tensors of centre crops; streamed ones ``ImageFiles``. Every file is decoded
    once here, to find those that cannot be read, and the training images' mean and deviation. Test images
    come in an order that does not depend on their classes, so that the first few stand for all.

    Args:
        root: the folder (``scan_folder``).
        config: ``image_size``, ``val_share``, ``resident``, ``distributions`` and ``on_bad_image``.
        check_path: file that keeps what the first look at streamed images found, for the next time.
        workers: processes that decode; None: one for each core, at most 16.

    Raises:
        ValueError: no folder is given, it is not as it must be, or files cannot be read.
    """
    if not root:
        raise ValueError("data_root: dataset folder needs the folder of the images")
    size, workers = config.image_size, resolve_workers(workers)
    files, soft = scan_folder(root, val_share=config.val_share).with_shuffled_test(), None
    if config.distributions:
        soft = read_distributions(
            config.distributions, paths(files.train), files.class_names, others=paths(files.test)
        )
    fits = len(files) * 3 * size**2 <= RESIDENT_BYTES
    if config.resident == "always" or (config.resident == "auto" and fits):
        train, counts, bad = decode_all(files.root, paths(files.train), size, workers, keep=True)
        test, _, bad_test = decode_all(files.root, paths(files.test), size, workers, keep=True)
        bad, mean_std = bad | bad_test, mean_and_std(counts)
        kept = _without_bad(files, bad, config.on_bad_image)
    else:
        check = check_files(files, size, workers=workers, path=check_path)
        bad, mean_std = check.bad, (check.mean, check.std)
        kept = _without_bad(files, bad, config.on_bad_image)
        warn_of(f"{files.root}", check.odd)
        train, test = (
            ImageFiles(files.root, paths(split), size, workers=workers)
            for split in (kept.train, kept.test)
        )
    if soft is not None:
        soft = soft[[file not in bad for file, _ in files.train]]
    train_labels, test_labels = (
        torch.tensor([c for _, c in split]) for split in (kept.train, kept.test)
    )
    return Dataset(
        "folder",
        train,
        train_labels,
        test,
        test_labels,
        kept.class_names,
        *mean_std,
        soft,
        train_files=tuple(paths(kept.train)),
        skipped=tuple(bad),
        test_files=tuple(paths(kept.test)),
    )


def _without_bad(files: FolderFiles, bad: dict[str, str], on_bad_image: str) -> FolderFiles:
    """Leave out the files that cannot be read, with a warning, or raise ValueError."""
    if not bad:
        return files
    named = first_few([f"{file} ({what})" for file, what in bad.items()])
    which = f"{len(bad)} of {len(files)} images in {files.root} cannot be read: {named}"
    if on_bad_image == "stop":
        raise ValueError(
            f'root: {which}; mend or delete them, or leave them out with on_bad_image="skip"'
        )
    warnings.warn(f"left out: {which}", stacklevel=4)
    return files.without(bad)
