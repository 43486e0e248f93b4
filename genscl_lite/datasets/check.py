"""Is a data set fit to train on? What is wrong stops a run before its first step; what is odd is told.

All looks at a data set stand here, for folders and for a ``Dataset`` of your own alike.
"""

import hashlib
import math
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from genscl_lite._checks import check_labels
from genscl_lite.datasets.distributions import first_few
from genscl_lite.datasets.images import ImageFiles


def check_data(data) -> None:
    """Raise ValueError where a ``Dataset`` cannot be trained on: labels, shapes, mean and deviation."""
    classes = len(data.class_names)
    if classes < 2:
        raise ValueError(f"class_names: expected two or more, got {classes}")
    for split in ("train", "test"):
        images, labels = getattr(data, f"{split}_images"), getattr(data, f"{split}_labels")
        _check_images(f"{split}_images", images, data.train_images)
        _check_class_numbers(f"{split}_labels", labels, len(images), classes)
    for name in ("mean", "std"):
        values, channels = (
            [float(value) for value in getattr(data, name)],
            data.train_images.shape[1],
        )
        if len(values) not in (1, channels) or not all(map(math.isfinite, values)):
            raise ValueError(
                f"{name}: expected a number for each of {channels} channels, got {values}"
            )
        if name == "std" and min(values) <= 0:
            raise ValueError(
                f"std: expected numbers above 0 (for a constant channel 1), got {values}"
            )
    if data.train_distributions is not None:
        _check_distributions(
            "train_distributions", data.train_distributions, len(data.train_labels), classes
        )


def _check_distributions(name: str, soft: Tensor, rows: int, classes: int) -> None:
    if soft.ndim != 2 or soft.shape[1] != classes:
        raise ValueError(f"{name}: expected shape ({rows}, {classes}), got {tuple(soft.shape)}")
    check_labels(name, soft, rows)


def _check_images(name: str, images, train_images) -> None:
    if not isinstance(images, Tensor | ImageFiles):
        raise ValueError(f"{name}: expected a tensor, got {type(images).__name__}")
    floating = isinstance(images, Tensor) and images.is_floating_point()
    if len(images.shape) != 4 or not (floating or images.dtype == torch.uint8):
        raise ValueError(
            f"{name}: expected uint8 of shape (N, channels, height, width), "
            f"got {images.dtype} of shape {tuple(images.shape)}"
        )
    if not len(images) or images.shape[1:] != train_images.shape[1:]:
        raise ValueError(
            f"{name}: expected one or more of the shape of train_images, "
            f"{tuple(train_images.shape[1:])}, got {tuple(images.shape)}"
        )
    if floating:
        least, most = (float(value) for value in images.aminmax())
        if not (least >= 0 and most <= 1):  # so that NaN fails too
            raise ValueError(
                f"{name}: expected uint8, or floating point from 0 to 1, "
                f"got {least:.4g} to {most:.4g}"
            )


def _check_class_numbers(name: str, labels, images: int, classes: int) -> None:
    if not isinstance(labels, Tensor) or labels.shape != (images,) or labels.dtype != torch.int64:
        got = (
            f"{labels.dtype} of shape {tuple(labels.shape)}"
            if isinstance(labels, Tensor)
            else type(labels).__name__
        )
        raise ValueError(
            f"{name}: expected a tensor of integers of shape ({images},), a class number for "
            f"each image, got {got}"
        )
    wrong = labels[(labels < 0) | (labels >= classes)]
    if not len(wrong):
        return
    hint = ""
    if wrong.min() < 0:
        hint = (
            "; leave unlabelled images out, or train the row simclr, whose loss asks for no labels, "
            "with any class number for them"
        )
    elif labels.min() == 1 and labels.max() == classes:
        hint = "; subtract 1"
    raise ValueError(
        f"{name}: expected class numbers from 0 to {classes - 1}, got {int(wrong[0])} "
        f"({len(wrong)} of {images} are outside){hint}"
    )


class Seen:
    """What is remembered of images that were looked at: a hash of each, and what is the same all over."""

    def __init__(self):
        self.hashes: list[bytes] = []
        self.plain: list[int] = []  # images of a single colour
        self.constant: dict[int, Tensor] | None = (
            None  # channel -> its value, where it has one alone so far
        )

    @classmethod
    def of(cls, images: Tensor) -> "Seen":
        seen = cls()
        for part in images.split(1000):
            seen.add(part.cpu())
        return seen

    def add(self, images: Tensor) -> None:
        """Look at (n, channels, H, W) images, in the order of a split."""
        if not len(images):
            return
        if self.constant is None:
            self.constant = dict(enumerate(images[0, :, 0, 0]))
        self.constant = {
            c: value for c, value in self.constant.items() if (images[:, c] == value).all()
        }
        first = images[:, :, :1, :1]
        may_be = (
            (images[:, :, -1:, -1:] == first).flatten(1).all(dim=1).nonzero()[:, 0]
        )  # few need a look
        plain = may_be[(images[may_be] == first[may_be]).flatten(1).all(dim=1)]
        self.plain += (plain + len(self.hashes)).tolist()
        rows = images.contiguous().flatten(1).view(torch.uint8).numpy()
        self.hashes += [hashlib.blake2b(row, digest_size=16).digest() for row in rows]


def odd_pixels(
    train: Seen, test: Seen, train_names: Sequence[str], test_names: Sequence[str]
) -> list[str]:
    """Say what is odd about the images of a data set, one text for each oddity; the names are the images'."""
    first = {}
    for i, known in enumerate(train.hashes):
        first.setdefault(known, i)
    twins = [
        f"{test_names[j]} = {train_names[first[known]]}"
        for j, known in enumerate(test.hashes)
        if known in first
    ]
    plain = [train_names[i] for i in train.plain] + [test_names[j] for j in test.plain]
    notes = []
    if twins:
        notes.append(
            f"{len(twins)} of {len(test.hashes)} images to test with are among those to train with: "
            f"{first_few(twins, 3)}"
        )
    if plain:
        notes.append(f"{len(plain)} images are of a single colour: {first_few(plain, 3)}")
    if train.constant:
        which = first_few([*map(str, train.constant)])
        notes.append(f"channel {which}: the same value in all images to train with")
    return notes


def odd_things(data) -> list[str]:
    """Say what is odd about a ``Dataset``: classes without images, and what its pixels show.

    Images in files were looked at when they were decoded for the first time (``check_files``).
    """
    notes = []
    for split in ("train", "test"):
        counts = getattr(data, f"{split}_labels").cpu().bincount(minlength=data.num_classes)
        missing = [str(data.class_names[c]) for c in (counts == 0).nonzero()[:, 0].tolist()]
        if missing:
            notes.append(
                f"no image to {split} with of {len(missing)} classes: {first_few(missing)}"
            )
    if isinstance(data.train_images, Tensor) and isinstance(data.test_images, Tensor):
        train = data.train_files or [f"train {i}" for i in range(len(data.train_images))]
        test = data.test_files or [f"test {j}" for j in range(len(data.test_images))]
        notes += odd_pixels(Seen.of(data.train_images), Seen.of(data.test_images), train, test)
    return notes


def warn_of(name: str, notes: Sequence[str]) -> None:
    """Warn, in one line, of what is odd; of nothing where nothing is."""
    if notes:
        warnings.warn(f"{name}: {'; '.join(notes)}", stacklevel=3)
