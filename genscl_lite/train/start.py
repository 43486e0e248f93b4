"""What a run begins from, where its configuration asks for more than random weights: timm's, or those of a file."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import nn

from genscl_lite.datasets import Dataset
from genscl_lite.datasets.files import RunFolderError, as_path
from genscl_lite.train.config import TrainConfig
from genscl_lite.train.methods import METHODS
from genscl_lite.train.networks import Model, build_timm, source_of
from genscl_lite.train.weights import (
    described,
    load_weights,
    read_about,
    warn_if_seen,
    weights_path,
)


def load_start(model: Model, config: TrainConfig, dataset: Dataset) -> None:
    """Give a new model the weights that ``config.pretrained`` or ``config.weights`` names; else do nothing.

    The encoder is taken. The head is too, from a run whose head says the same: latents of the same size, or
    the same classes in the same order.

    Raises:
        ValueError: there is no such file or run, or timm's weights are not there and cannot be downloaded.
        RunFolderError: the file is damaged, or of another network.
    """
    if config.pretrained:
        channels, _, size = dataset.image_shape
        network = build_pretrained(config.arch, channels, size, num_classes=0)
        model.encoder.load_state_dict(network.state_dict())
    elif config.weights:
        path = start_path(config)
        about = _read_about(path)
        try:
            if "data" not in about:
                load_weights(path, model.encoder, parts=False)
                return
            theirs = described(path, about)
            warn_if_seen(path, about, dataset)
            parts = {"encoder": model.encoder}
            if _says_the_same(*theirs, config, dataset):
                parts["head"] = model.head
            load_weights(path, nn.ModuleDict(parts))
        except RunFolderError as error:
            raise RunFolderError(f"weights: {error}") from None


def start_path(config: TrainConfig) -> Path:
    """Return the file that ``config.weights`` means: of a row's several seeds, that of the same seed."""
    given = as_path(config.weights)
    own = given / f"seed{config.seed}"
    return weights_path(own if own.is_dir() else given, "weights")


def normalized_as_started(config: TrainConfig, dataset: Dataset) -> Dataset:
    """Return the data set with the mean and deviation that the weights to begin from were trained with.

    Gray images get the average over channels; without such weights, or if the file says nothing, the data
    set's own remain.
    """
    mean = std = None
    if config.pretrained:
        import timm

        about = timm.get_pretrained_cfg(source_of(config.arch)[1])
        mean, std = about.mean, about.std
    elif config.weights:
        path = start_path(config)
        about = _read_about(path)
        if "data" in about:
            _, theirs = described(path, about)
            mean, std = theirs.mean, theirs.std
        else:
            mean, std = about.get("mean"), about.get("std")
            _check_numbers(path, mean, std)
    if not mean or not std:
        return dataset
    channels = dataset.image_shape[0]
    if channels == 1:
        mean, std = ([sum(values) / len(values)] for values in (mean, std))
    if channels != len(mean):
        return dataset
    return replace(dataset, mean=tuple(mean), std=tuple(std))


def build_pretrained(arch: str, channels: int = 3, size: int | None = None, **options) -> nn.Module:
    """Build timm/NAME with timm's weights, which are downloaded at first use.

    Raises:
        ValueError: they are cut short or damaged, and which file to delete; or they cannot be downloaded.
    """
    try:
        return build_timm(arch, channels, size, pretrained=True, **options)
    except Exception as error:  # what is no checkpoint is met with errors of many types
        reason = " ".join(str(error).split())[:200]
        found = [path for path in cached_files(arch) if not _is_whole(path)]
        if found:
            raise ValueError(
                f"weights of {arch}: {found[0]} is damaged ({type(error).__name__}); delete it, "
                "and it is downloaded again"
            ) from error
        if isinstance(error, ValueError) and str(error).startswith("image_size"):
            raise
        raise ValueError(
            f"weights of {arch}: they could not be loaded ({type(error).__name__}: {reason})"
        ) from error


def cached_files(arch: str) -> Iterator[Path]:
    """Give the files in which timm keeps, on this machine, the weights of timm/NAME."""
    import timm
    from huggingface_hub import try_to_load_from_cache

    about = timm.get_pretrained_cfg(source_of(arch)[1])
    if about.file:
        yield Path(about.file)
    if about.hf_hub_id:
        names = about.hf_hub_filename, "model.safetensors", "pytorch_model.bin"
        for name in filter(None, names):
            path = try_to_load_from_cache(about.hf_hub_id, name)
            if isinstance(path, str):
                yield Path(path)
    if about.url:
        yield Path(torch.hub.get_dir()) / "checkpoints" / about.url.rpartition("/")[2]


def _is_whole(path: Path) -> bool:
    if not path.is_file():
        return True
    try:
        if path.suffix == ".safetensors":
            safetensors.torch.load_file(path)
        else:
            torch.load(path, map_location="cpu", weights_only=True)
    except Exception:
        return False
    return True


def _read_about(path: Path) -> dict[str, object]:
    """Return what this kit wrote beside the weights; nothing for the file of another program."""
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            ours = (file.metadata() or {}).keys() & {"data", "arch"}
    except SafetensorError as error:
        raise RunFolderError(f"weights: {path}: damaged ({error})") from None
    return read_about(path) if ours else {}


def _says_the_same(
    theirs: TrainConfig, their_data: Dataset, config: TrainConfig, dataset: Dataset
) -> bool:
    """Tell whether a run's head means what this configuration's does."""
    kinds = METHODS[config.method].head, METHODS[theirs.method].head
    if kinds == ("classifier", "classifier"):
        return tuple(their_data.class_names) == dataset.class_names
    return kinds == ("projection", "projection") and theirs.latent_dim == config.latent_dim


def _check_numbers(path: Path, mean: object, std: object) -> None:
    """Raise RunFolderError unless mean and deviation of an exported encoder are numbers, or not there."""
    try:
        fine = all(map(math.isfinite, mean or ())) and all(0 < s < math.inf for s in std or ())
    except TypeError:
        fine = False
    if not fine or len(mean or ()) != len(std or ()):
        raise RunFolderError(
            f"weights: {path}: damaged, its mean or std is no number for a channel"
        )
