"""Pictures of what the kit computes: arrays in, matplotlib Axes out. Nothing is shown or saved here."""

import io
from collections.abc import Iterable
from importlib import import_module
from itertools import cycle

import numpy as np
import pandas as pd
import seaborn as sns
from IPython import get_ipython
from IPython.core.pylabtools import print_figure
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from PIL import Image

from genscl_lite.runs.statistics import signed, t_interval
from genscl_lite.train.methods import METHODS

CLASS_COLORS = sns.color_palette("colorblind", 10)
"""One color a class, the same in all notebooks, told apart by color-blind readers too."""
LABEL_COLOR, LATENT_COLOR = (0.11, 0.16, 0.42), CLASS_COLORS[3]
"""Dark blue, no class's, is what labels say (w, the target), vermilion what latents say (p, the model)."""
SIMILARITY_MAP = "magma"
"""Color map of similarities: black is 0."""
VALUE_MAP = sns.blend_palette(["0.86", "indigo"], as_cmap=True)
"""Color map of a number for each point, on white: pale is the lowest."""
MEAN_STYLE = {"fmt": "o", "markersize": 9, "capsize": 4, "linewidth": 2}
"""Of a mean with its error or interval."""
WRONG_COLOR = "crimson"
"""Frames what is wrong."""
FAMILY_COLORS = {
    "cross_entropy": CLASS_COLORS[7],
    "instance": CLASS_COLORS[1],
    "label": CLASS_COLORS[2],
}
"""Classifiers gray, SimCLR orange, SupCon and GenSCL green; any other family has OTHER_COLOR."""
OTHER_COLOR = CLASS_COLORS[4]
ROW_COLORS = {
    "ce": CLASS_COLORS[1],
    "ce_mix": CLASS_COLORS[4],
    "supcon": "0.45",
    "supcon_mix": CLASS_COLORS[2],
    "genscl_mix": LATENT_COLOR,
}
"""Where single rows are compared; none is a class there."""


def row_colors(methods: Iterable[str]) -> dict[str, object]:
    """Return a color for each row: its own, or one of the others."""
    others = cycle(CLASS_COLORS[5:])
    return {method: ROW_COLORS.get(method) or next(others) for method in methods}


def color_of(method: str):
    """Return the color of a row's family."""
    return FAMILY_COLORS.get(METHODS[method].family, OTHER_COLOR)


def class_colors(classes: int) -> list:
    """Return a color for each class: of ``CLASS_COLORS`` if they suffice, else hues around the circle."""
    return (
        CLASS_COLORS[:classes]
        if classes <= len(CLASS_COLORS)
        else sns.color_palette("husl", classes)
    )


def set_style() -> None:
    """Set the look of all notebooks: plain, readable, PNG at 100 dpi."""
    sns.set_theme(
        context="notebook",
        style="ticks",
        rc={
            "figure.dpi": 100,
            "savefig.dpi": 100,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": 12,
            "axes.titleweight": "bold",
            "figure.constrained_layout.use": True,
        },
    )
    shell = get_ipython()
    if shell is not None:
        import_module(
            "matplotlib_inline.backend_inline"
        )  # sets its own formatter when it is first imported
        shell.display_formatter.formatters["image/png"].for_type(Figure, small_png)


def small_png(figure: Figure) -> bytes | None:
    """Return a figure as PNG of 256 colors, which makes a notebook's file less than half as large.

    All colors are kept where the 256 would change a pixel visibly.
    """
    png = print_figure(figure, "png")
    if png is None:  # a figure without axes
        return None
    file, full = io.BytesIO(), Image.open(io.BytesIO(png)).convert("RGB")
    small = full.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    changed = np.asarray(small.convert("RGB"), dtype=int) - np.asarray(full, dtype=int)
    (small if np.abs(changed).max() <= 16 else full).save(file, "PNG", optimize=True)
    return file.getvalue()


def label_caption(label: np.ndarray, names: list[str]) -> str:
    """Name what a (C,) label distribution holds, the largest share first; for matplotlib, where $ is math.

    >>> label_caption([0.0, 0.4, 0.6], ["cat", "dog", "owl"])
    '60% owl + 40% dog'
    >>> label_caption([0.0, 1.0], ["cat", "dog"])
    'dog'
    """
    classes = [int(c) for c in np.argsort(-np.asarray(label), kind="stable") if label[c] > 0.005]
    if len(classes) == 1:
        return names[classes[0]].replace("$", r"\$")
    return " + ".join(f"{100 * label[c]:.0f}% {names[c]}" for c in classes).replace("$", r"\$")


