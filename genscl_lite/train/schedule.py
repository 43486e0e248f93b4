"""The learning rate, a function of the epoch alone."""

import math

from genscl_lite.train.config import TrainConfig


def learning_rate(config: TrainConfig, epoch: float) -> float:
    """Return the rate at a (fractional) epoch: from the peak to a thousandth of it, with a warm-up.

    By hand: it depends on nothing but the epoch. The linear warm-up ends on the falling curve, as in SupContrast.

    >>> config = TrainConfig(epochs=100, learning_rate=0.5, warmup_epochs=10, warmup_from=0.01)
    >>> [round(learning_rate(config, e), 4) for e in (0, 5, 10, 50, 100)]
    [0.01, 0.2489, 0.4878, 0.2502, 0.0005]
    """

    def falling(at: float) -> float:
        last, done = config.learning_rate * 1e-3, at / config.epochs
        left = (1 + math.cos(math.pi * done)) / 2 if config.schedule == "cosine" else 1 - done
        return last + (config.learning_rate - last) * left

    first, end = config.warmup_from, warmup(config)
    return falling(epoch) if epoch >= end else first + (falling(end) - first) * epoch / end


def warmup(config: TrainConfig) -> float:
    """Return how many epochs the warm-up takes."""
    return config.warmup_share * config.epochs or config.warmup_epochs
