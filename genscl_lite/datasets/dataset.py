"""What a data set is, and the list of those that have a name."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

import torch
from torch import Generator, Tensor

from genscl_lite._checks import require_choice


@dataclass(frozen=True)
class Dataset:
    """Images and labels of one data set.

    Images are uint8 (N, channels, H, W), labels class numbers (N,); ``mean`` and ``std`` are those of the
    training images in [0, 1], for each channel.
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
        there = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return replace(self, **{name: tensor.to(device) for name, tensor in there.items()})


Loader = Callable[[Path | None, object], Dataset]
"""A function of the folder of data and of the configuration, any object with the fields of
``TrainConfig``."""
LOADERS: dict[str, Loader] = {}


def dataset(name: str) -> Callable[[Loader], Loader]:
    """Register the decorated function ``load(root, config) -> Dataset`` as the data set ``name``."""

    def register(load: Loader) -> Loader:
        LOADERS[name] = load
        return load

    return register


def find_loader(name: str) -> Loader:
    """Return the function that loads a data set: a registered one, or the one that "module:function" names.

    Raises:
        ValueError: the name is unknown, the module cannot be imported, or it has no such function.

    >>> find_loader("digit")
    Traceback (most recent call last):
    ValueError: dataset: 'digit' is unknown (did you mean 'digits'?); expected one of digits, cifar10, ...
    """
    module, colon, function = name.partition(":")
    if not colon:
        require_choice("dataset", name, [*LOADERS, "folder", "custom", "module:function"])
        if name not in LOADERS:
            raise ValueError(f"dataset: {name!r} is no data set that can be loaded by this name alone")
        return LOADERS[name]
    try:
        return getattr(import_module(module), function)
    except ImportError as error:
        why = f"the module {module!r}, which cannot be imported: {error}"
        raise ValueError(f"dataset: {name!r} names {why}") from None
    except AttributeError:
        raise ValueError(f"dataset: {name!r} names {function!r}, which {module} does not have") from None


def check_dataset(name: str) -> None:
    """Raise ValueError unless a configuration may name this data set."""
    if name not in ("folder", "custom"):
        find_loader(name)


def few_labels(dataset: Dataset, labels_per_class: int, seed: int) -> Dataset:
    """Keep so many training images of each class, drawn by ``seed``; ValueError where a class has fewer."""
    fewest = int(dataset.train_labels.bincount(minlength=dataset.num_classes).min())
    if not 0 < labels_per_class <= fewest:
        raise ValueError(f"labels_per_class: expected 1 to {fewest} (or 0 for all) of {dataset.name}, "
                         f"got {labels_per_class}")
    order = torch.randperm(len(dataset.train_labels), generator=Generator().manual_seed(seed))
    classes = range(dataset.num_classes)
    kept = torch.cat([order[dataset.train_labels[order] == c][:labels_per_class] for c in classes])
    soft, files = dataset.train_distributions, dataset.train_files
    return replace(
        dataset,
        train_images=dataset.train_images[kept],
        train_labels=dataset.train_labels[kept],
        train_distributions=None if soft is None else soft[kept],
        train_files=tuple(files[i] for i in kept) if files else (),
    )


def value_counts(images: Tensor) -> Tensor:
    """Return how often each of 256 values is in each channel of (N, channels, H, W) uint8 images: (channels,
    256)."""
    return torch.stack([channel.flatten().bincount(minlength=256) for channel in images.unbind(dim=1)])


def mean_and_std(counts: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and deviation of each channel in [0, 1], to 4 digits, from (channels, 256) counts of
    values."""
    values, counts = torch.arange(256, dtype=torch.double) / 255, counts.double()
    pixels = counts.sum(dim=1)
    mean = (counts * values).sum(dim=1) / pixels
    variance = (counts * (values - mean[:, None]) ** 2).sum(dim=1) / (pixels - 1)
    return tuple(round(m, 4) for m in mean.tolist()), tuple(round(s, 4) for s in variance.sqrt().tolist())
