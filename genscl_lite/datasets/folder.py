"""A folder of your own images: in memory if it fits, else decoded as they are needed."""

import hashlib
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from genscl_lite.datasets.check import describe_files, odd_files, odd_pixels
from genscl_lite.datasets.depth import parse_intensity
from genscl_lite.datasets.files import as_path, read_json, write_json
from genscl_lite.datasets.first_look import FirstLook, first_look
from genscl_lite.datasets.images import ImageFiles
from genscl_lite.datasets.labels import first_few, read_table
from genscl_lite.datasets.listing import Listing, list_files
from genscl_lite.datasets.registry import Dataset, dataset
from genscl_lite.datasets.seen import mean_and_std_of
from genscl_lite.datasets.splits import FolderFiles, paths, split_files

RESIDENT_BYTES = 4 * 2**30
"""Up to so many bytes of pixels, both splits together, resident="auto" keeps images in memory."""


@dataclass(frozen=True)
class FolderCheck:
    """What the first look at all files found."""

    bad: dict[str, str]  # file that cannot be read -> what is wrong
    intensity: tuple[float, float] | None  # black and white of pixels with more than 8 bits
    mean: tuple[float, ...]  # of the training images in [0, 1]
    std: tuple[float, ...]
    found: tuple[str, ...]  # what the files hold
    odd: tuple[str, ...]  # what is odd about them
    fingerprint: str  # of all that this depends on


def find_files(root: str | Path | None, config) -> FolderFiles:
    """Return which files a configuration trains and tests with, before any is opened; errors as ``load_folder``."""
    table = read_table(config.labels) if config.labels else None
    return _split(list_files(root, table), config, table)


def _split(listing: Listing, config, table) -> FolderFiles:
    soft = table is not None and bool(table.classes)
    return split_files(
        listing, config.val_share, on_small_class=config.on_small_class, soft=soft
    ).with_shuffled_test()


@dataset("folder")
def load_folder(
    root: str | Path | None,
    config,
    check_path: str | Path | None = None,
    workers: int | None = None,
) -> Dataset:
    """Load a folder of images, RGB and square, as a configuration asks for it.

    Resident images are uint8 tensors of center crops; streamed ones ``ImageFiles``. Every file is decoded
    once here; those that cannot be read are known before the split is made. Test images come in an order
    that does not depend on their classes, so that the first few stand for all.

    Args:
        root: the folder.
        config: ``image_size``, ``labels``, ``val_share``, ``intensity``, ``pages``, ``resident``, ``on_bad_image``
            and ``on_small_class``.
        check_path: file that keeps what the first look at streamed images found, for the next time.
        workers: processes that decode; None: one for each core, at most 16.

    Raises:
        ValueError: no folder is given, it or the CSV is not as it must be, or files cannot be read.
    """
    table = read_table(config.labels) if config.labels else None
    listing = list_files(root, table)
    files = _split(listing, config, table)
    pixels = len(files) * 3 * config.image_size**2
    resident = config.resident == "always" or (
        config.resident == "auto" and pixels <= RESIDENT_BYTES
    )
    fingerprint, look = _fingerprint(files, config), None
    check = None if resident else _read_check(check_path, fingerprint)
    if check is None:
        look = first_look(
            files.root,
            paths(files.train + files.test),
            config.image_size,
            workers=workers,
            keep=resident,
            intensity=parse_intensity(config.intensity),
            pages=config.pages,
        )
    if look and config.intensity and not look.intensity:
        raise ValueError(
            f"intensity: {config.intensity} is about files with more than 8 bits, and there are none"
        )
    if bad := look.bad if look else check.bad:
        _stop_or_warn(files, bad, config.on_bad_image)
        listing = listing.without(bad)
        files = _split(listing, config, table)
    if check is None:
        check = _conclude(look, listing, files, config, fingerprint)
        if check_path and not resident:
            write_json(check_path, asdict(check))
    soft = None
    if table is not None and table.classes:
        everything = [*listing.table.path, *bad]
        soft = table.distributions(paths(files.train), files.class_names, everything)
    if resident:
        train, test = look.crops(paths(files.train)), look.crops(paths(files.test))
    else:
        options = {"workers": workers, "intensity": check.intensity}
        train, test = (
            ImageFiles(files.root, paths(split), config.image_size, **options)
            for split in (files.train, files.test)
        )
    train_labels, test_labels = (
        torch.tensor([c for _, c in split]) for split in (files.train, files.test)
    )
    return Dataset(
        "folder",
        train,
        train_labels,
        test,
        test_labels,
        files.class_names,
        check.mean,
        check.std,
        soft,
        train_files=tuple(paths(files.train)),
        test_files=tuple(paths(files.test)),
        intensity=check.intensity,
        found=check.found + (table.found() if table is not None else ()),
        odd=check.odd,
    )


