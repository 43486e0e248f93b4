"""What a data set is, those that have a name, and how the one that a configuration names is loaded."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import Generator, Tensor

from genscl_lite._checks import require_choice
from genscl_lite.datasets.check import check_data
from genscl_lite.datasets.imports import import_function, names_a_function, one_line
from genscl_lite.datasets.labels import first_few


@dataclass(frozen=True)
class Dataset:
    """Images and labels of one data set.

    Images are (N, channels, H, W), uint8 or floating point in [0, 1], labels class numbers (N,); ``mean`` and
    ``std`` are those of the training images in [0, 1], for each channel, or one number for all.
    """

    name: str
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    train_distributions: Tensor | None = (
        None  # (N, C), where there are any beside the class numbers
    )
    train_files: tuple[str, ...] = ()  # of a folder: the training images' paths
    test_files: tuple[str, ...] = ()  # of a folder: the test images' paths
    intensity: tuple[float, float] | None = None  # of files: black and white of more than 8 bits
    found: tuple[str, ...] = ()  # of files: what they hold, a line each
    odd: tuple[str, ...] | None = None  # about its pixels; None: nobody has looked at them yet

    def __post_init__(self):
        object.__setattr__(self, "class_names", tuple(map(str, self.class_names)))
        for name in ("mean", "std"):  # numbers of Python, whatever they were computed with
            object.__setattr__(self, name, tuple(np.ravel(getattr(self, name)).tolist()))
        for name in (
            "train_labels",
            "test_labels",
        ):  # class numbers of any size, but true and false are none
            labels = getattr(self, name)
            if isinstance(labels, Tensor) and not (
                labels.is_floating_point() or labels.dtype == torch.bool
            ):
                object.__setattr__(self, name, labels.long())

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return tuple(self.train_images.shape[1:])

    @property
    def sides(self) -> tuple[str, str]:
        """Hashes of what trains and of what tests: labels in their order and, of a folder, names of files."""
        train = (self.train_labels, self.train_distributions), self.train_files
        test = (self.test_labels,), self.test_files
        return _hash(*train), _hash(*test)

    def normalize(self, images: Tensor) -> Tensor:
        """Bring images in [0, 1] to mean 0 and deviation 1 of the training set."""
        mean, std = (
            torch.tensor(v, device=images.device).reshape(-1, 1, 1) for v in (self.mean, self.std)
        )
        return (images - mean) / std

    def to(self, device: torch.device | str) -> "Dataset":
        """Put all images and labels on a device, where they stay."""
        names = (
            "train_images",
            "train_labels",
            "test_images",
            "test_labels",
            "train_distributions",
        )
        there = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return replace(self, **{name: tensor.to(device) for name, tensor in there.items()})


def _hash(tensors: tuple[Tensor | None, ...], names: tuple[str, ...]) -> str:
    digest = hashlib.sha256(repr(names).encode())
    for tensor in tensors:
        if tensor is not None:
            whole = tensor.float() if tensor.is_floating_point() else tensor
            digest.update(whole.cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


LOADERS: dict[str, Callable[..., Dataset]] = {}


def dataset(name: str) -> Callable:
    """Register the decorated function ``load(root, config) -> Dataset`` as the data set ``name``.

    ``root`` is a folder or None, ``config`` any object with the fields of ``TrainConfig``.
    """

    def register(load: Callable[..., Dataset]) -> Callable[..., Dataset]:
        LOADERS[name] = load
        return load

    return register


def check_dataset(name: str) -> None:
    """Raise ValueError unless a configuration may name this data set. No module is imported."""
    if not names_a_function(name):
        require_choice("dataset", name, [*LOADERS, "custom", "module:function"])


def find_loader(name: str) -> Callable[..., Dataset]:
    """Return the function that loads a data set: the one registered, or the one that "module:function" names.

    Raises:
        ValueError: the name is unknown, the module cannot be imported, or it has no such function.

    >>> find_loader("digit")
    Traceback (most recent call last):
    ValueError: dataset: 'digit' is unknown (did you mean 'digits'?); expected one of digits, ...
    """
    check_dataset(name)
    if name == "custom":
        raise ValueError("dataset: 'custom' is a Dataset of your own; it cannot be loaded by name")
    if name in LOADERS:
        return LOADERS[name]
    return import_function("dataset", name)


def load_dataset(
    name: str, root: str | Path | None = None, labels_per_class: int = 0, seed: int = 0
) -> Dataset:
    """Load a data set that needs no more than its name.

    Args:
        name: "digits", "cifar10", "cifar100", or one of your own (``dataset``).
        root: folder of CIFAR's files; default: $GENSCL_DATA, or ``data`` in the current folder.
        labels_per_class: keep so many training images of each class, drawn by ``seed``; 0 keeps all.
        seed: which training images are kept. The test images are always the same.

    Raises:
        ValueError: the name is unknown, or there are not so many images of a class.
        FileNotFoundError: a file of CIFAR is missing or damaged; the message says which and what to do.

    >>> digits = load_dataset("digits", labels_per_class=10)
    >>> digits.train_images.shape, len(digits.test_labels)
    (torch.Size([100, 1, 8, 8]), 797)
    """
    if name == "folder":
        raise ValueError("dataset: 'folder' needs more than a name; give load_data a TrainConfig")
    return load_data(
        SimpleNamespace(dataset=name, labels_per_class=labels_per_class, seed=seed), root
    )


def load_data(
    config, root: str | Path | None = None, check_path: str | Path | None = None
) -> Dataset:
    """Load the data set that a configuration names, with as many labels as it asks for.

    Args:
        config: a ``TrainConfig``, or any object with those of its fields that the data set needs.
        root: the folder of images, or of CIFAR's files.
        check_path: of a folder: file that keeps what the first look at its images found (``FolderCheck``).

    Raises:
        ValueError, FileNotFoundError: as ``load_dataset`` and ``load_folder``; or a function of your own
            returns no ``Dataset``.
    """
    load = find_loader(config.dataset)
    words = (root, config, check_path) if config.dataset == "folder" else (root, config)
    try:
        data = load(*words)
    except (ValueError, OSError, MemoryError):
        raise
    except Exception as error:
        if not names_a_function(config.dataset):
            raise
        raise ValueError(f"dataset: {config.dataset} fails: {one_line(error)}") from error
    if not isinstance(data, Dataset):
        raise ValueError(
            f"dataset: {config.dataset} returned {type(data).__name__}, expected a Dataset"
        )
    data = replace(data, name=config.dataset)
    check_data(data)
    if config.labels_per_class:
        few = getattr(config, "on_small_class", "stop")
        data = few_labels(data, config.labels_per_class, config.seed, few)
    noise = getattr(config, "label_noise", 0.0)
    return wrong_labels(data, noise, config.seed) if noise else data


def few_labels(
    data: Dataset, labels_per_class: int, seed: int, on_small_class: str = "stop"
) -> Dataset:
    """Keep so many training images of each class, drawn by ``seed``.

    Raises:
        ValueError: a class has fewer, and ``on_small_class`` is not "take", which keeps all that it has.
    """
    counts = data.train_labels.bincount(minlength=data.num_classes).tolist()
    small = [f"{data.class_names[c]}: {n}" for c, n in enumerate(counts) if n < labels_per_class]
    if labels_per_class < 1 or (small and on_small_class != "take"):
        take = '; on_small_class="take" keeps all that it has' if small else ""
        which = f" ({first_few(small)})" if small else ""
        raise ValueError(
            f"labels_per_class: expected 1 to {min(counts)} (or 0 for all) of {data.name}, "
            f"got {labels_per_class}{which}{take}"
        )
    order = torch.randperm(len(data.train_labels), generator=Generator().manual_seed(seed))
    members = (order[data.train_labels[order] == c] for c in range(data.num_classes))
    kept = torch.cat([indices[:labels_per_class] for indices in members])
    soft = None if data.train_distributions is None else data.train_distributions[kept]
    files = tuple(data.train_files[i] for i in kept) if data.train_files else ()
    return replace(
        data,
        train_images=data.train_images[kept],
        train_labels=data.train_labels[kept],
        train_distributions=soft,
        train_files=files,
    )


def wrong_labels(data: Dataset, share: float, seed: int) -> Dataset:
    """Give a share of the training images another class, each other one equally likely, drawn by ``seed``.

    Raises:
        ValueError: the images have label distributions, or there is no other class.
    """
    if data.train_distributions is not None or data.num_classes < 2:
        raise ValueError(
            f"label_noise: needs two classes, and labels that are no distributions, in {data.name}"
        )
    draw, count = Generator().manual_seed(seed), len(data.train_labels)
    chosen = torch.randperm(count, generator=draw)[: round(share * count)]
    steps = torch.randint(1, data.num_classes, (len(chosen),), generator=draw)
    labels = data.train_labels.clone()
    labels[chosen] = (labels[chosen] + steps) % data.num_classes
    return replace(data, train_labels=labels)
