"""What a difference between two rows is worth: intervals over seeds and images, corrections, equivalence."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats


class Interval(NamedTuple):
    """A mean, its confidence interval (NaN for fewer than two values), and of how many values it is."""

    mean: float
    low: float
    high: float
    count: int


def t_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """Return the mean of values, such as paired differences over seeds, with its t interval.

    >>> [round(x, 3) for x in t_interval([0.01, 0.02, 0.03])]
    [0.02, -0.005, 0.045, 3]
    """
    values = np.asarray(values, dtype=float)
    count = len(values)
    mean = float(values.mean()) if count else np.nan
    if count < 2:
        return Interval(mean, np.nan, np.nan, count)
    half = float(stats.t.ppf((1 + level) / 2, count - 1) * values.std(ddof=1) / count**0.5)
    return Interval(mean, mean - half, mean + half, count)


def p_value(differences: Sequence[float]) -> float:
    """Return the two-sided p of a paired t-test: that differences as large come from a mean of 0."""
    differences = np.asarray(differences, dtype=float)
    if len(differences) < 2:
        return np.nan
    if not np.ptp(differences):  # no spread: certain, whichever way
        return float(differences[0] == 0)
    return float(stats.ttest_1samp(differences, 0).pvalue)


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Return p-values corrected for being one of several (Holm 1979); NaN stays and does not count.

    >>> holm([0.01, 0.04, 0.03]).round(2).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=float)
    corrected, known = p.copy(), np.flatnonzero(~np.isnan(p))
    order = known[p[known].argsort()]
    steps = p[order] * np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return corrected


def decided(interval: Interval, p: float, margin: float = 0.0, alpha: float = 0.05) -> int:
    """Return 1 if a mean lies above -margin, -1 if below, where its interval and its p agree on it; else 0.

    >>> decided(Interval(2.0, 1.0, 3.0, 5), 0.01), decided(Interval(2.0, 1.0, 3.0, 5), 0.06)
    (1, 0)
    """
    above, below = interval.low > -margin, interval.high < -margin
    return int(above) - int(below) if p < alpha else 0


def is_equivalent(differences: Sequence[float], margin: float = 0.005, alpha: float = 0.05) -> bool:
    """Tell whether two rows are as good: two one-sided t-tests place the mean within +- ``margin``."""
    interval = t_interval(differences, 1 - 2 * alpha)
    return -margin < interval.low and interval.high < margin


def bootstrap_interval(
    right: np.ndarray,
    others_right: np.ndarray,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Return the difference of two accuracies, with an interval over seeds and test images alike.

    Args:
        right, others_right: (seeds, images) bool: which images a run classified rightly. Seeds and images
            are those of both, so they are drawn, with replacement, for both together.
    """
    difference = right.astype(np.float32) - others_right  # (seeds, images)
    seeds, images = difference.shape
    draw, means = np.random.default_rng(seed), []
    for _ in range(resamples):
        of_images = difference[draw.integers(seeds, size=seeds)].mean(axis=0)
        means.append(of_images[draw.integers(images, size=images)].mean())
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(difference.mean()), float(low), float(high), seeds)
