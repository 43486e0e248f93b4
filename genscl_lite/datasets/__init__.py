"""Images and labels: real handwritten digits (offline), CIFAR-10 and CIFAR-100, folders of images, data sets
of your own."""

from genscl_lite._checks import require_packages

PACKAGES = ("numpy", "torchvision", "pandas", "sklearn", "filelock", "safetensors", "yaml")
require_packages("train", *PACKAGES)  # said before the imports below fail

from dataclasses import replace
from pathlib import Path

from genscl_lite.datasets import builtin as builtin  # registers its data sets
from genscl_lite.datasets.dataset import Dataset, check_dataset, dataset, few_labels, find_loader
from genscl_lite.datasets.folder import load_folder

__all__ = ["Dataset", "check_dataset", "dataset", "few_labels", "load_data", "load_dataset"]


def load_dataset(
    name: str, root: str | Path | None = None, labels_per_class: int = 0, seed: int = 0
) -> Dataset:
    """Load a data set by its name.

    Args:
        name: "digits", "cifar10", "cifar100", or another that ``dataset`` has registered.
        root: folder of CIFAR's files; default: $GENSCL_DATA, or ``data`` in the current folder.
        labels_per_class: keep so many training images of each class, drawn by ``seed``; 0 keeps all.
        seed: which training images are kept. The test images are always the same.

    Raises:
        ValueError: the name is unknown, or there are not so many images of a class.
        FileNotFoundError: CIFAR is not there, or a file of it is damaged; the message says which and what to
        do.

    >>> digits = load_dataset("digits", labels_per_class=10)
    >>> digits.train_images.shape, len(digits.test_labels)
    (torch.Size([100, 1, 8, 8]), 797)
    """
    images = find_loader(name)(root, None)
    return few_labels(images, labels_per_class, seed) if labels_per_class else images


def load_data(config, root: str | Path | None = None, check_path: str | Path | None = None) -> Dataset:
    """Load the data set that a configuration names, with as many labels as it asks for.

    Args:
        config: a ``TrainConfig``: ``dataset`` and what belongs to it.
        root: the folder of images, or of CIFAR's files.
        check_path: of a folder: file that keeps what the first pass over its images found (``check_files``).

    Raises:
        ValueError, FileNotFoundError: as ``load_dataset`` and ``load_image_folder``; or no folder is given,
            or a function of your own returns no ``Dataset``.
    """
    if config.dataset == "folder":
        images = load_folder(root, config, check_path)
    else:
        images = find_loader(config.dataset)(root, config)
        if not isinstance(images, Dataset):
            raise ValueError(f"dataset: {config.dataset} gave {type(images).__name__}, expected a Dataset")
        images = replace(images, name=config.dataset)
    return few_labels(images, config.labels_per_class, config.seed) if config.labels_per_class else images