def show_images(images: np.ndarray, titles: list[str], columns: int = 8) -> Figure:
    """Show (N, channels, H, W) images in [0, 1], a title above each."""
    rows = -(-len(images) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(1.25 * columns, 1.5 * rows), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, image, title in zip(axes.flat, images, titles, strict=False):
        picture = np.clip(np.moveaxis(image, 0, -1), 0, 1)
        axis.imshow(picture.squeeze(), cmap="gray_r", vmin=0, vmax=1)
        # y: matplotlib would look at all ticks, which are not shown, to find a height
        axis.set_title(title, y=1.0, fontsize=9, fontweight="normal", parse_math=False)
    return figure


def class_ticks(axis: Axes, classes: np.ndarray) -> None:
    """Name the classes of a matrix's (M,) sorted rows along two sides, each at the middle of its block."""
    borders = np.flatnonzero(np.diff(classes)) + 0.5
    starts, ends = np.r_[-0.5, borders], np.r_[borders, len(classes) - 0.5]
    for set_ticks in (axis.set_xticks, axis.set_yticks):
        set_ticks((starts + ends) / 2, classes[(ends - 0.5).astype(int)])
    axis.tick_params(length=0)


def plot_similarities(
    matrices: dict[str, np.ndarray],
    classes: np.ndarray,
    rows: int = 80,
    top: float = 1.0,
    scale: str = "similarity",
) -> np.ndarray:
    """Show (M, M) similarities side by side, with the same ``rows`` rows in the same order and colors.

    Args:
        matrices: title -> similarities; the first is usually the labels'.
        classes: (M,) class of each row, for order and ticks.
        rows: how many rows, spread evenly over the sorted classes, are shown.
        top: the similarity that has the brightest color.
        scale: what the color bar says.

    Returns:
        The axes, one for each matrix.
    """
    order = np.argsort(classes, kind="stable")
    order = order[np.linspace(0, len(order) - 1, min(rows, len(order))).astype(int)]
    figure, axes = plt.subplots(
        1, len(matrices), figsize=(3.4 * len(matrices) + 0.7, 3.65), squeeze=False
    )
    for axis, (title, matrix) in zip(axes.flat, matrices.items(), strict=True):
        shown = matrix[np.ix_(order, order)]
        picture = axis.imshow(shown, cmap=SIMILARITY_MAP, vmin=0, vmax=top, interpolation="nearest")
        axis.set_title(title)
        class_ticks(axis, classes[order])
        sns.despine(ax=axis, left=True, bottom=True)
    figure.colorbar(picture, ax=axes[0, -1], shrink=0.8, label=scale)
    return axes[0]


def label_colors(labels: np.ndarray) -> np.ndarray:
    """Return (N, 3) colors of (N,) class numbers, or of (N, C) distributions: the classes' colors mixed."""
    labels = np.asarray(labels)
    if labels.ndim == 1:
        return np.array(class_colors(int(labels.max()) + 1))[labels]
    return labels @ np.array(class_colors(labels.shape[1]))


def class_points(points: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the (C, 2) median point of each class: of points whose (N, C) label is that class alone."""
    return np.array(
        [np.median(points[share >= min(0.99, share.max())], axis=0) for share in labels.T]
    )


def plot_embedding(
    points: np.ndarray,
    labels: np.ndarray,
    names: list[str],
    title: str,
    axis: Axes,
    values: np.ndarray,
) -> PathCollection:
    """Scatter points by ``values``; each class is named at its median point. Points of value 0 are open rings.

    Args:
        points: (N, 2).
        labels: (N, C) distributions.
        names: of the C classes.
        title: of the axis.
        axis: to draw on.
        values: (N,) at least 0, to color by, from pale (lowest) to dark, dark ones on top.

    Returns:
        The scattered points, for a color bar.
    """
    order = np.argsort(values, kind="stable")
    order = order[values[order] > 0]
    axis.scatter(*points[values == 0].T, s=14, facecolors="none", edgecolors="0.7", linewidths=0.8)
    scattered = axis.scatter(
        *points[order].T, s=18, linewidths=0, c=values[order], cmap=VALUE_MAP, vmin=0
    )
    for point, name, color in zip(
        class_points(points, labels), names, class_colors(len(names)), strict=True
    ):
        axis.text(
            *point,
            name,
            ha="center",
            va="center",
            fontsize=9,
            fontweight="bold",
            parse_math=False,
            bbox={"fc": "white", "ec": color, "alpha": 0.8, "boxstyle": "round,pad=0.15"},
        )
    axis.set(title=title, xticks=[], yticks=[])
    sns.despine(ax=axis, left=True, bottom=True)
    return scattered


def plot_curves(log: pd.DataFrame, axes: np.ndarray) -> np.ndarray:
    """Draw a run's log on two axes: the loss between chance and its floor, and the accuracies on the way."""
    loss, accuracy = axes
    floor = log.label_entropy
    cross_entropy = floor + log.kl  # the loss, without a temperature / base_temperature factor
    loss.fill_between(
        log.epoch,
        floor,
        cross_entropy,
        color=LATENT_COLOR,
        alpha=0.4,
        linewidth=0,
        label="KL: left to learn",
    )
    loss.fill_between(
        log.epoch,
        0,
        floor,
        color=LABEL_COLOR,
        alpha=0.25,
        linewidth=0,
        label="floor: the labels' entropy",
    )
    loss.plot(log.epoch, cross_entropy, color=LATENT_COLOR)
    loss.plot(log.epoch, floor, color=LABEL_COLOR)
    loss.set(xlabel="epoch", ylabel="nats", title="loss")
    top = cross_entropy.max()
    if "chance" in log and log.chance.notna().all():
        loss.plot(log.epoch, log.chance, color="0.3", linestyle=":", label="chance: knows nothing")
        top = max(top, log.chance.max())
    loss.set(ylim=(0, 1.05 * top), xlim=(0, log.epoch.max()))
    loss.legend(frameon=False, fontsize=10)
    measured = {"knn_accuracy": ("kNN on features", "0.25"), "accuracy": ("classifier", "0.6")}
    for name, (label, color) in measured.items():
        known = log[["epoch", name]].dropna()
        if len(known):
            accuracy.plot(
                known.epoch, 100 * known[name], "-o", color=color, label=label, clip_on=False
            )
    accuracy.set(
        xlabel="epoch", ylabel="test accuracy, %", title="accuracy on the way", xlim=loss.get_xlim()
    )
    accuracy.grid(axis="y", alpha=0.4)
    if accuracy.get_legend_handles_labels()[
        0
    ]:  # none is measured before the first ``eval_every`` epochs
        accuracy.legend(frameon=False, fontsize=10, loc="lower right")
    return axes


def half_interval(values: np.ndarray) -> float:
    """Return half the width of the 95 % interval (Student's t) of a mean; 0 for a single value."""
    interval = t_interval(values)
    return interval.high - interval.mean if interval.count > 1 else 0.0


def plot_gains(gains: dict[str, np.ndarray], axis: Axes, digits: int = 1) -> Axes:
    """Draw differences in percentage points, one for each seed: dots, with their mean and its 95 % interval.

    Args:
        gains: what is compared -> (seeds,) differences.
        axis: to draw on.
        digits: of the numbers beside it.
    """
    differences = {}
    for name, gain in gains.items():
        mean, half = np.mean(gain), half_interval(gain)
        differences[name] = gain, (mean, mean - half, mean + half)
    return draw_differences(differences, axis, "black: mean, 95 % interval", digits)


def draw_differences(
    differences: dict[str, tuple[np.ndarray, tuple[float, float, float]]],
    axis: Axes,
    legend: str,
    digits: int = 1,
    **names,
) -> Axes:
    """Draw a dot for each seed and their mean with its bounds, in percentage points; ``names``: their style.

    Args:
        differences: what is compared -> (seeds,) differences; and their mean, low and high.
        axis: to draw on.
        legend: what dots and bars are.
        digits: of the numbers beside them.
    """
    for y, (values, (mean, low, high)) in enumerate(differences.values()):
        axis.plot(
            values, np.full(len(values), y), "o", color="0.7", markersize=7, markeredgewidth=0
        )
        axis.errorbar(mean, y, xerr=[[mean - low], [high - mean]], color="black", **MEAN_STYLE)
        axis.text(
            1.02,
            y,
            "{} ({} to {})".format(*signed(mean, low, high, digits=digits)),
            va="center",
            fontsize=11,
            transform=axis.get_yaxis_transform(),
        )
    axis.axvline(0, color="black", linewidth=1)
    axis.set_yticks(range(len(differences)), differences, **names)
    axis.set_ylim(len(differences) - 0.5, -0.5)
    axis.set_xlabel(f"difference in accuracy, percentage points: {legend}")
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x", alpha=0.4)
    sns.despine(ax=axis, left=True)
    return axis
