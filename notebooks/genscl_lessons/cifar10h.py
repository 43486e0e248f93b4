"""A data set from outside the kit: CIFAR-10H, what some fifty people each see in CIFAR-10's test images.

    python -m genscl_lessons.cifar10h download              # people's answers, beside CIFAR-10
    genscl reproduce notebooks/guides/cifar10h.yaml         # dataset: genscl_lessons.cifar10h:people
    python -m genscl_lessons.cifar10h compare runs/cifar10h # does a run see as people do?

J. Peterson et al., "Human uncertainty makes classification more robust", ICCV 2019; CC BY-NC-SA 4.0, not for
commercial use: nothing of it is in this project.
"""

import argparse
import hashlib
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy import stats
from torch import Tensor
from torchvision.datasets.utils import download_url

from genscl_lite.datasets import Dataset, files, load_dataset
from genscl_lite.datasets.builtin import data_root
from genscl_lite.datasets.seen import mean_and_std
from genscl_lite.losses import unit_rows
from genscl_lite.runs.tables import run_files
from genscl_lite.runs.trained import Encoder
from genscl_lite.train.evaluate import extract

FILE = "cifar10h-counts.npy"
URL = f"https://raw.githubusercontent.com/jcpeterson/cifar-10h/master/data/{FILE}"
SHA256 = "e3a314fdecb1f8aeb680f50fde8682d83065d5191d8fc76f0bdc86333bd7fefe"
"""Of the counts as little-endian int64."""
HELD_OUT, TESTED = 2000, 10_000
"""So many of the images, the last ones, are kept from training; so many of CIFAR-10's 50,000 are tested on."""


def people(root: str | Path | None, config) -> Dataset:
    """Load 8,000 of CIFAR-10's test images to train with, each with the shares of people's answers.

    The images to test with are the first 10,000 that CIFAR-10 trains with, because people saw the others.
    """
    data = published(root, config)
    shares = shares_of(read_counts(root))[:-HELD_OUT]
    return replace(data, train_distributions=torch.from_numpy(shares).float())


def published(root: str | Path | None, config) -> Dataset:
    """Load the same images with their published class numbers alone."""
    cifar = load_dataset("cifar10", root)
    images = cifar.test_images[:-HELD_OUT]
    mean, std = mean_and_std(images)
    return replace(
        cifar,
        train_images=images,
        train_labels=cifar.test_labels[:-HELD_OUT],
        mean=mean,
        std=std,
        test_images=cifar.train_images[:TESTED],
        test_labels=cifar.train_labels[:TESTED],
    )


def read_counts(root: str | Path | None = None) -> np.ndarray:
    """Return how many people chose each class, int64 (10000, 10); ``root`` as in ``load_dataset``.

    Raises:
        FileNotFoundError: the file is not there.
        ValueError: it holds other values than the published.
    """
    path = data_root(root) / FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"cifar10h: {path} is missing; run `python -m genscl_lessons.cifar10h download`"
        )
    content = path.read_bytes()
    counts = np.load(path) if content.startswith(b"\x93NUMPY") else np.zeros(0)
    if hashlib.sha256(counts.astype("<i8").tobytes()).hexdigest() != SHA256:
        raise ValueError(f"cifar10h: {path} holds other values than the published; delete it")
    return counts.astype(np.int64)


def shares_of(counts: np.ndarray) -> np.ndarray:
    return counts / counts.sum(axis=1, keepdims=True)


def compare(encoder: Encoder, images: Tensor, people: Tensor) -> dict:
    """Return how near a finished run is to people, on images that it has not seen.

    ``features`` and ``outputs`` of the head: ``similarity_correlations``. ``cross_entropy``, in nats, is that of
    its probabilities with people's distributions, which predict themselves with ``entropy``.
    """
    features, outputs = (
        extract(network, encoder.dataset, images)
        for network in (encoder.model.encoder, encoder.model)
    )
    said = encoder.probabilities(images)
    return {
        "images": len(people),
        "features": similarity_correlations(features, people),
        "outputs": similarity_correlations(outputs, people),
        "cross_entropy": float(-torch.special.xlogy(people, said).sum(dim=1).mean()),
        "entropy": float(torch.special.entr(people).sum(dim=1).mean()),
    }


def similarity_correlations(vectors: Tensor, distributions: Tensor) -> dict[str, float | None]:
    """Correlate cosines of N vectors with those of their label distributions, over all pairs of two rows.

    Pairs of one class are alike in both, so ``all`` says mostly that classes are told apart. ``between`` is
    of pairs whose largest classes differ: which dog is a little like which cat, as only soft labels teach.

    Args:
        vectors: (N, D).
        distributions: (N, C).

    Returns:
        Spearman's correlation of ``all`` pairs and of those ``between`` classes, of the latter also Pearson's
        (``between_pearson``); None if there are none, or all are alike.

    >>> soft = torch.tensor([[1.0, 0.0], [0.8, 0.2], [0.2, 0.8], [0.0, 1.0]])
    >>> similarity_correlations(soft, soft)
    {'all': 1.0, 'between': 1.0, 'between_pearson': 1.0}
    """
    one, other = np.triu_indices(len(vectors), k=1)
    latent, label = (cosines(rows)[one, other] for rows in (vectors, distributions))
    largest = distributions.argmax(dim=1).cpu().numpy()
    between = largest[one] != largest[other]
    return {
        "all": correlation(stats.spearmanr, latent, label),
        "between": correlation(stats.spearmanr, latent[between], label[between]),
        "between_pearson": correlation(stats.pearsonr, latent[between], label[between]),
    }


def cosines(rows: Tensor) -> np.ndarray:
    rows = unit_rows(rows, torch.float64).cpu().numpy()
    return (rows @ rows.T).round(9)  # so that equal ones tie


def correlation(function, latent: np.ndarray, label: np.ndarray) -> float | None:
    if len(label) < 2 or not np.ptp(latent) or not np.ptp(label):
        return None
    return round(float(function(latent, label).statistic), 4)


def compare_all(folder: str | Path, root: str | Path | None = None) -> int:
    """Add the field ``people`` to the summary of each finished run in a folder; return how many there are."""
    shares = torch.from_numpy(shares_of(read_counts(root))[-HELD_OUT:]).float()
    images = load_dataset("cifar10", root).test_images[-HELD_OUT:]
    summaries = run_files(folder, "summary.json")
    for *_, path in summaries:
        found = compare(Encoder.load(path.parent, device="cpu"), images, shares)
        files.write_json(path, files.read_json(path) | {"people": found})
    return len(summaries)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m genscl_lessons.cifar10h")
    parser.add_argument("command", choices=["download", "compare"])
    parser.add_argument(
        "runs", nargs="?", default="runs/cifar10h", help="folder of runs to compare"
    )
    parser.add_argument("--root", help="folder of CIFAR-10 and the answers; default: data")
    options = parser.parse_args(arguments)
    try:
        if options.command == "download":
            download_url(URL, data_root(options.root), FILE)
            read_counts(options.root)
        else:
            print(f"{compare_all(options.runs, options.root)} runs compared with people")
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
