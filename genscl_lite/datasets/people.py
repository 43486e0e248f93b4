"""CIFAR-10H: what some fifty people each see in CIFAR-10's test images, as labels to learn from.

J. Peterson et al., "Human uncertainty makes classification more robust", ICCV 2019; CC BY-NC-SA 4.0, not for
commercial use: nothing of it is in this project, ``genscl data cifar10h`` downloads it.
"""

import hashlib
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from genscl_lite.datasets.builtin import DOWNLOADS, cifar, data_root, fetch
from genscl_lite.datasets.files import locked
from genscl_lite.datasets.images import mean_and_std, value_counts
from genscl_lite.datasets.registry import Dataset, dataset

SHAPE = 10_000, 10
"""Images of CIFAR-10's test set, in its order, and classes."""
HELD_OUT, TESTED = 2000, 10_000
"""So many of them, the last ones, are kept from training; so many of CIFAR-10's 50,000 are tested on."""
SHA256 = "e3a314fdecb1f8aeb680f50fde8682d83065d5191d8fc76f0bdc86333bd7fefe"
"""Of the counts as little-endian int64, row by row: whichever file holds them."""
FILES = "cifar10h-counts.npy", "cifar10h.npz"
URLS = (
    "https://raw.githubusercontent.com/jcpeterson/cifar-10h/master/data/cifar10h-counts.npy",
    "https://cdn.jsdelivr.net/gh/jcpeterson/cifar-10h@master/data/cifar10h-counts.npy",
)


@dataset("cifar10h_labels")
@dataset("cifar10h")
def cifar10h(root, config) -> Dataset:
    """Load 8,000 of CIFAR-10's test images to train with, what people see in them, and 2,000 held out.

    The images to test with are the first 10,000 that CIFAR-10 trains with. Class numbers are the published
    ones; as ``cifar10h_labels`` they alone are learned from, and all else is the same.
    """
    counts = read_counts(find_counts(root))
    whole = cifar(root, SimpleNamespace(dataset="cifar10"))
    people = torch.from_numpy(counts / counts.sum(axis=1, keepdims=True)).float()
    kept = len(people) - HELD_OUT
    images, labels = whole.test_images[:kept], whole.test_labels[:kept]
    mean, std = mean_and_std(value_counts(images))
    return replace(
        whole,
        train_images=images,
        train_labels=labels,
        mean=mean,
        std=std,
        test_images=whole.train_images[:TESTED],
        test_labels=whole.train_labels[:TESTED],
        train_distributions=people[:kept] if config.dataset == "cifar10h" else None,
        held_out_images=whole.test_images[kept:],
        held_out_distributions=people[kept:],
    )


def find_counts(root: str | Path | None = None) -> Path:
    """Return the file of counts below ``root``, as in ``load_dataset``; FileNotFoundError says what to do."""
    root = data_root(root)
    for path in (root / name for name in FILES):
        if path.is_file():
            return path
    raise FileNotFoundError(
        f"cifar10h: {root / FILES[0]} is missing; run `genscl data cifar10h "
        f"--root {root}`, or put it or {FILES[1]} there"
    )


def read_counts(path: str | Path) -> np.ndarray:
    """Return int64 (images, classes): how many people chose each class; from .npy, or ``counts`` of .npz.

    Raises:
        ValueError: it is no such file or array, an image has no votes, or the values are not the published.
    """
    where, counts = f"cifar10h: {path}", None
    try:
        counts = np.load(path, allow_pickle=False)
        if not isinstance(counts, np.ndarray):
            with counts as archive:
                counts = archive["counts"]
    except (ValueError, KeyError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"{where}: holds no counts ({' '.join(str(error).split())})") from None
    if counts.shape != SHAPE or counts.dtype.kind not in "iuf":
        raise ValueError(
            f"{where}: expected counts of shape {SHAPE}, got {counts.dtype} of {counts.shape}"
        )
    votes = counts.sum(axis=1)
    if not votes.all():
        raise ValueError(f"{where}: nobody chose a class of image {int(votes.argmin())}")
    sha256 = hashlib.sha256(counts.astype("<i8").tobytes()).hexdigest()
    if sha256 != SHA256:
        hint = (
            "; these are probabilities, the file of counts is asked for"
            if np.allclose(votes, 1)
            else ""
        )
        raise ValueError(f"{where}: other values (sha256 {sha256}, expected {SHA256}){hint}")
    return counts.astype(np.int64)


def download_counts(root: str | Path | None = None, urls: Sequence[str] | None = None) -> Path:
    """Download the counts, unless right ones are there, to ``root`` as in ``load_dataset``; return the file.

    Raises:
        ConnectionError: no address of ``urls`` (default: ``URLS``) gave them; the message lists each failure.
    """
    root = data_root(root)
    with locked(root):
        try:
            path = find_counts(root)
            read_counts(path)
        except (FileNotFoundError, ValueError):
            path = root / FILES[0]
            fetch("cifar10h", path, urls or URLS, check=read_counts)
    return path


DOWNLOADS["cifar10h"] = download_counts
