"""Pictures of lesson 04: boxes, owners of pixels, what mixing does to similarity, and whether it helps."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from genscl_lessons.figures.digits import DIFFERENCE_MAP, stamp_below
from genscl_lessons.plots import (
    CLASS_COLORS,
    LABEL_COLOR,
    LATENT_COLOR,
    SIMILARITY_MAP,
    class_ticks,
    half_interval,
    label_colors,
)


def draw_boxes(axes: np.ndarray, boxes: list[tuple[int, int, int]], pixels: int) -> np.ndarray:
    """Outline CutMix's boxes as drawn, (row, column, half a side) each, also where they leave the image."""
    for axis, (row, column, half) in zip(axes, boxes, strict=True):
        corner = column - half - 0.5, row - half - 0.5
        axis.add_patch(
            plt.Rectangle((-0.5, -0.5), pixels, pixels, fill=False, edgecolor="0.7", linewidth=1)
        )
        dashes = {"fill": False, "edgecolor": LATENT_COLOR, "linewidth": 2, "linestyle": "--"}
        axis.add_patch(plt.Rectangle(corner, 2 * half, 2 * half, **dashes))
        axis.set(xlim=(-0.22 * pixels, 1.22 * pixels), ylim=(1.22 * pixels, -0.22 * pixels))
    return axes


def plot_kept(axis: Axes, drawn: np.ndarray, kept: np.ndarray, title: str) -> Axes:
    """Scatter the share of pixels an image keeps over the share that was drawn, (N,) each."""
    axis.plot([0, 1], [0, 1], color="0.6", linewidth=1.5, zorder=0)
    axis.scatter(drawn, kept, s=9, color=LABEL_COLOR, alpha=0.5, linewidths=0)
    gap = (kept - drawn).mean()
    text = f"{100 * gap:.0f} points more\nthan drawn, on average"
    axis.text(0.97, 0.06, text, ha="right", va="bottom", fontsize=11)
    axis.set(xlim=(0, 1.02), ylim=(0, 1.02), aspect="equal", title=title)
    axis.set(xlabel="drawn $\\lambda$", ylabel="pixels really kept")
    return axis


