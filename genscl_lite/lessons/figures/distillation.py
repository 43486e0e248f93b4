"""Pictures of lesson 05: what a teacher confuses, its temperature, what a student inherits."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator, NullLocator

from genscl_lite.lessons.plots import LABEL_COLOUR, LATENT_COLOUR, SIMILARITY_MAP, class_colours


def plot_class_matrices(
    matrices: dict[str, np.ndarray], scale: str, top: float | None = None, figure: Figure | None = None
) -> np.ndarray:
    """Show (C, C) class-to-class means side by side on one scale. The diagonal, far above all, is left blank.

    Args:
        matrices: title -> means; row: the class of the image, column: the class it is compared with.
        scale: what the colour bar says.
        top: the value that has the brightest colour; default: the largest off any diagonal.
        figure: figure or subfigure to draw on; default: a new one.

    Returns:
        The axes, one for each matrix.
    """
    side = min(3.2, 10.2 / len(matrices))
    figure = figure or plt.figure(figsize=(side * len(matrices) + 0.8, side + 0.3))
    axes = figure.subplots(1, len(matrices), squeeze=False)[0]
    shown = {name: np.where(np.eye(len(mean), dtype=bool), np.nan, mean) for name, mean in matrices.items()}
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
            for label, colour in zip(labels, class_colours(len(ticks)), strict=False):
                label.set(color=colour, fontweight="bold")
    figure.colorbar(picture, ax=axes[-1], shrink=0.85, label=scale)
    return axes


def plot_entropies(
    temperatures: np.ndarray, entropies: np.ndarray, marked: dict[float, str], classes: int, axis: Axes
) -> Axes:
    """Draw the mean entropy of a teacher's labels against its temperature, (T,) each; some are named."""
    most = np.log(classes)
    axis.semilogx(temperatures, entropies, color=LABEL_COLOUR, linewidth=3)
    axis.axhline(most, color="0.4", linestyle=":")
    axis.text(temperatures[0], most + 0.04, f"log {classes}: no idea", color="0.4", va="bottom", fontsize=10)
    for temperature, name in marked.items():
        y = np.interp(np.log(temperature), np.log(temperatures), entropies)
        axis.plot(temperature, y, "o", color=LABEL_COLOUR, markersize=10)
        axis.annotate(name, (temperature, y), (-9, 5), textcoords="offset points", ha="right", fontsize=11)
    axis.xaxis.set_major_formatter("{x:g}")
    axis.set(xlabel="teacher temperature", ylabel="mean entropy of its labels, nats", ylim=(0, 1.12 * most))
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
    figure, axes = plt.subplots(1, len(cosines), figsize=(3.65 * len(cosines), 3.4), sharex=True, sharey=True)
    i, j = np.triu_indices(len(similarity), k=1)
    order = np.argsort(similarity[i, j])
    i, j = i[order], j[order]
    x = similarity[i, j]
    for axis, (title, cosine) in zip(axes, cosines.items(), strict=True):
        y = cosine[i, j] - cosine[i, j].mean()
        perfect = temperature * (np.log(x) - np.log(x).mean())
        axis.plot(x, perfect, color=LABEL_COLOUR, linewidth=6, alpha=0.35, label="p = w")
        axis.plot(x, y, "o", color=LATENT_COLOUR, alpha=0.8, markersize=6, markeredgewidth=0)
        for k, side in ((0, "left"), (-1, "right")):  # away from the line
            up, vertical = (9, "bottom") if y[k] > perfect[k] else (-9, "top")
            axis.annotate(f"{i[k]} and {j[k]}", (x[k], y[k]), (0, up), textcoords="offset points",
                          ha=side, va=vertical, fontsize=10,
                          path_effects=[withStroke(linewidth=3, foreground="white")])
        axis.set(xscale="log", title=title, xlim=(0.8 * x[0], 1.25 * x[-1]))
        axis.set_xlabel("label similarity of the pair, by the teacher", fontsize=11)
        axis.xaxis.set_major_locator(FixedLocator([m * 10.0**e for e in range(-6, 1) for m in (1, 3)]))
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_locator(NullLocator())
    axes[0].set_ylabel("latent cosine, minus its mean")
    axes[0].legend(frameon=False, loc="upper left")
    return axes
