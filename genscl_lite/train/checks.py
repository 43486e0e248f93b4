"""Checks of a configuration against what a run is given with it, before any work starts."""

import math
from collections.abc import Callable
from pathlib import Path

from torch import nn

from genscl_lite.datasets import Dataset
from genscl_lite.datasets.check import check_data, odd_things, warn_of
from genscl_lite.distillation import Teacher
from genscl_lite.train import processes
from genscl_lite.train.augment import check_channels
from genscl_lite.train.config import TrainConfig
from genscl_lite.train.methods import METHODS


def check_fit(
    config: TrainConfig,
    dataset: Dataset,
    folder: Path | None,
    encoder: nn.Module | None,
    teacher: Teacher | None,
    loss: Callable | None,
    deadline: float,
) -> None:
    """Raise ValueError if the configuration contradicts the arguments of ``pretrain``; warn of odd data."""
    check_data(dataset)
    check_channels("augmentation", config.augmentation, dataset.image_shape[0])
    if config.read_out == "sgd" and not METHODS[config.method].classifies:
        check_channels("probe_augmentation", config.probe_augmentation, dataset.image_shape[0])
    batch, count = min(config.batch_size, len(dataset.train_labels)), processes.world_size()
    if batch % count:
        raise ValueError(
            f"batch_size: {batch} images cannot be shared out evenly among {count} processes"
        )
    if folder is None and deadline < math.inf:
        raise ValueError("deadline: needs a folder to save the run in")
    if loss and folder is not None:
        raise ValueError(
            "loss: the configuration keeps no account of it, so it goes without a folder"
        )
    if (encoder is not None) != (config.arch == "custom"):
        given = "with" if encoder is not None else "without"
        raise ValueError(
            f'arch: "custom" and an encoder go together, got arch={config.arch!r} {given} one'
        )
    if dataset.name != config.dataset:
        raise ValueError(
            f"dataset: the configuration says {config.dataset!r}, the data set is {dataset.name!r}"
        )
    if teacher is not None and not METHODS[config.method].distils:
        raise ValueError(f"teacher: method {config.method} learns from none; take one with KD")
    if teacher is not None and teacher.temperature != config.teacher_temperature:
        raise ValueError(
            f"teacher_temperature: the configuration says {config.teacher_temperature}, "
            f"the teacher has {teacher.temperature}"
        )
    if processes.rank() == 0:
        warn_of(dataset.name, odd_things(dataset))
