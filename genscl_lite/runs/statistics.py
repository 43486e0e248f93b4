"""What a difference of two rows is worth: intervals over seeds and images, a pooled error, corrections, equivalence."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

ALPHA = 0.05
"""What is less likely than this is not taken for chance."""
ROUNDING = 1e-12
"""Differences of accuracies that lie nearer to each other are equal."""


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


def signed(*numbers: float, digits: int = 1) -> tuple[str, ...]:
    """Write numbers with their signs: a mean, an interval, or both, the interval's ends last.

    An interval that ends nearly at 0 has one more digit, as its verdict depends on the side; "-0.00" lies below 0.

    >>> signed(1.24), signed(1.24, -0.3, 2.78), signed(0.4, 0.03, 0.77), signed(-0.002, 0.7)
    (('+1.2',), ('+1.2', '-0.3', '+2.8'), ('+0.40', '+0.03', '+0.77'), ('-0.00', '+0.70'))
    """
    if len(numbers) > 1 and min(map(abs, numbers[-2:])) < 10**-digits / 2:
        digits += 1
    exact = (round(x, 9) + 0.0 for x in numbers)  # what rounding left of 0 has no sign
    return tuple(f"{x:+.{digits}f}" for x in exact)


def p_value(differences: Sequence[float]) -> float:
    """Return the two-sided p of a paired t-test: that differences as large come from a mean of 0.

    NaN for a single difference, and for two equal ones: with a few hundred test images they may agree by chance.
    """
    differences = np.asarray(differences, dtype=float)
    if len(differences) > 1 and np.ptp(differences) > ROUNDING:
        return float(stats.ttest_1samp(differences, 0).pvalue)
    # no spread is certain
    return float(abs(differences[0]) < ROUNDING) if len(differences) > 2 else np.nan


class PooledError(NamedTuple):
    """The standard deviation of an accuracy once its row and its seed are accounted for."""

    deviation: float
    freedom: int  # residual degrees of freedom


def pooled_error(accuracies: np.ndarray) -> PooledError | None:
    """Pool the error over rows: residuals of a two-way layout, with seeds as blocks.

    Accuracies are modeled as row + seed + error. Pooling assumes that the error is as large in one row as in
    another, so it is refused if Levene's test of the residuals says otherwise. That test centers by the
    mean; where errors are equal it refuses about one time in twenty, also with three seeds.

    Args:
        accuracies: (seeds, rows), complete.

    Returns:
        The error with (seeds - 1)(rows - 1) degrees of freedom; None with fewer than three seeds or rows, or
        if errors differ.

    >>> pooled_error(np.array([[0.7, 0.8, 0.9], [0.71, 0.8, 0.92], [0.72, 0.84, 0.91]]))
    PooledError(deviation=0.01..., freedom=4)
    """
    if min(accuracies.shape) < 3:
        return None
    of_rows, of_seeds = accuracies.mean(axis=0), accuracies.mean(axis=1, keepdims=True)
    residuals = accuracies - of_rows - of_seeds + accuracies.mean()
    if np.abs(residuals).max() < ROUNDING:  # nothing to test
        return None
    if not stats.levene(*residuals.T, center="mean").pvalue >= ALPHA:
        return None
    freedom = (len(residuals) - 1) * (residuals.shape[1] - 1)
    return PooledError(float((residuals**2).sum() / freedom) ** 0.5, freedom)


def pooled_interval(
    differences: Sequence[float], error: PooledError, level: float = 0.95
) -> Interval:
    """Return the mean of paired differences of two rows, with an interval by the error of all rows.

    >>> [round(x, 3) for x in pooled_interval([0.01, 0.02, 0.03], PooledError(0.005, 12))]
    [0.02, 0.011, 0.029, 3]
    """
    mean, count = float(np.mean(differences)), len(differences)
    half = float(stats.t.ppf((1 + level) / 2, error.freedom)) * _of_mean(error, count)
    return Interval(mean, mean - half, mean + half, count)


def pooled_p_value(differences: Sequence[float], error: PooledError) -> float:
    """Return the two-sided p that such differences come from a mean of 0, by the error of all rows."""
    ratio = abs(float(np.mean(differences))) / _of_mean(error, len(differences))
    return float(2 * stats.t.sf(ratio, error.freedom))


def _of_mean(error: PooledError, count: int) -> float:
    """Return the standard error of the mean difference of two rows."""
    return error.deviation * (2 / count) ** 0.5


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


def decided(interval: Interval, p: float, margin: float = 0.0) -> int:
    """Return 1 if a mean lies above -margin, -1 if below, where its interval and its p agree on it; else 0.

    >>> decided(Interval(2.0, 1.0, 3.0, 5), 0.01), decided(Interval(2.0, 1.0, 3.0, 5), 0.06)
    (1, 0)
    """
    above, below = interval.low > -margin, interval.high < -margin
    return int(above) - int(below) if p < ALPHA else 0


def is_equivalent(interval: Interval, margin: float) -> bool:
    """Tell whether a 90 % interval lies within +- ``margin``: two one-sided tests at 5 % (TOST).

    >>> is_equivalent(t_interval([0.001, -0.001, 0.0], level=0.9), margin=0.005)
    True
    """
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
    difference = right.astype(np.int8) - others_right.astype(np.int8)  # (seeds, images)
    seeds, images = difference.shape
    # images on which all seeds agree are alike: drawing their number is drawing the images
    alike, counts = np.unique(difference, axis=1, return_counts=True)  # (seeds, kinds), (kinds,)
    draw = np.random.default_rng(seed)
    of_kinds = draw.multinomial(images, counts / images, size=resamples)
    of_seeds = draw.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples)
    means = ((of_seeds @ alike) * of_kinds).sum(axis=1) / (seeds * images)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(difference.mean()), float(low), float(high), seeds)
