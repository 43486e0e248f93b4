"""Pictures of what the kit computes: arrays in, matplotlib Axes out. Nothing is shown or saved here."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from genscl_lite.config import METHODS

FAMILY_COLOURS = {"cross_entropy": "#7f7f7f", "instance": "#bcbd22", "label": "#4c9a52"}
"""Classifiers gray, SimCLR olive, SupCon and GenSCL green."""


def set_style() -> None:
    """Set the look of all notebooks: plain, readable, PNG at 100 dpi."""
    sns.set_theme(context="notebook", style="ticks", rc={
        "figure.dpi": 100, "savefig.dpi": 100, "axes.spines.top": False, "axes.spines.right": False,
        "axes.titlesize": 12, "axes.titleweight": "bold", "figure.constrained_layout.use": True,
    })  # fmt: skip


def show_images(images: np.ndarray, titles: list[str], columns: int = 8) -> Figure:
    """Show (N, channels, H, W) images in [0, 1], a title above each."""
    rows = -(-len(images) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(1.25 * columns, 1.5 * rows), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, image, title in zip(axes.flat, images, titles, strict=False):
        picture = np.clip(np.moveaxis(image, 0, -1), 0, 1)
        axis.imshow(picture.squeeze(), cmap="gray_r", vmin=0, vmax=1)
        axis.set_title(title, fontsize=9, fontweight="normal")
    return figure


def plot_similarities(
    matrices: dict[str, np.ndarray], classes: np.ndarray, rows: int = 80, top: float = 1.0, scale: str = "similarity"
) -> np.ndarray:
    """Show (M, M) similarities side by side, with the same ``rows`` rows in the same order and colours.

    Args:
        matrices: title -> similarities; the first is usually the labels'.
        classes: (M,) class of each row, for order and ticks.
        rows: how many rows, spread evenly over the sorted classes, are shown.
        top: the similarity that has the brightest colour.
        scale: what the colour bar says.

    Returns:
        The axes, one for each matrix.
    """
    order = np.argsort(classes, kind="stable")
    order = order[np.linspace(0, len(order) - 1, min(rows, len(order))).astype(int)]
    figure, axes = plt.subplots(1, len(matrices), figsize=(4.1 * len(matrices) + 0.6, 4.3), squeeze=False)
    borders = np.flatnonzero(np.diff(classes[order])) + 0.5
    starts, ends = np.r_[-0.5, borders], np.r_[borders, len(order) - 0.5]
    for axis, (title, matrix) in zip(axes.flat, matrices.items(), strict=True):
        picture = axis.imshow(matrix[np.ix_(order, order)], cmap="magma", vmin=0, vmax=top, interpolation="nearest")
        axis.set_title(title)
        axis.set_xticks((starts + ends) / 2, classes[order][(ends - 0.5).astype(int)])
        axis.set_yticks((starts + ends) / 2, classes[order][(ends - 0.5).astype(int)])
        axis.tick_params(length=0)
        sns.despine(ax=axis, left=True, bottom=True)
    figure.colorbar(picture, ax=axes[0, -1], shrink=0.8, label=scale)
    return axes[0]


def plot_embedding(points: np.ndarray, classes: np.ndarray, names: list[str], title: str, axis: Axes) -> Axes:
    """Scatter (N, 2) points coloured by class, each class named at its median."""
    colours = sns.color_palette("tab10" if len(names) <= 10 else "husl", len(names))
    axis.scatter(*points.T, c=[colours[c] for c in classes], s=12, linewidths=0)
    for c in np.unique(classes):
        x, y = np.median(points[classes == c], axis=0)
        axis.text(x, y, names[c], ha="center", va="center", fontweight="bold",
                  bbox={"facecolor": "white", "edgecolor": colours[c], "alpha": 0.85, "boxstyle": "round,pad=0.2"})
    axis.set(title=title, xticks=[], yticks=[])
    sns.despine(ax=axis, left=True, bottom=True)
    return axis


def plot_curves(log: pd.DataFrame, axes: np.ndarray) -> np.ndarray:
    """Draw a run's log on two axes: the loss above its floor, and the accuracies measured on the way."""
    loss, accuracy = axes
    cross_entropy = log.label_entropy + log.kl  # the loss, without a temperature / base_temperature factor
    loss.plot(log.epoch, cross_entropy, color="#c44e52", label="cross-entropy")
    loss.plot(log.epoch, log.label_entropy, color="#4c72b0", label="its floor: label entropy")
    loss.fill_between(log.epoch, log.label_entropy, cross_entropy, color="#c44e52", alpha=0.15, label="KL: still to learn")
    loss.set(xlabel="epoch", ylabel="nats", title="Loss", ylim=(0, None))
    loss.legend(frameon=False)
    for name, label in (("knn_accuracy", "kNN on features"), ("accuracy", "classifier")):
        known = log[["epoch", name]].dropna()
        if len(known):
            accuracy.plot(known.epoch, 100 * known[name], marker="o", label=label)
    accuracy.set(xlabel="epoch", ylabel="test accuracy, %", title="Accuracy on the way", xlim=loss.get_xlim())
    accuracy.legend(frameon=False)
    return axes


def plot_table(runs: pd.DataFrame, table: pd.DataFrame, axis: Axes) -> Axes:
    """Draw each method's runs as dots, their mean with its standard error, and the published number as a diamond."""
    for y, row in enumerate(table.itertuples()):
        accuracy = 100 * runs.accuracy_last[runs.method == row.method]
        colour = FAMILY_COLOURS[METHODS[row.method].objective]
        axis.plot(accuracy, np.full(len(accuracy), y), "o", color=colour, alpha=0.35, markersize=6, markeredgewidth=0)
        error = 0 if pd.isna(row.accuracy_sd) else 100 * row.accuracy_sd / row.seeds**0.5
        axis.errorbar(100 * row.accuracy_mean, y, xerr=error, fmt="o", color=colour, markersize=9, capsize=4, linewidth=2)
        if not pd.isna(row.published):
            axis.plot(100 * row.published, y, "D", color="black", fillstyle="none", markersize=8)
    axis.set_yticks(range(len(table)), [METHODS[method].title for method in table.method])
    axis.set(ylim=(len(table) - 0.5, -0.5), xlabel="test accuracy, %")
    axis.plot([], [], "o", color="black", markersize=9, label="mean ± standard error")
    axis.plot([], [], "o", color="black", alpha=0.35, markersize=6, markeredgewidth=0, label="one seed")
    if table.published.notna().any():
        axis.plot([], [], "D", color="black", fillstyle="none", markersize=8, label="published")
    axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(0, -0.13), ncols=3)
    axis.grid(axis="x", alpha=0.4)
    return axis
