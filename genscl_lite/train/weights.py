"""A trained model as one file, ``model.safetensors``: its weights, its configuration and its results.

The format runs no code and is read by many programs. Names of tensors are ``encoder.``, ``head.`` and, beside
latents, ``probe.`` (the linear classifier of the features), plus the module's own.
"""

import json
import math
import warnings
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from genscl_lite._checks import require_positive, require_whole
from genscl_lite.datasets import Dataset
from genscl_lite.datasets.files import RunFolderError, as_path, atomic_write
from genscl_lite.train.config import TrainConfig, read_config
from genscl_lite.train.methods import METHODS
from genscl_lite.train.run_folder import seeds_in
from genscl_lite.wrappers import unwrapped

PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl")
"""Endings of files as ``torch.save`` writes them."""


def save_weights(path: str | Path, model: nn.Module, **about: object) -> None:
    """Write a model's weights; each of ``about`` (``config``, ``summary``) goes into the header as JSON.

    Tied weights are written under each of their names, so any program can load the file.
    """
    state = {
        name: tensor.detach().contiguous().clone()
        for name, tensor in unwrapped(model).state_dict().items()
    }
    notes = {"format": "pt"} | {name: json.dumps(value) for name, value in about.items()}
    with atomic_write(path, (OSError, SafetensorError)) as temporary:
        safetensors.torch.save_file(state, str(temporary), metadata=notes)


def weights_path(path: str | Path, argument: str = "path") -> Path:
    """Return the file of weights that ``path`` means: a file, a run's folder, or METHOD with one seed.

    >>> weights_path("no/such/run")
    Traceback (most recent call last):
    ValueError: path: no/such/run does not exist; expected a run's folder or a model.safetensors
    """
    path = as_path(path)
    if not path.exists():
        raise ValueError(
            f"{argument}: {path} does not exist; expected a run's folder or a model.safetensors"
        )
    if path.suffix in PICKLES:
        raise ValueError(
            f"{argument}: {path} is a pickle, which may run code when it is read; expected a "
            ".safetensors, as safetensors.torch.save_file(state_dict, path) writes it"
        )
    if path.is_file():
        return path
    seeds = list(seeds_in(path).values())
    if len(seeds) > 1:
        names = ", ".join(map(str, seeds))
        raise ValueError(f"{argument}: {path} holds {len(seeds)} seeds; expected one of {names}")
    folder = seeds[0] if seeds else path
    if (folder / "model.safetensors").is_file():
        return folder / "model.safetensors"
    if (folder / "config.json").exists():
        raise ValueError(
            f"{argument}: the run in {folder} is not finished; the command that began it goes on"
        )
    raise ValueError(
        f"{argument}: {folder} holds no finished run; expected a folder METHOD/seedN of one"
    )


def read_about(path: str | Path) -> dict[str, object]:
    """Return what was written beside the weights; RunFolderError for a damaged or foreign file."""
    try:
        with safe_open(str(path), framework="pt") as file:
            # safetensors has entries of its own: the format, and for tied weights name -> name of the tensor
            own = {"pt", *file.keys()}
            return {
                name: json.loads(value)
                for name, value in file.metadata().items()
                if value not in own
            }
    except (SafetensorError, AttributeError, ValueError, RecursionError) as error:
        reason = type(error).__name__
        raise RunFolderError(f"{path}: damaged, or not written by this kit ({reason})") from None


def described(path: str | Path, about: dict) -> tuple[TrainConfig, Dataset | None]:
    """Return configuration and data set, without images, of what ``read_about`` read, if it can be trusted.

    Raises:
        RunFolderError: there is none, it is damaged or of another version, or it asks for larger tensors
            than are there (a header may say anything). No module that it names is imported.
    """
    try:
        config = read_config(dict(about["config"]))
        data = _without_images(**about["data"]) if "data" in about else None
    except (KeyError, TypeError, ValueError) as error:
        raise RunFolderError(
            f"{path}: its header is damaged or of another version ({error})"
        ) from None
    with safe_open(str(path), framework="pt") as file:
        shapes = [file.get_slice(name).get_shape() for name in file.keys()]
    classifies = METHODS[config.method].classifies
    sizes = {data.num_classes if data else 0, 0 if classifies else config.latent_dim} - {0}
    if larger := sizes.difference(*(shape for shape in shapes if 0 not in shape)):
        raise RunFolderError(
            f"{path}: damaged, or of another model (no tensor has the size {larger.pop()})"
        )
    return config, data


def _without_images(
    name, class_names, mean, std, image_shape, intensity=(0, 65535), tests=""
) -> Dataset:
    """Make a ``Dataset`` without images of what a header says; TypeError or ValueError if it cannot be.

    Earlier versions wrote no intensity, and took 16 bits for full.
    """
    low, high = intensity or (0, 1)
    if not -math.inf < low < high < math.inf:
        raise ValueError(f"intensity {intensity}")
    channels, height, width = image_shape
    for size in image_shape:
        require_whole("image_shape", size)
    for value in (*std, *(abs(m) + 1 for m in mean)):
        require_positive("mean and std", value)
    fits = channels == len(mean) == len(std) <= 1024 and channels * height * width <= 2**24
    if not fits or not all(isinstance(text, str) for text in (name, *class_names)):
        raise ValueError(
            f"names that are no text, mean and std of other channels, or images {image_shape}"
        )
    images, labels = (
        torch.empty(0, *image_shape, dtype=torch.uint8),
        torch.empty(0, dtype=torch.long),
    )
    split = (images, labels)
    statistics = (tuple(mean), tuple(std))
    known = {"intensity": intensity and (low, high)}
    return Dataset(name, *split, *split, tuple(class_names), *statistics, **known)


def warn_if_seen(path: str | Path, about: dict, dataset: Dataset) -> None:
    """Warn if weights come from another split of the same images, as ``about`` (of ``read_about``) says."""
    theirs, tests = about["data"], dataset.sides[1]
    same = theirs["name"] == dataset.name and theirs["class_names"] == list(dataset.class_names)
    if same and theirs.get("tests", tests) != tests:
        warnings.warn(
            f"{path}: was tested with other images than this run will be (files were added or removed, "
            "or val_share is another), so it may have learned from images that test this run",
            stacklevel=3,
        )


def load_weights(path: str | Path, model: nn.Module, parts: bool = True) -> None:
    """Read weights into a model of the same structure.

    Args:
        path: a safetensors file.
        model: parts that it has not (the probe) are passed over, and a classifier that it has left out,
            with ``nn.Identity`` in its place.
        parts: whether the first word of a tensor's name is a part of a run; False: the whole file is one.

    Raises:
        RunFolderError: names or shapes of the tensors are others, or the file is damaged.
    """
    model = unwrapped(model)
    try:
        missing, unexpected = safetensors.torch.load_model(model, str(path), strict=False)
    except (SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise RunFolderError(f"{path}: damaged, or of another model ({reason})") from None
    for name, tensor in model.state_dict().items():
        if not tensor.isfinite().all():
            raise RunFolderError(f"{path}: NaN or infinity in {name}")
    modules = dict(model.named_modules())
    unexpected = set(unexpected) - model.state_dict().keys()  # a second name of tied weights

    def passed_over(name: str) -> bool:
        other_part = parts and name.partition(".")[0] not in modules
        return other_part or isinstance(modules.get(name.rpartition(".")[0]), nn.Identity)

    others = sorted(missing) + sorted(name for name in unexpected if not passed_over(name))
    if others:
        raise RunFolderError(
            f"{path}: of another model ({others[0]} is on one side only, "
            f"and {len(others) - 1} more)"
        )
