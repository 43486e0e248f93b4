"""What a step learns from: the views of a batch and their label distributions, augmented and mixed in one piece.

All random numbers of an epoch are drawn at its start, from a CPU generator, and put on the device at once. So they are the
same on every device, no step waits for the host, and an epoch can be begun again in its middle.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from genscl_lite.augment import Augment, build_augment
from genscl_lite.config import METHODS, TrainConfig
from genscl_lite.data import Dataset
from genscl_lite.mixing import Mixture, blend, draw_mixture


class Draws(NamedTuple):
    """The random numbers of S steps, for V views of batches of N images."""

    index: Tensor
    """(S, N): which images a batch holds."""
    numbers: Tensor
    """(S, V, numbers, N), for ``Augment.apply``."""
    mixture: Mixture | None
    """Each part (S, V, N); None where nothing is mixed."""

    def to(self, device: torch.device | str) -> "Draws":
        mixture = self.mixture and Mixture(*(part.to(device, non_blocking=True) for part in self.mixture))
        return Draws(self.index.to(device), self.numbers.to(device, non_blocking=True), mixture)

    def step(self, step: int) -> "Draws":
        """Return what one step needs, without its first dimension."""
        return Draws(self.index[step], self.numbers[step], self.mixture and Mixture(*(part[step] for part in self.mixture)))


def draw_epoch(config: TrainConfig, images: int, size: tuple[int, int], generator: Generator) -> Draws:
    """Draw the numbers of an epoch over so many images of (height, width) ``size``.

    Every batch is full, so that shapes never change: the last one is filled up with the first images of the epoch's order.
    """
    batch = min(config.batch_size, images)
    steps = math.ceil(images / batch)
    order = torch.randperm(images, generator=generator)
    index = order.repeat(2)[: steps * batch].reshape(steps, batch)
    augment, mixes = build_augment(config.augmentation), METHODS[config.method].mixes
    numbers, mixtures = [], []
    for _ in range(steps * config.views):
        numbers.append(augment.draw(batch, generator))
        if mixes:
            mixtures.append(draw_mixture(batch, size, mixing=config.mixing, alpha=config.mix_alpha,
                                         per_image=config.mix_per_image, generator=generator))  # fmt: skip
    shape = (steps, config.views)
    mixture = Mixture(*(torch.stack(part).unflatten(0, shape) for part in zip(*mixtures, strict=True))) if mixes else None
    return Draws(index, torch.stack(numbers).unflatten(0, shape), mixture)


@dataclass(frozen=True)
class Views:
    """Makes the views of a batch: augment, normalize, mix. Nothing is drawn, nothing waits; made to be compiled as one.

    >>> from genscl_lite.data import load_dataset
    >>> config, digits = TrainConfig(method="genscl_mix"), load_dataset("digits", labels_per_class=10)
    >>> draws = draw_epoch(config, 100, (8, 8), Generator().manual_seed(0)).step(0)
    >>> images, labels = Views.of(config, digits)(digits.train_images, digits.train_labels, draws)
    >>> images.shape, labels.shape  # two views of 50 images
    (torch.Size([100, 1, 8, 8]), torch.Size([100, 10]))
    """

    augment: Augment
    one_hot: Tensor
    """(C, C): the label distribution of each class."""
    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, config: TrainConfig, dataset: Dataset) -> "Views":
        device = dataset.train_images.device
        mean, std = (torch.tensor(values, device=device).reshape(-1, 1, 1) for values in (dataset.mean, dataset.std))
        return cls(build_augment(config.augmentation), torch.eye(dataset.num_classes, device=device), mean, std)

    def __call__(self, images: Tensor, labels: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """Make V views of the batch that ``draws``, of one step, names.

        Args:
            images: all images, uint8 (all, channels, H, W).
            labels: all class numbers, (all,).
            draws: on the same device.

        Returns:
            (V*N, channels, H, W) normalized views, view by view, channels last in memory, and their (V*N, C) labels.
        """
        images, labels = images[draws.index], self.one_hot[labels[draws.index]]
        views, targets = [], []
        for v, numbers in enumerate(draws.numbers):
            view, target = (self.augment.apply(images, numbers) - self.mean) / self.std, labels
            if draws.mixture:
                view, target = blend(view, target, Mixture(*(part[v] for part in draws.mixture)))
            views.append(view)
            targets.append(target)
        return torch.cat(views).contiguous(memory_format=torch.channels_last), torch.cat(targets)


def compiled(function: Callable, wanted: bool) -> Callable:
    """Compile a function or module for tensors whose shapes stay the same, if that is wanted."""
    return torch.compile(function, dynamic=False) if wanted else function
