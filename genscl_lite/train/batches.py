"""What a step learns from: views of a batch and their label distributions, augmented and mixed in one piece.

All random numbers of an epoch are drawn at its start, from a CPU generator, and put on the device at once. So
they are the same on every device, no step waits for the host, and an epoch can be begun again in its middle.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from genscl_lite._rows import one_hot
from genscl_lite.datasets import Dataset
from genscl_lite.mixing import Mixture, blend, draw_mixture
from genscl_lite.train import processes
from genscl_lite.train.augment import Augment, build_augment
from genscl_lite.train.config import TrainConfig
from genscl_lite.train.methods import METHODS


class Draws(NamedTuple):
    """The random numbers of S steps, for V views of batches of N images."""

    index: Tensor  # (S, N): which images a batch holds
    uniforms: Tensor  # (S, U, V*N), for ``Augment.apply``; view by view
    # each part (S, V*N), partners of the same view; None if nothing is mixed
    mixture: Mixture | None

    def to(self, device: torch.device | str) -> "Draws":
        mixture = self.mixture and Mixture(
            *(part.to(device, non_blocking=True) for part in self.mixture)
        )
        return Draws(self.index.to(device), self.uniforms.to(device, non_blocking=True), mixture)

    def step(self, step: int) -> "Draws":
        """Return what one step needs, without its first dimension."""
        mixture = self.mixture and Mixture(*(part[step] for part in self.mixture))
        return Draws(self.index[step], self.uniforms[step], mixture)


def draw_epoch(
    config: TrainConfig, labels: Tensor, size: tuple[int, int], generator: Generator
) -> Draws:
    """Draw an epoch over images of (height, width) ``size`` with (all,) class numbers, on the CPU.

    Every batch is full, so that shapes never change: the last one is filled up with the order's first images.
    """
    images = len(labels)
    batch = min(config.batch_size, images)
    steps = math.ceil(images / batch)
    if config.balanced:
        order = balanced_order(labels, generator)
    else:
        order = torch.randperm(images, generator=generator)
    index = order.repeat(2)[: steps * batch].reshape(steps, batch)
    augment, mixes = build_augment(config.augmentation), METHODS[config.method].mixes
    mixing = {
        "mixing": config.mixing,
        "alpha": config.mix_alpha,
        "per_image": config.mix_per_image,
        "probability": config.mix_probability,
    }
    uniforms, mixtures = [], []
    for turn in range(steps * config.views):
        uniforms.append(augment.draw(batch, generator))
        if mixes:
            drawn = draw_mixture(batch, size, **mixing, generator=generator)
            mixtures.append(drawn._replace(partner=drawn.partner + turn % config.views * batch))
    by_step = torch.cat(uniforms, dim=1).unflatten(1, (steps, -1)).transpose(0, 1)  # (S, U, V*N)
    # each (S, V*N)
    parts = [torch.cat(part).unflatten(0, (steps, -1)) for part in zip(*mixtures, strict=True)]
    return Draws(index, by_step, Mixture(*parts) if mixes else None)


def balanced_order(labels: Tensor, generator: Generator) -> Tensor:
    """Sample all classes equally often (to one); return as many image numbers as there are labels, shuffled.

    A small class is gone through several times, a large one in part.

    >>> order = balanced_order(torch.tensor([0, 0, 0, 0, 0, 1]), Generator().manual_seed(0))
    >>> sorted(order.tolist()).count(5)
    3
    """
    by_class = labels.argsort(stable=True).split(labels.bincount().tolist())
    classes = [members for members in by_class if len(members)]
    each, left = divmod(len(labels), len(classes))
    # so many classes are drawn once more
    one_more = torch.randperm(len(classes), generator=generator) < left
    drawn = []
    for members, count in zip(classes, (each + one_more).tolist(), strict=True):
        rounds = [
            members[torch.randperm(len(members), generator=generator)]
            for _ in range(math.ceil(count / len(members)))
        ]
        drawn.append(torch.cat(rounds)[:count])
    order = torch.cat(drawn)
    return order[torch.randperm(len(order), generator=generator)]


def image_batches(
    config: TrainConfig, dataset: Dataset, index: Tensor, epoch: int, step: int
) -> Iterator[Tensor]:
    """Give the images of an epoch's batches from ``step`` on, (V, N, channels, H, W).

    Views of an image in memory are one tensor, not copied; those of a file are its own crops.
    """
    images = dataset.train_images
    if isinstance(images, Tensor):
        batches = index[step:].to(images.device)
        return (images[batch].expand(config.views, -1, -1, -1, -1) for batch in batches)
    augment = build_augment(config.augmentation)
    crops = images.random_crops(
        index,
        seed=config.seed,
        epoch=epoch,
        first_step=step,
        views=config.views,
        scale=augment.crop_scale,
        ratio=augment.crop_ratio,
        rows=processes.own_part(index.shape[1]),
    )
    every = (processes.gather_views(part.flatten(0, 1), config.views) for part in crops)
    return (views.unflatten(0, (config.views, -1)) for views in every)


@dataclass(frozen=True)
class Views:
    """Makes the views of a batch: augment, normalize, mix. Nothing is drawn or waits; compiled as one piece.

    >>> from genscl_lite.datasets import load_dataset
    >>> config, digits = TrainConfig(method="genscl_mix"), load_dataset("digits", labels_per_class=10)
    >>> draws = draw_epoch(config, digits.train_labels, (8, 8), Generator().manual_seed(0)).step(0)
    >>> pixels = digits.train_images[draws.index].expand(2, -1, -1, -1, -1)
    >>> images, targets = Views.of(config, digits)(pixels, draws)
    >>> images.shape, targets.shape  # two views of 50 images
    (torch.Size([100, 1, 8, 8]), torch.Size([100, 1, 10]))
    """

    augment: Augment
    mean: Tensor
    std: Tensor
    targets: Tensor  # (all,) class numbers, or (all, C) distributions if the data has any
    classes: int  # C
    numbers: bool  # targets stay class numbers: nothing makes distributions of them
    teacher_table: Tensor | None  # (all, C): a teacher's predictions, a second target

    @classmethod
    def of(
        cls,
        config: TrainConfig,
        dataset: Dataset,
        teacher_table: Tensor | None = None,
        always_distributions: bool = False,
    ) -> "Views":
        """Take from a data set what a step needs beside its pixels; all on the data set's device."""
        device, augment = dataset.train_images.device, build_augment(config.augmentation)
        if not isinstance(dataset.train_images, Tensor):
            augment = augment.without_crop()
        mean, std = (
            torch.tensor(v, device=device).reshape(-1, 1, 1) for v in (dataset.mean, dataset.std)
        )
        labels, distributions = dataset.train_labels, dataset.train_distributions
        numbers = METHODS[config.method].learns_from_numbers(distributions)
        return cls(
            augment=augment,
            mean=mean,
            std=std,
            targets=labels if distributions is None else distributions,
            classes=dataset.num_classes,
            numbers=numbers and not always_distributions,
            teacher_table=None if teacher_table is None else teacher_table.to(device),
        )

    def __call__(self, images: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """Make the views of a batch of (V, N, channels, H, W) images, uint8 or floating point in [0, 1].

        Returns:
            (V*N, channels, H, W) normalized views, view by view, channels last in memory, and their
            (V*N, T, C) label distributions, T = 2 with a teacher's table; or, if nothing is mixed or
            taught, their (V*N,) class numbers.
        """
        targets = self.targets[draws.index]
        if targets.ndim == 1 and not self.numbers:
            targets = one_hot(targets, self.classes)  # (N, C)
        if self.teacher_table is not None:
            targets = torch.cat([targets, self.teacher_table[draws.index]], dim=1)  # (N, 2*C)
        targets = torch.cat([targets] * len(images))
        batch = self.augment.apply(images.flatten(0, 1), draws.uniforms)
        batch = batch.sub_(self.mean).div_(self.std)
        if draws.mixture:
            batch, targets = blend(batch, targets, draws.mixture)
        if not self.numbers:
            targets = targets.unflatten(1, (-1, self.classes))  # (V*N, T, C)
        return batch.contiguous(memory_format=torch.channels_last), targets
