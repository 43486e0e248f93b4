"""Pictures of notebooks 07 and 08: a run from images to a number, loss and accuracy of rows, calibration."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from genscl_lessons.plots import (
    CLASS_COLORS,
    LABEL_COLOR,
    LATENT_COLOR,
    SIMILARITY_MAP,
    row_colors,
)
from genscl_lite.train.methods import METHODS

ARROW = {"arrowstyle": "-|>", "color": "0.35", "linewidth": 1.4, "mutation_scale": 13}


def draw_run(
    columns: list[np.ndarray],
    labels: np.ndarray,
    features: np.ndarray,
    latents: np.ndarray,
    w: np.ndarray,
    p: np.ndarray,
    axis: Axes,
) -> Axes:
    """Draw what happens to two images on their way to the loss, and where the accuracy is measured.

    Args:
        columns: (2, H, W) images, their (4, H, W) views, those mixed; all in [0, 1], view by view.
        labels: (4, C) distributions of the mixed views.
        features: (4, F), shown gray.
        latents: (4, D), shown by their absolute values.
        w: (4, 4) what labels ask for.
        p: (4, 4) what latents say.
        axis: to draw on.
    """
    for x, pictures, title in zip(
        (0, 1.7, 3.4), columns, ("images", "two views", "mixed"), strict=True
    ):
        step = 4 / len(pictures)
        for k, picture in enumerate(pictures):
            top = step * k + (step - 1) / 2
            axis.imshow(
                picture, cmap="gray_r", vmin=0, vmax=1, extent=(x, x + 0.86, top + 0.86, top)
            )
            axis.add_patch(
                plt.Rectangle((x, top), 0.86, 0.86, fill=False, edgecolor="0.6", linewidth=0.8)
            )
        axis.text(x + 0.43, -0.25, title, ha="center", va="bottom", fontsize=11)
    for k, label in enumerate(labels):
        left = 4.4
        for share, color in zip(label, CLASS_COLORS, strict=True):
            axis.add_patch(
                plt.Rectangle((left, k + 0.2), 0.6 * share, 0.46, facecolor=color, linewidth=0)
            )
            left += 0.6 * share
    axis.text(4.7, -0.25, "$y$", ha="center", va="bottom", fontsize=12)
    _narrowing(axis, 5.6, 1.15, 3.9, 2.4, "encoder")
    _cells(axis, 7.3, np.abs(features), "features", "Greys")
    _narrowing(axis, 8.95, 0.85, 2.4, 1.6, "head")
    _cells(axis, 10.3, np.abs(latents), "latents $z$", "Oranges")
    for x, top, matrix, name, color in (
        (12.5, -0.1, w, "$w$: labels", LABEL_COLOR),
        (12.5, 2.3, p, "$p$: latents", LATENT_COLOR),
    ):
        axis.imshow(
            matrix, cmap=SIMILARITY_MAP, vmin=0, vmax=0.7, extent=(x, x + 1.7, top + 1.7, top)
        )
        axis.add_patch(
            plt.Rectangle((x, top), 1.7, 1.7, fill=False, edgecolor=color, linewidth=2.5)
        )
        axis.text(x + 1.85, top + 0.85, name, va="center", fontsize=11, color=color)
    axis.text(
        13.35,
        1.95,
        "loss: how far apart?",
        ha="center",
        va="center",
        fontsize=11,
        fontweight="bold",
    )
    for start, end in (
        (0.95, 1.6),
        (2.65, 3.3),
        (5.1, 5.5),
        (6.85, 7.2),
        (8.55, 8.85),
        (9.9, 10.2),
    ):
        axis.annotate("", (end, 2), (start, 2), arrowprops=ARROW)
    axis.annotate("", (12.4, 2.9), (11.6, 2.2), arrowprops=ARROW)
    axis.annotate(
        "", (12.4, 0.3), (4.7, 0.1), arrowprops=ARROW | {"connectionstyle": "arc3,rad=-0.13"}
    )
    axis.annotate("", (7.9, 4.35), (7.9, 3.5), arrowprops=ARROW | {"linestyle": "--"})
    axis.text(
        7.9,
        4.45,
        "after training: kNN and a linear classifier on the frozen features → accuracy",
        ha="center",
        va="top",
        fontsize=11,
    )
    axis.set(xlim=(-0.1, 16.2), ylim=(4.9, -0.95), aspect="equal")
    axis.axis("off")
    return axis


def _narrowing(axis: Axes, x: float, width: float, left: float, right: float, name: str) -> None:
    corners = [
        (x, 2 - left / 2),
        (x + width, 2 - right / 2),
        (x + width, 2 + right / 2),
        (x, 2 + left / 2),
    ]
    axis.add_patch(plt.Polygon(corners, facecolor="0.92", edgecolor="0.35", linewidth=1.2))
    axis.text(x + width / 2, 2, name, ha="center", va="center", fontsize=11)


def _cells(axis: Axes, x: float, rows: np.ndarray, name: str, colors: str) -> None:
    """Show the first eight numbers of each row, the largest darkest."""
    shown = rows[:, :8] / rows[:, :8].max()
    axis.imshow(shown, cmap=colors, vmin=0, vmax=1.2, extent=(x, x + 1.2, 3.2, 0.8), aspect="auto")
    axis.add_patch(plt.Rectangle((x, 0.8), 1.2, 2.4, fill=False, edgecolor="0.35", linewidth=1.2))
    axis.text(x + 0.6, 0.65, name, ha="center", va="bottom", fontsize=11)


def plot_ways(ways: pd.DataFrame, own: pd.DataFrame, axis: Axes) -> Axes:
    """Draw accuracy over the share of the way from chance to the floor: a dot a run, a color a row.

    Args:
        ways: ``method``, ``way`` and ``accuracy`` (fractions) of finished runs.
        own: the same of the runs that are ringed.
        axis: to draw on.
    """
    for method, color in row_colors(ways.method.unique()).items():
        runs = ways[ways.method == method]
        title = METHODS[method].title
        axis.plot(100 * runs.way, 100 * runs.accuracy, "o", color=color, alpha=0.3, mew=0)
        means = 100 * runs.way.mean(), 100 * runs.accuracy.mean()
        axis.plot(*means, "o", color=color, markersize=11, label=f"{title}, {len(runs)} runs")
    axis.plot(
        100 * own.way,
        100 * own.accuracy,
        "o",
        color="black",
        fillstyle="none",
        markersize=15,
        markeredgewidth=2,
        label="the run above",
    )
    axis.set(xlabel="share of the way from chance to the floor, %", ylabel="test accuracy, %")
    axis.set_xlim(right=102)
    axis.grid(alpha=0.4)
    axis.legend(frameon=False, fontsize=10, loc="center left", bbox_to_anchor=(1.02, 0.5))
    return axis


def plot_calibration(confidence: np.ndarray, right: np.ndarray, axis: Axes, bins: int = 15) -> Axes:
    """Draw, for bins of the (T,) confidence, the share of predictions that are right, and their number."""
    bin_of = np.clip(np.ceil(confidence * bins).astype(int), 1, bins) - 1
    for b in range(bins):
        inside = bin_of == b
        if not inside.any():
            continue
        accuracy, sure, middle = right[inside].mean(), confidence[inside].mean(), (b + 0.5) / bins
        axis.bar(middle, accuracy, 0.9 / bins, color="0.75", label="share that is right")
        gap = {"color": LATENT_COLOR, "linewidth": 3, "label": "gap to the mean confidence"}
        axis.plot([middle, middle], [accuracy, sure], solid_capstyle="butt", **gap)
        axis.text(middle, 1.03, str(inside.sum()), ha="center", va="bottom", fontsize=9)
    axis.plot(
        [0, 1], [0, 1], color="black", linewidth=1, linestyle="--", label="perfectly calibrated"
    )
    axis.text(0.02, 1.03, "images:", va="bottom", fontsize=9)
    axis.set(xlim=(0, 1), ylim=(0, 1.1), xlabel="confidence: the largest probability")
    axis.set(ylabel="share that is right")
    axis.set_yticks(np.linspace(0, 1, 6))
    handles = dict(zip(*axis.get_legend_handles_labels()[::-1], strict=True))  # one of each name
    axis.legend(
        handles.values(),
        handles,
        frameon=False,
        fontsize=10,
        loc="center left",
        bbox_to_anchor=(1.02, 0.5),
    )
    return axis
