"""Which classes are taken for which: a matrix where there are few, the most confused pairs where there are many."""

from collections.abc import Sequence

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes

MOST_IN_MATRIX = 20
"""Classes whose names and percentages can still be read."""
PAIRS = 15


def plot_confusion(counts: np.ndarray, names: Sequence[str], axis: Axes) -> Axes:
    """Draw how many images of each class were said to be of which, in percent of the class.

    Up to ``MOST_IN_MATRIX`` classes are a matrix, with a row for each true class. Of more, the ``PAIRS``
    that are confused most often are drawn as bars.

    Args:
        counts: (C, C), a row for each true class, as ``confusion`` in ``summary.json``.
        names: C names of classes.
        axis: to draw on, of about 6 x 5 inches.
    """
    counts = np.asarray(counts)
    if counts.shape != (len(names), len(names)):
        expected = (len(names), len(names))
        raise ValueError(f"counts: expected shape {expected}, got {counts.shape}")
    percent = 100 * class_shares(counts)
    texts = [str(name).replace("$", r"\$") for name in names]
    draw = _draw_matrix if len(names) <= MOST_IN_MATRIX else _draw_pairs
    draw(percent, texts, axis)
    return axis


def _draw_matrix(percent: np.ndarray, names: list[str], axis: Axes) -> None:
    rounded = np.vectorize(lambda share: f"{share:.0f}" if share >= 0.5 else "")(percent)
    sns.heatmap(
        percent,
        ax=axis,
        vmin=0,
        vmax=100,
        cmap="Blues",
        square=True,
        annot=rounded,
        fmt="",
        annot_kws={"fontsize": 9 if len(names) <= 12 else 7},
        xticklabels=names,
        yticklabels=names,
        linewidths=0.5,
        cbar_kws={"label": "% of the true class", "shrink": 0.8},
    )
    axis.set(xlabel="said to be", ylabel="true class")
    axis.tick_params(axis="x", rotation=90)
    axis.tick_params(axis="y", rotation=0)


def _draw_pairs(percent: np.ndarray, names: list[str], axis: Axes) -> None:
    pairs = most_confused(percent)
    labels = [f"{names[true]} → {names[said]}" for true, said in pairs]
    shares = [percent[pair] for pair in pairs]
    axis.barh(range(len(pairs)), shares, color="tab:blue")
    axis.set_yticks(range(len(pairs)), labels)
    axis.invert_yaxis()
    axis.bar_label(axis.containers[0], fmt="%.0f", padding=3)
    axis.set(xlabel="% of the true class", ylabel="true class → said to be")
    axis.grid(axis="x", alpha=0.4)
    axis.set_axisbelow(True)


def class_shares(counts: np.ndarray) -> np.ndarray:
    """Turn counts (C, C) into shares of each true class; a class without images has none.

    >>> class_shares(np.array([[3, 1], [0, 0]])).tolist()
    [[0.75, 0.25], [0.0, 0.0]]
    """
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def most_confused(shares: np.ndarray, most: int = PAIRS) -> list[tuple[int, int]]:
    """Return the pairs (true, said) of different classes with the largest shares, the largest first.

    >>> most_confused(np.array([[8, 2, 0], [1, 9, 0], [5, 0, 5]]), most=2)
    [(2, 0), (0, 1)]
    """
    wrong = np.where(np.eye(len(shares), dtype=bool), 0, shares)
    order = (-wrong).ravel().argsort(kind="stable")[:most]
    pairs = zip(*np.unravel_index(order, wrong.shape), strict=True)
    return [(int(true), int(said)) for true, said in pairs if wrong[true, said] > 0]