def owner_picture(owners: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Color each pixel of N mixed images by its origin: (N, K, H, W) shares of K images -> (N, H, W, 3)."""
    return np.einsum("nkhw,kc->nhwc", owners, label_colors(classes))


def show_owners(
    images: np.ndarray, owners: np.ndarray, classes: np.ndarray, labels: np.ndarray
) -> Figure:
    """Show mixed images, under each whose pixels they are, and under that the mixed label as one bar.

    Args:
        images: (N, channels, H, W) mixed.
        owners: (N, N, H, W), how much of each pixel comes from which image of the batch.
        classes: (N,) of the images before mixing.
        labels: (N, C) mixed.
    """
    size, pictures = (1.3 * len(images) + 0.4, 3.3), owner_picture(owners, classes)
    figure, axes = plt.subplots(3, len(images), figsize=size, height_ratios=(1, 1, 0.3))
    for column, image, picture, label in zip(axes.T, images, pictures, labels, strict=True):
        column[0].imshow(np.moveaxis(image, 0, -1).squeeze(), cmap="gray_r", vmin=0, vmax=1)
        column[1].imshow(picture)
        left = 0.0
        for c in np.flatnonzero(label > 0):
            column[2].barh(0, label[c], left=left, color=CLASS_COLORS[c], height=1)
            if label[c] > 0.12:
                column[2].text(
                    left + label[c] / 2,
                    0,
                    c,
                    ha="center",
                    va="center",
                    fontsize=12,
                    fontweight="bold",
                )
            left += label[c]
        column[2].set(xlim=(0, 1), ylim=(-0.5, 0.5))
        for axis in column:
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
    for axis, name in zip(axes[:, 0], ("image", "whose pixels", "label"), strict=True):
        axis.set_ylabel(name, fontsize=11)
    return figure


def plot_sweep(
    axis: Axes,
    shares: np.ndarray,
    curves: dict[int, tuple[np.ndarray, np.ndarray]],
    images: np.ndarray,
) -> Axes:
    """Draw how similar a blend is to its two parents, by distributions (lines) and by argmax (dashes).

    Args:
        shares: (S,) of the first parent.
        curves: class of a parent -> (S,) similarities by distributions, and by argmax.
        images: (B, H, W), blends at B even shares from 0 to 1, drawn under the axis.
    """
    for c, (soft, hard) in curves.items():
        axis.plot(
            shares,
            hard,
            color=CLASS_COLORS[c],
            linewidth=2,
            linestyle=(0, (4, 2)),
            drawstyle="steps-mid",
        )
        axis.plot(
            shares, soft, color=CLASS_COLORS[c], linewidth=3.5, label=f"similarity to class {c}"
        )
    axis.plot([], [], color="0.4", linewidth=3.5, label="by distributions")
    axis.plot([], [], color="0.4", linewidth=2, linestyle=(0, (4, 2)), label="by argmax")
    first, second = (np.array(CLASS_COLORS[c]) for c in curves)
    places = np.linspace(0, 1, len(images))
    for x, image in zip(places, images, strict=True):
        stamp_below(axis, image, x, x * first + (1 - x) * second, 26, drop=22)
    axis.set(xlim=(-0.02, 1.02), ylim=(-0.03, 1.05), ylabel="similarity")
    axis.set_xticks(places, [f"{x:.2f}" for x in places])
    axis.set_xlabel(f"share of the {next(iter(curves))}", labelpad=34)
    axis.legend(frameon=False, fontsize=10, loc="center left", bbox_to_anchor=(0, 0.42))
    return axis


def plot_label_kinds(hard: np.ndarray, soft: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Show (M, M) similarities by argmax, by distributions, and their difference; rows sorted by class."""
    order = np.argsort(classes, kind="stable")
    figure, axes = plt.subplots(1, 3, figsize=(10.8, 3.5))
    shown = {"argmax": hard, "distributions": soft, "argmax minus distributions": hard - soft}
    for axis, (title, matrix) in zip(axes, shown.items(), strict=True):
        colors, least, most = (
            (DIFFERENCE_MAP, -0.5, 0.5) if axis is axes[2] else (SIMILARITY_MAP, 0, 1)
        )
        matrix = matrix[np.ix_(order, order)]
        picture = axis.imshow(matrix, cmap=colors, vmin=least, vmax=most, interpolation="nearest")
        axis.set_title(title)
        class_ticks(axis, classes[order])
        axis.spines[:].set_visible(False)
        if axis is not axes[0]:
            bar = figure.colorbar(
                picture, ax=axis, shrink=0.8, aspect=15, ticks=sorted({least, 0, most})
            )
    bar.ax.set_yticklabels(["denied,\n0.5 or more", "agree", "invented,\n0.5 or more"])
    return axes


def plot_beta_draws(
    draws: dict[float, np.ndarray], one: np.ndarray, other: np.ndarray
) -> np.ndarray:
    """Draw a histogram of lam for alpha -> (draws,), beneath it blends of two (H, W) images at deciles."""
    figure, axes = plt.subplots(
        2, len(draws), figsize=(3.5 * len(draws), 3.3), height_ratios=(3, 1)
    )
    for (top, strip), (alpha, lam) in zip(axes.T, draws.items(), strict=True):
        top.hist(
            lam, bins=20, range=(0, 1), density=True, color=LABEL_COLOR, ec="white", linewidth=0.5
        )
        top.set(title=f"$\\alpha$ = {alpha:g}", xlabel="$\\lambda$", yticks=[], xlim=(0, 1))
        top.spines["left"].set_visible(False)
        shares = np.quantile(lam, (0.1, 0.3, 0.5, 0.7, 0.9))
        blends = [share * one + (1 - share) * other for share in shares]
        gap = np.zeros((len(one), 3))
        parts = [part for blend in blends for part in (blend, gap)][:-1]
        strip.imshow(np.hstack(parts), cmap="gray_r", vmin=0, vmax=1)
        strip.axis("off")
    axes[0, 0].set_ylabel("how often")
    return axes


def show_owner_rows(rows: dict[str, np.ndarray], classes: np.ndarray) -> Figure:
    """Show, for each way to draw, whose pixels a batch's images are: name -> (N, N, H, W) owners."""
    count = len(classes)
    figure, axes = plt.subplots(len(rows), count, figsize=(1.2 * count + 1, 1.3 * len(rows)))
    for line, (name, owners) in zip(axes, rows.items(), strict=True):
        for axis, picture in zip(line, owner_picture(owners, classes), strict=True):
            axis.imshow(picture)
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        line[0].set_ylabel(name, fontsize=11, rotation=0, ha="right", va="center")
    return figure


def show_mixed_photos(rows: dict[str, tuple[np.ndarray, np.ndarray]], names: list[str]) -> Figure:
    """Show mixtures of two photographs: name -> (S, 3, H, W) images and (S, 2) labels, said beneath."""
    count = len(next(iter(rows.values()))[0])
    figure, axes = plt.subplots(
        len(rows), count, figsize=(1.95 * count, 2.35 * len(rows)), layout="constrained"
    )
    for line, (name, (images, labels)) in zip(axes, rows.items(), strict=True):
        for axis, image, label in zip(line, images, labels, strict=True):
            axis.imshow(np.clip(np.moveaxis(image, 0, -1), 0, 1), interpolation="nearest")
            named = zip(label, names, strict=True)
            shares = [f"{100 * share:.0f} % {what}" for share, what in named if share > 0]
            axis.set_xlabel("\n".join(shares) + "\n" * (len(shares) == 1), fontsize=11)
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        line[0].set_ylabel(name, fontsize=13, fontweight="bold")
    return figure


def plot_three_ways(runs: dict[str, np.ndarray], kinds: list[str]) -> np.ndarray:
    """Draw accuracies of three kinds of training, a line a seed, for two runs; for all, what each step brings.

    Args:
        runs: where they ran -> (S, 3) accuracies in percent.
        kinds: names of the three, in this order; each differs from the one before in one thing.

    Returns:
        The axes; the last has mean differences of neighbors, with 95 % intervals (Student's t over seeds).
    """
    axes = plt.subplots(1, 3, figsize=(11, 3.8), width_ratios=(1.15, 1.15, 1.3))[1]
    for axis, (name, values) in zip(axes[:2], runs.items(), strict=False):
        axis.plot([0, 1, 2], values.T, "o-", color="0.7", linewidth=1, markersize=4)
        axis.plot([0, 1, 2], values.mean(axis=0), "o-", color="black", linewidth=3, markersize=9)
        axis.set_xticks([0, 1, 2], kinds, fontsize=10)
        axis.set(xlim=(-0.4, 2.4), ylabel="test accuracy, %")
        axis.set_title(name, fontsize=11)
    names, style = [], {"fmt": "o", "markersize": 8, "capsize": 5, "linewidth": 2.5}
    for name, values in runs.items():
        for k, what in ((0, "blended pictures"), (1, "soft label")):
            gain, y = values[:, k + 1] - values[:, k], -len(names)
            color = ("black", LABEL_COLOR)[k]
            axes[-1].plot(gain, np.full(len(gain), y), "o", color="0.7", markersize=4)
            axes[-1].errorbar(gain.mean(), y, xerr=half_interval(gain), color=color, **style)
            names.append(f"{what}\n{name.split(',')[0]}")
    axes[-1].axvline(0, color="black", linewidth=1)
    axes[-1].set_yticks(-np.arange(len(names)), names, fontsize=10)
    axes[-1].set(ylim=(0.5 - len(names), 0.5), xlabel="gain, points")
    axes[-1].set_title("mean, 95 % interval", fontsize=11, fontweight="normal")
    return axes