def _stop_or_warn(files: FolderFiles, bad: dict[str, str], on_bad_image: str) -> None:
    """Warn of the files that cannot be read and are left out, or raise ValueError."""
    named = first_few([f"{file} ({what})" for file, what in bad.items()])
    which = f"{len(bad)} of {len(files)} images in {files.root} cannot be read: {named}"
    if on_bad_image == "stop":
        raise ValueError(
            f'root: {which}; mend or delete them, or leave them out with on_bad_image="skip"'
        )
    warnings.warn(f"left out: {which}", stacklevel=4)


def _conclude(
    look: FirstLook, listing: Listing, files: FolderFiles, config, fingerprint: str
) -> FolderCheck:
    """Put together what was found in the files that can be read, now that it is known what they are for."""
    train, test = look.rows(paths(files.train)), look.rows(paths(files.test))
    sums = look.moments[train].sum(dim=0)
    mean, std = mean_and_std_of(sums, len(train) * config.image_size**2)
    names, labels = (
        [[part[i] for part in split] for split in (files.train, files.test)] for i in (0, 1)
    )
    odd = odd_pixels(look.seen[train], look.seen[test], *names, *labels)
    used = look.glances.iloc[train + test]
    odd += odd_files(sum(names, []), used, look.intensity, bool(config.intensity))
    found = describe_files(used, look.intensity)
    if "group" in listing.table:
        group = dict(zip(listing.table.path, listing.table.group, strict=True))
        sides = [{group[file] for file in split} for split in names]
        found.append(f"groups   {len(sides[0])} to train with, {len(sides[1])} to test with")
        if both := sorted(sides[0] & sides[1]):
            odd.append(f"{len(both)} groups are on both sides of the split: {first_few(both, 3)}")
    return FolderCheck(look.bad, look.intensity, mean, std, tuple(found), tuple(odd), fingerprint)


def _fingerprint(files: FolderFiles, config) -> str:
    """Return a hash of names, classes, sizes and times of change of all files, and what they are read for."""
    asked = (config.image_size, config.intensity, config.pages, config.labels)
    digest = hashlib.sha256(repr(asked).encode())
    if config.labels:
        digest.update(as_path(config.labels).read_bytes())
    for split, images in (("train", files.train), ("test", files.test)):
        for name, label in images:
            path = files.root / name
            stat = path.stat() if path.exists() else None  # a link may lead nowhere
            about = (stat.st_size, stat.st_mtime_ns) if stat else None
            digest.update(f"{split} {label} {name} {about}\n".encode())
    return digest.hexdigest()


def _read_check(path: str | Path | None, fingerprint: str) -> FolderCheck | None:
    """Return what is stored of the very same files, or None."""
    if not path or not Path(path).exists():
        return None
    stored = read_json(path)
    if stored.get("fingerprint") != fingerprint:
        return None
    return FolderCheck(
        **{name: tuple(v) if isinstance(v, list) else v for name, v in stored.items()}
    )
