"""The learning rate, a function of the epoch alone."""

import math

from genscl_lite.train.config import TrainConfig


def learning_rate(config: TrainConfig, epoch: float) -> float:
    """Return the rate at a (fractional) epoch: cosine from the peak to a thousandth of it, with a warm-up.

    By hand: it depends on nothing but the epoch. The linear warm-up ends on the cosine, as in SupContrast.

    >>> config = TrainConfig(epochs=100, learning_rate=0.5, warmup_epochs=10, warmup_from=0.01)
    >>> [round(learning_rate(config, e), 4) for e in (0, 5, 10, 50, 100)]
    [0.01, 0.2489, 0.4878, 0.2502, 0.0005]
    """

    def cosine(at: float) -> float:
        last = config.learning_rate * 1e-3
        return (
            last + (config.learning_rate - last) * (1 + math.cos(math.pi * at / config.epochs)) / 2
        )

    first, warmup = config.warmup_from, config.warmup_epochs
    return cosine(epoch) if epoch >= warmup else first + (cosine(warmup) - first) * epoch / warmup
