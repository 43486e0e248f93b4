"""Pictures of lesson 02: labels as columns and arrows, and the matrices of their similarity."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from genscl_lessons.figures.binary_supcon import draw_arrow
from genscl_lessons.figures.digits import image_ticks, stamp, stamp_below
from genscl_lessons.plots import CLASS_COLORS, LABEL_COLOR, SIMILARITY_MAP, class_colors


def plot_label_columns(labels: dict[str, np.ndarray], images: dict[str, np.ndarray]) -> np.ndarray:
    """Draw title -> (N, C) label distributions as stacked columns, over title -> (N, 8, 8) images.

    Images are framed in the color of the label's largest class.

    Returns:
        The axes, one for each title.
    """
    _, axes = plt.subplots(len(labels), 1, figsize=(11, 1.62 * len(labels)), sharex=True)
    for axis, (title, y) in zip(axes, labels.items(), strict=True):
        y = np.asarray(y)
        for c, below in enumerate((y.cumsum(axis=1) - y).T):
            axis.bar(
                np.arange(len(y)),
                y[:, c],
                0.86,
                below,
                color=class_colors(y.shape[1])[c],
                linewidth=0,
            )
        axis.set(ylim=(0, 1), yticks=[0, 1], xlim=(-0.6, len(y) - 0.4))
        axis.set_ylabel(title, fontsize=11)
        image_ticks(axis, images[title], y.argmax(axis=1), size=26)
        axis.spines[:].set_visible(False)
        axis.tick_params(length=0)
    for c, color in enumerate(class_colors(y.shape[1])):
        axes[0].plot([], [], "s", color=color, markersize=10, label=str(c))
    axes[0].legend(
        frameon=False,
        ncols=y.shape[1],
        loc="lower left",
        bbox_to_anchor=(0, 1),
        columnspacing=1.2,
        handletextpad=0.1,
    )
    return axes


def plot_label_matrices(
    matrices: dict[str, np.ndarray], labels: dict[str, np.ndarray]
) -> np.ndarray:
    """Show title -> (N, N) label similarities, the (N, C) labels as bars along the left and the top of each.

    Returns:
        The axes, two in a row.
    """
    lines = -(-len(matrices) // 2)
    figure, axes = plt.subplots(lines, 2, figsize=(9.6, 4.5 * lines), squeeze=False)
    for axis, (title, matrix) in zip(axes.flat, matrices.items(), strict=True):
        picture = axis.imshow(np.asarray(matrix), cmap=SIMILARITY_MAP, vmin=0, vmax=1)
        y, rows = np.asarray(labels[title]), len(matrix)
        bar, start = rows / 5, -0.5 - rows / 5 - rows / 40
        for c, before in enumerate((y.cumsum(axis=1) - y).T):
            look = {"color": class_colors(y.shape[1])[c], "linewidth": 0}
            axis.barh(np.arange(rows), bar * y[:, c], 0.84, start + bar * before, **look)
            axis.bar(np.arange(rows), bar * y[:, c], 0.84, start + bar * before, **look)
        axis.set(
            title=title, xlim=(start, rows - 0.5), ylim=(rows - 0.5, start), xticks=[], yticks=[]
        )
        axis.spines[:].set_visible(False)
    figure.colorbar(picture, ax=axes, shrink=0.5, label="similarity $s_{ij}$")
    for c, color in enumerate(class_colors(y.shape[1])):
        axes[-1, 0].plot([], [], "s", color=color, markersize=10, label=str(c))
    figure.legend(
        *axes[-1, 0].get_legend_handles_labels(),
        frameon=False,
        ncols=y.shape[1],
        loc="outside lower center",
        columnspacing=1.2,
        handletextpad=0.1,
    )
    return axes


def plot_written_matrix(
    matrix: np.ndarray, images: np.ndarray, labels: np.ndarray, axis: Axes
) -> Axes:
    """Show an (N, N) similarity with its values written in, and its images along both sides."""
    matrix = np.asarray(matrix)
    axis.imshow(matrix, cmap=SIMILARITY_MAP, vmin=0, vmax=1)
    for (row, column), value in np.ndenumerate(matrix):
        color = "white" if value < 0.6 else "black"
        axis.text(column, row, f"{value:.2f}", ha="center", va="center", color=color)
    axis.spines[:].set_visible(False)
    return image_ticks(image_ticks(axis, images, labels, "x", 34), images, labels, "y", 34)


def plot_label_arrows(
    labels: np.ndarray, images: np.ndarray, names: tuple[str, str], axis: Axes
) -> Axes:
    """Draw (N, 2) labels over two classes as arrows, with (N, 8, 8) images and the cosine to the first."""
    labels = np.asarray(labels)
    unit = labels / np.linalg.norm(labels, axis=1, keepdims=True)
    axis.plot([0, 1], [1, 0], color="0.7", linestyle=":", zorder=0)
    colors = labels @ np.array([CLASS_COLORS[int(name)] for name in names])
    for label, way, image, color in zip(labels, unit, images, colors, strict=True):
        draw_arrow(axis, np.zeros(2), label, color, 2.5)
        stamp(axis, image, tuple(label + 0.11 * way), color, size=26)
        axis.text(
            *(label + 0.11 * way + (0.09, 0)), f"cos {way @ unit[0]:.2f}", va="center", fontsize=11
        )
    axis.set(
        xlim=(-0.06, 1.42),
        ylim=(-0.08, 1.2),
        aspect="equal",
        xticks=[0, 0.5, 1],
        yticks=[0, 0.5, 1],
        xlabel=f"share of {names[0]}",
        ylabel=f"share of {names[1]}",
    )
    axis.spines["left"].set_bounds(0, 1)
    axis.spines["bottom"].set_bounds(0, 1)
    return axis


def plot_measures(
    share: np.ndarray,
    curves: dict[str, np.ndarray],
    pictures: dict[float, np.ndarray],
    axis: Axes,
    marked: float | None = None,
) -> Axes:
    """Draw name -> (S,) similarities over the (S,) share of one class in a blend, blends below the axis.

    Args:
        pictures: share -> (8, 8) image, in place of tick labels.
        marked: a share to mark by a vertical line.
    """
    looks = (
        {"color": LABEL_COLOR, "linewidth": 3.5},
        {"color": "0.45", "linestyle": "--"},
        {"color": CLASS_COLORS[2]},
    )
    for (name, values), look in zip(curves.items(), looks, strict=True):
        axis.plot(np.asarray(share), np.asarray(values), label=name, **{"linewidth": 2.5} | look)
    if marked is not None:
        axis.axvline(marked, color="0.85", linewidth=7, zorder=0)
    for x, image in pictures.items():
        stamp_below(axis, image, x, "0.6", 24, width=1, drop=22)
    axis.set_xticks(list(pictures), [f"{x:g}" for x in pictures])
    axis.set(xlim=(-0.03, 1.03), ylim=(0, 1.05), ylabel="similarity")
    return axis


def plot_people(labels: np.ndarray, class_names: list[str], titles: list[str]) -> np.ndarray:
    """Draw (N, C) label distributions as columns, beside the matrix of their cosines with its values."""
    unit = labels / np.linalg.norm(labels, axis=1, keepdims=True)
    matrix, places = unit @ unit.T, np.arange(len(labels))
    figure, (columns, square) = plt.subplots(1, 2, figsize=(11, 4.4), width_ratios=(5.6, 4.4))
    for c, below in enumerate((labels.cumsum(axis=1) - labels).T):
        columns.bar(
            places,
            labels[:, c],
            0.86,
            below,
            color=class_colors(len(class_names))[c],
            linewidth=0,
            label=class_names[c] if labels[:, c].max() > 0.005 else None,
        )
    dark = [np.dot(color, (0.3, 0.59, 0.11)) < 0.45 for color in class_colors(len(class_names))]
    for place, label in zip(places, labels, strict=True):
        for c in np.flatnonzero(label > 0.12):
            columns.text(
                place,
                label[:c].sum() + label[c] / 2,
                class_names[c],
                ha="center",
                va="center",
                fontsize=10,
                color="white" if dark[c] else "black",
            )
    columns.set_xticks(places, titles)
    columns.tick_params(length=0)
    columns.set(
        ylabel="what people say", xlim=(-0.6, len(labels) - 0.4), ylim=(0, 1), yticks=[0, 0.5, 1]
    )
    columns.spines["bottom"].set_visible(False)
    figure.legend(
        *columns.get_legend_handles_labels(),
        frameon=False,
        ncols=5,
        loc="outside lower left",
        fontsize=10,
        columnspacing=1,
        handlelength=1,
    )
    square.imshow(matrix, cmap=SIMILARITY_MAP, vmin=0, vmax=1)
    for (row, column), value in np.ndenumerate(matrix):
        square.text(
            column,
            row,
            f"{value:.2f}",
            ha="center",
            va="center",
            fontsize=11,
            color="white" if value < 0.6 else "black",
        )
    square.set_xticks(places, titles, fontsize=11)
    square.set_yticks(places, titles, fontsize=11)
    square.tick_params(length=0)
    square.spines[:].set_visible(False)
    square.set_title("cosine of their labels")
    return np.array((columns, square))


def plot_resemblance(
    counts: dict[str, np.ndarray], images: np.ndarray, classes: np.ndarray, most: int, axis: Axes
) -> Axes:
    """Draw title -> (N,) effective numbers of contrasts over the images, and the most there can be."""
    looks = [("s", "0.3"), ("D", CLASS_COLORS[4]), ("o", CLASS_COLORS[2]), ("*", LABEL_COLOR)]
    for (title, values), (marker, color) in zip(counts.items(), looks, strict=True):
        size = 13 if marker == "*" else 8
        axis.plot(
            np.asarray(values),
            marker,
            color=color,
            markersize=size,
            label=title,
            linestyle="",
        )
    axis.axhline(most, color="0.7", linewidth=1)
    axis.text(len(images) - 0.4, most + 0.2, "all contrasts", ha="right", color="0.5", fontsize=10)
    axis.set(xlim=(-0.6, len(images) - 0.4), ylim=(0, most + 1.5), ylabel="contrasts resembled")
    return image_ticks(axis, images, classes, size=26)


def plot_asked_shares(
    w: dict[str, np.ndarray],
    anchor: int,
    images: dict[str, np.ndarray],
    labels: dict[str, np.ndarray],
) -> np.ndarray:
    """Draw title -> (N, N) shares of one anchor as bars, a row for each title; on the right, its label.

    Images: title -> (N, 8, 8), framed in the color of the largest class of labels: title -> (N, C).
    """
    _, axes = plt.subplots(len(w), 1, figsize=(11, 1.45 * len(w)), sharex=True, sharey=True)
    for axis, (title, shares) in zip(axes, w.items(), strict=True):
        share = np.asarray(shares[anchor])
        many = np.exp(-(share[share > 0] * np.log(share[share > 0])).sum())
        axis.bar(np.arange(len(share)), share, color=LABEL_COLOR)
        own = np.asarray(labels[title][anchor])
        large = [c for c in np.argsort(-own)[:2] if own[c] >= 0.1]
        caption = " + ".join(f"{own[c]:.0%} {c}" for c in large)
        caption += " + others" if own[large].sum() < 0.995 else ""
        axis.text(
            1.01,
            0.95,
            f"the anchor is\n{caption}\nand resembles\n{many:.1f} contrasts",
            va="top",
            fontsize=10,
            transform=axis.transAxes,
        )
        axis.set_ylabel(title, fontsize=11)
        image_ticks(axis, images[title], np.asarray(labels[title]).argmax(axis=1), size=22)
        axis.axvspan(anchor - 0.5, anchor + 0.5, color="0.9", zorder=0)
        axis.text(
            anchor,
            0.5,
            "the\nanchor",
            ha="center",
            va="center",
            fontsize=10,
            transform=axis.get_xaxis_transform(),
        )
    axes[0].set(xlim=(-0.6, len(share) - 0.4), ylim=(0, None))
    return axes
