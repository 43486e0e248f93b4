"""Digits and labels as parts of a picture: stamps, ticks and bars, used by several lessons."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage

from genscl_lessons.plots import LABEL_COLOR, LATENT_COLOR, class_colors, label_colors

DIFFERENCE_MAP = LinearSegmentedColormap.from_list(
    "difference", [LABEL_COLOR, "white", LATENT_COLOR]
)
"""Color map of p - w: vermilion where latents say more than labels, blue where they say less."""


def show_label_bars(
    images: np.ndarray,
    rows: dict[str, np.ndarray],
    titles: list[str],
    figure: Figure | None = None,
    named: float = 0.15,
    names: list[str] | None = None,
) -> np.ndarray:
    """Show images and, under each, its label distributions as bars in the classes' colors.

    Args:
        images: (N, channels, H, W) in [0, 1].
        rows: what the row of bars is called -> (N, C) distributions.
        titles: N, above the images.
        figure: figure or subfigure to draw on; default: a new one.
        named: bars from this height on have their class written above them.
        names: of the classes; default: their numbers.

    Returns:
        The axes, (1 + len(rows), N).
    """
    figure = figure or plt.figure(figsize=(1.3 * len(images) + 0.4, 1.5 + 1.15 * len(rows)))
    heights = [1.3] + [1] * len(rows)
    axes = figure.subplots(1 + len(rows), len(images), squeeze=False, height_ratios=heights)
    for axis, image, title in zip(axes[0], images, titles, strict=True):
        axis.imshow(np.moveaxis(image, 0, -1).squeeze(), cmap="gray_r", vmin=0, vmax=1)
        axis.set_title(title, y=1.0, fontsize=10, fontweight="normal")
        axis.axis("off")
    top = max(labels.max() for labels in rows.values())
    for line, (name, labels) in zip(axes[1:], rows.items(), strict=True):
        classes = np.arange(labels.shape[1])
        for axis, label in zip(line, labels, strict=True):
            axis.bar(classes, label, color=class_colors(len(classes)), width=0.9, linewidth=0)
            for c in np.flatnonzero(label >= named):
                caption = names[c] if names else c
                axis.text(c, label[c] + 0.02 * top, caption, ha="center", va="bottom", fontsize=10)
            axis.set(ylim=(0, 1.22 * top), xlim=(-0.7, len(classes) - 0.3), xticks=[], yticks=[])
            axis.spines["left"].set_visible(False)
        line[0].set_ylabel(name, fontsize=11)
    return axes


def stamp(
    axis: Axes, image: np.ndarray, xy: tuple, color, size: float = 18, width: float = 1.5, **where
) -> None:
    """Draw an (8, 8) image ``size`` points large at ``xy`` in a frame; ``where`` as for AnnotationBbox."""
    picture = OffsetImage(
        np.asarray(image),
        zoom=size / len(image),
        cmap="gray_r",
        clim=(0, 1),
        interpolation="nearest",
    )
    frame = {
        "edgecolor": color,
        "linewidth": width,
        "facecolor": "white",
        "boxstyle": "square,pad=0.02",
    }
    axis.add_artist(
        AnnotationBbox(picture, xy, pad=0, bboxprops=frame, annotation_clip=False, **where)
    )


def stamp_below(
    axis: Axes,
    image: np.ndarray,
    x: float,
    color,
    size: float,
    width: float = 1.5,
    drop: float = 5,
) -> None:
    """Draw an (8, 8) image as ``stamp`` does, ``drop`` points below the x axis."""
    stamp(
        axis,
        image,
        (x, 0),
        color,
        size,
        width,
        xycoords=("data", "axes fraction"),
        box_alignment=(0.5, 1),
        xybox=(0, -drop),
        boxcoords="offset points",
    )


def image_ticks(
    axis: Axes, images: np.ndarray, classes: np.ndarray, along: str = "x", size: float = 16
) -> Axes:
    """Put (N, 8, 8) images, framed by label color, in place of the tick labels of the "x" or "y" axis."""
    for k, (image, color) in enumerate(zip(images, label_colors(classes), strict=True)):
        if along == "x":
            stamp_below(axis, image, k, color, size)
        else:
            stamp(
                axis,
                image,
                (0, k),
                color,
                size,
                xycoords=("axes fraction", "data"),
                box_alignment=(1, 0.5),
                xybox=(-5, 0),
                boxcoords="offset points",
            )
    axis.set(**{f"{along}ticks": []})
    return axis


def group_ticks(
    axis: Axes, centers: np.ndarray, names: list[str], colors: list, images: np.ndarray
) -> Axes:
    """Put an (8, 8) image and a name under each group of bars."""
    for x, name, color, image in zip(centers, names, colors, images, strict=True):
        stamp_below(axis, image, x, color, 24)
        axis.annotate(
            name,
            (x, 0),
            (0, -36),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="center",
            va="top",
            fontsize=10,
            annotation_clip=False,
        )
    axis.set(xticks=[])
    return axis


def spread(angles: np.ndarray, gap: float) -> np.ndarray:
    """Move angles as little as it takes for neighbors on the circle to be ``gap`` apart."""
    order = np.argsort(angles, kind="stable")
    moved = angles[order].copy()
    # after the last comes the first
    full_turn = 2 * np.pi * (np.arange(len(moved)) == len(moved) - 1)
    for _ in range(500):
        missing = np.clip(gap - (np.roll(moved, -1) - moved + full_turn), 0, None)
        moved += (np.roll(missing, 1) - missing) / 2
    return moved[np.argsort(order)]
