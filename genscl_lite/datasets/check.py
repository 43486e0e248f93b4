"""Is a data set fit to train on? Errors stop a run before its first step; oddities are reported as warnings.

All looks at a data set stand here, for folders and for a ``Dataset`` of your own alike.
"""

import math
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from genscl_lite._checks import check_labels
from genscl_lite.datasets.images import ImageFiles
from genscl_lite.datasets.labels import first_few
from genscl_lite.datasets.seen import Seen


def check_data(data) -> None:
    """Raise ValueError if a ``Dataset`` cannot be trained on: labels, shapes, mean and deviation."""
    classes = len(data.class_names)
    if classes < 2:
        raise ValueError(f"class_names: expected two or more, got {classes}")
    if len({*data.class_names}) < classes:
        raise ValueError(f"class_names: expected each once, got {first_few(data.class_names)}")
    for split in ("train", "test"):
        images, labels = getattr(data, f"{split}_images"), getattr(data, f"{split}_labels")
        if not isinstance(images, Tensor | ImageFiles):
            raise ValueError(f"{split}_images: expected a tensor, got {type(images).__name__}")
        check_images(f"{split}_images", images, data.train_images.shape[1:])
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


def check_images(name: str, images: Tensor | ImageFiles, shape: Sequence[int]) -> None:
    """Raise ValueError unless there are images of this shape, uint8 or floating point in [0, 1]."""
    floating = isinstance(images, Tensor) and images.is_floating_point()
    if len(images.shape) != 4 or not (floating or images.dtype == torch.uint8):
        raise ValueError(
            f"{name}: expected uint8, or floating point, of shape (N, channels, height, width), "
            f"got {images.dtype} of shape {tuple(images.shape)}"
        )
    if not len(images) or tuple(images.shape[1:]) != tuple(shape):
        raise ValueError(
            f"{name}: expected one or more of shape {tuple(shape)}, got {tuple(images.shape)}"
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
            "; leave unlabeled images out, or train the row simclr, whose loss asks for no labels, "
            "with any class number for them"
        )
    elif labels.min() == 1 and labels.max() == classes:
        hint = "; subtract 1"
    raise ValueError(
        f"{name}: expected class numbers from 0 to {classes - 1}, got {int(wrong[0])} "
        f"({len(wrong)} of {images} are outside){hint}"
    )


def odd_pixels(
    train: Seen,
    test: Seen,
    train_names: Sequence[str],
    test_names: Sequence[str],
    train_labels: Sequence[int],
    test_labels: Sequence[int],
) -> list[str]:
    """Return the oddities of a data set's images, a text for each; the names are those of the images."""
    first, notes = {}, []
    for i, known in enumerate(train.hashes):
        first.setdefault(known, i)
    twice = [(i, first[known]) for i, known in enumerate(train.hashes) if first[known] != i]
    both = [(j, first[known]) for j, known in enumerate(test.hashes) if known in first]
    pairs = {
        "images to test with are among those to train with": [
            f"{test_names[j]} = {train_names[i]}" for j, i in both
        ],
        "images to train with are there twice": [
            f"{train_names[j]} = {train_names[i]}" for j, i in twice
        ],
        "images have copies of another class": [
            *(
                f"{test_names[j]} = {train_names[i]}"
                for j, i in both
                if test_labels[j] != train_labels[i]
            ),
            *(
                f"{train_names[j]} = {train_names[i]}"
                for j, i in twice
                if train_labels[j] != train_labels[i]
            ),
        ],
    }
    for what, names in pairs.items():
        if names:
            of = f" of {len(test.hashes)}" if "to test" in what else ""
            notes.append(f"{len(names)}{of} {what}: {first_few(names, 3)}")
    plain = [train_names[i] for i in train.plain] + [test_names[j] for j in test.plain]
    if plain:
        notes.append(f"{len(plain)} images are of a single color: {first_few(plain, 3)}")
    if train.constant_channels:
        which = first_few([*map(str, train.constant_channels)])
        notes.append(f"channel {which}: the same value in all images to train with")
    return notes


