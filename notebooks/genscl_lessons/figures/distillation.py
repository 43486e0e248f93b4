"""Pictures of lesson 05: what a teacher confuses, its temperature, what a student inherits, over seeds."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from genscl_lessons.plots import (
    LABEL_COLOR,
    LATENT_COLOR,
    MEAN_STYLE,
    SIMILARITY_MAP,
    class_colors,
    half_interval,
)


def plot_class_matrices(
    matrices: dict[str, np.ndarray],
    scale: str,
    top: float | None = None,
    figure: Figure | None = None,
) -> np.ndarray:
    """Show (C, C) class-to-class means side by side on one scale. The diagonal, far above all, is left blank.

    Args:
        matrices: title -> means; row: the class of the image, column: the class it is compared with.
        scale: what the color bar says.
        top: the value that has the brightest color; default: the largest off any diagonal.
        figure: figure or subfigure to draw on; default: a new one.

    Returns:
        The axes, one for each matrix.
    """
    side = min(3.2, 10.2 / len(matrices))
    figure = figure or plt.figure(figsize=(side * len(matrices) + 0.8, side + 0.3))
    axes = figure.subplots(1, len(matrices), squeeze=False)[0]
    shown = {
        name: np.where(np.eye(len(mean), dtype=bool), np.nan, mean)
        for name, mean in matrices.items()
    }
    top = top or max(np.nanmax(matrix) for matrix in shown.values())
    for axis, (title, matrix) in zip(axes, shown.items(), strict=True):
        axis.set_facecolor("0.8")
        picture = axis.imshow(matrix, cmap=SIMILARITY_MAP, vmin=0, vmax=top)
        axis.set_title(title, fontsize=11)
        ticks = np.arange(len(matrix))
        axis.set(xticks=ticks, yticks=ticks if axis is axes[0] else [])
        axis.tick_params(length=0, labelsize=10, pad=2)
        axis.spines[:].set_visible(False)
        for labels in (axis.get_xticklabels(), axis.get_yticklabels()):
            for label, color in zip(labels, class_colors(len(ticks)), strict=False):
                label.set(color=color, fontweight="bold")
    figure.colorbar(picture, ax=axes[-1], shrink=0.85, label=scale)
    return axes


def plot_difficulty(elsewhere: np.ndarray, axis: Axes) -> Axes:
    """Draw how much of its probability each of C classes gives to others, (C,) fractions, as bars."""
    axis.bar(range(len(elsewhere)), 100 * elsewhere, color=class_colors(len(elsewhere)))
    axis.set(xticks=range(len(elsewhere)), xlabel="digit", ylabel="given to others, %")
    axis.set_title("how hard a digit is", fontsize=11)
    axis.tick_params(axis="x", length=0)
    return axis


def plot_choice(
    temperatures: np.ndarray, curves: dict[str, np.ndarray], marked: list[float], axis: Axes
) -> Axes:
    """Draw what labels say about other classes against the teacher's temperature, a line for each teacher.

    Args:
        temperatures: (T,).
        curves: name of a teacher -> (T,) nats; the highest point is marked.
        marked: temperatures shown elsewhere, as dotted lines.
    """
    for (name, curve), style in zip(curves.items(), ("-", "--"), strict=False):
        axis.semilogx(temperatures, curve, style, color=LABEL_COLOR, linewidth=3, label=name)
        best = np.argmax(curve)
        axis.plot(temperatures[best], curve[best], "o", color=LABEL_COLOR, markersize=10)
        axis.annotate(
            f"T = {temperatures[best]:.1f}",
            (temperatures[best], curve[best]),
            (0, 9),
            ha="center",
            textcoords="offset points",
            fontsize=11,
        )
    top = 1.6 * max(curve.max() for curve in curves.values())
    for temperature in marked:
        axis.axvline(temperature, color="0.75", linestyle=":", zorder=0)
    axis.xaxis.set_major_locator(FixedLocator([0.1, 0.25, 0.5, 1, 2, 4, 8]))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter("{x:g}")
    axis.set(xlabel="teacher temperature T", ylabel="said about other digits, nats", ylim=(0, top))
    axis.legend(frameon=True, framealpha=1, edgecolor="none", fontsize=10, loc="upper left")
    return axis


def plot_inheritance(
    similarity: np.ndarray, cosines: dict[str, np.ndarray], temperature: float
) -> np.ndarray:
    """Scatter a student's latent cosines over its teacher's label similarities, a dot for a pair of classes.

    Args:
        similarity: (C, C) symmetric label similarities above 0; its diagonal is not shown.
        cosines: title -> (C, C) mean cosines of the student's latents; shown without their mean over pairs.
        temperature: tau; the line shows where p = w, cosine = tau log(similarity) + constant.

    Returns:
        The axes, one for each student.
    """
    figure, axes = plt.subplots(1, len(cosines), figsize=(11, 3.6), sharex=True, sharey=True)
    i, j = np.triu_indices(len(similarity), k=1)
    order = np.argsort(similarity[i, j])
    i, j = i[order], j[order]
    x = similarity[i, j]
    for axis, (title, cosine) in zip(axes, cosines.items(), strict=True):
        y = cosine[i, j] - cosine[i, j].mean()
        perfect = temperature * (np.log(x) - np.log(x).mean())
        axis.plot(x, perfect, color=LABEL_COLOR, linewidth=6, alpha=0.35, label="p = w")
        axis.plot(x, y, "o", color=LATENT_COLOR, alpha=0.8, markersize=6, markeredgewidth=0)
        for k, side in ((0, "left"), (-1, "right")):  # away from the line
            up, vertical = (24, "bottom") if y[k] > perfect[k] else (-24, "top")
            axis.annotate(
                f"{i[k]} and {j[k]}",
                (x[k], y[k]),
                (0, up),
                textcoords="offset points",
                ha=side,
                va=vertical,
                fontsize=10,
                arrowprops={"arrowstyle": "-", "linewidth": 0.8, "color": "0.3"},
            )
        axis.set_title(title, fontsize=11)
        axis.margins(y=0.15)
        axis.set(xscale="log", xlim=(0.8 * x[0], 1.25 * x[-1]))
        axis.set_xlabel("label similarity (teacher)", fontsize=11)
        axis.xaxis.set_major_locator(
            FixedLocator([m * 10.0**e for e in range(-6, 1) for m in (1, 3)])
        )
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_locator(NullLocator())
    axes[0].set_ylabel("latent cosine, minus its mean")
    axes[0].legend(frameon=False, loc="upper left")
    return axes


def plot_seeds(measures: dict[str, dict[str, np.ndarray]], colors: list) -> np.ndarray:
    """Draw several measures side by side: a gray line for each seed, and the mean with its 95 % interval.

    Args:
        measures: what is measured -> name of a student -> (seeds,) values.
        colors: of the students.

    Returns:
        The axes, one for each measure; the students' names stand left of the first.
    """
    names = list(next(iter(measures.values())))
    figure, axes = plt.subplots(
        1, len(measures), figsize=(11, 0.55 * len(names) + 1.3), sharey=True
    )
    for axis, (title, values) in zip(axes, measures.items(), strict=True):
        table = np.array([values[name] for name in names])  # (students, seeds)
        axis.plot(table, np.arange(len(names)), color="0.8", linewidth=1, zorder=1)
        for y, (row, color) in enumerate(zip(table, colors, strict=True)):
            half = half_interval(row)
            axis.errorbar(row.mean(), y, xerr=half, color=color, zorder=2, **MEAN_STYLE)
        axis.set_title(title, fontsize=11)
        axis.grid(axis="x", alpha=0.4)
        axis.tick_params(axis="y", length=0)
    axes[0].set_yticks(range(len(names)), names)
    axes[0].set_ylim(len(names) - 0.5, -0.5)
    return axes


def plot_two_targets(
    losses: list[float], chance: float, floor: float, sum_of_floors: float, axis: Axes
) -> Axes:
    """Draw the loss with two labels a row over steps, its chance and its floor, and what cannot be reached."""
    axis.plot(losses, color=LATENT_COLOR, linewidth=3, label="two losses, added up")
    axis.axhline(chance, color="0.4", linestyle="--", linewidth=2, label="chance: all points alike")
    axis.axhline(floor, color=LABEL_COLOR, linewidth=2.5, label="floor of the one target")
    axis.axhline(
        sum_of_floors, color=LABEL_COLOR, linestyle=":", linewidth=2.5, label="sum of both floors"
    )
    axis.fill_between(
        [0, len(losses)], sum_of_floors, floor, color=LABEL_COLOR, alpha=0.12, linewidth=0
    )
    axis.text(
        0.98 * len(losses),
        (floor + sum_of_floors) / 2,
        "disagreement of label and teacher",
        ha="right",
        va="center",
        color=LABEL_COLOR,
        fontsize=11,
    )
    axis.set(xlabel="step", ylabel="loss, nats", xlim=(0, len(losses)))
    axis.legend(frameon=False, fontsize=11)
    return axis