SMALL_PART = 1 / 8
"""Of the range of values: a file that uses less is named."""


def odd_files(
    files: Sequence[str],
    glances: pd.DataFrame,
    intensity: tuple[float, float] | None,
    asked: bool,
) -> list[str]:
    """Return the oddities of files, by a ``Glance`` of each: pages, and values that are few or cut off.

    ``asked``: ``intensity`` was given by the caller, not found in the files.
    """
    notes, deep = [], (glances.kind != "uint8").to_numpy()
    low, high = intensity or (0, 255)
    pages, lows, highs = (glances[name].to_numpy() for name in ("pages", "low", "high"))

    def note(which: np.ndarray, what: str, detail: Callable[[int], str]) -> None:
        rows = which.nonzero()[0]
        if len(rows):
            named = first_few([f"{files[k]} ({detail(k)})" for k in rows[:4]], 3)
            more = f" and {len(rows) - 3} more" if len(rows) > 3 else ""
            notes.append(f"{len(rows)} files {what}: {named.partition(' and ')[0]}{more}")

    def values(k: int) -> str:
        return f"{lows[k]:g} to {highs[k]:g}"

    note(pages > 1, "have several pages, of which the first is used", lambda k: f"{pages[k]} pages")
    if deep.any() and not asked and (low, high) != (0, 65535):
        notes.append(
            f"{deep.sum()} files have more than 8 bits, with values from {lows[deep].min():g} to "
            f"{highs[deep].max():g}: {low:g} becomes black and {high:g} white, unless intensity is set"
        )
    span, used = np.where(deep, high - low, 255), highs - lows
    small = (0 < used) & (used < span * SMALL_PART)
    note(small, f"use a small part of the range ({low:g} to {high:g})", values)
    if asked:
        outside = deep & ((lows < low) | (highs > high))
        note(outside, f"have values outside intensity={low:g},{high:g}, which are cut off", values)
    return notes


def describe_files(glances: pd.DataFrame, intensity: tuple[float, float] | None) -> list[str]:
    """Return a line on the type of values in files, and their range."""
    parts = []
    for kind, part in glances.groupby("kind"):
        to = "" if kind == "uint8" else f", {intensity[0]:g} black, {intensity[1]:g} white"
        parts.append(f"{kind} in {len(part)} files, {part.low.min():g} to {part.high.max():g}{to}")
    return [f"pixels   {'; '.join(parts)}"]


def odd_things(data) -> list[str]:
    """Return the oddities of a ``Dataset``: classes with no image or, unlike others, a single one, and those of its pixels.

    Pixels are looked at here only if its loader has not done so (``Dataset.odd``).
    """
    notes = []
    for split in ("train", "test"):
        counts = getattr(data, f"{split}_labels").cpu().bincount(minlength=data.num_classes)
        missing = [str(data.class_names[c]) for c in (counts == 0).nonzero()[:, 0].tolist()]
        if missing:
            notes.append(
                f"no image to {split} with of {len(missing)} classes: {first_few(missing)}"
            )
        single = [str(data.class_names[c]) for c in (counts == 1).nonzero()[:, 0].tolist()]
        if single and split == "train" and counts.max() > 1:
            notes.append(f"one image to train with of {len(single)} classes: {first_few(single)}")
    if data.odd is not None:
        return notes + [*data.odd]
    images, labels = (data.train_images, data.test_images), (data.train_labels, data.test_labels)
    if all(isinstance(part, Tensor) for part in images):
        train = data.train_files or [f"train {i}" for i in range(len(data.train_images))]
        test = data.test_files or [f"test {j}" for j in range(len(data.test_images))]
        seen = map(Seen.of, images)
        notes += odd_pixels(*seen, train, test, *(part.tolist() for part in labels))
    return notes


def warn_of(name: str, notes: Sequence[str]) -> None:
    """Report oddities, if there are any, as one warning of one line."""
    if notes:
        warnings.warn(f"{name}: {'; '.join(notes)}", stacklevel=3)
