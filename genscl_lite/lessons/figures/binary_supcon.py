"""Pictures of lesson 01: points on a circle, their shares, pulls and pushes."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from genscl_lite.lessons.figures.digits import image_ticks, stamp
from genscl_lite.lessons.plots import LABEL_COLOUR, LATENT_COLOUR, SIMILARITY_MAP, label_colours


def draw_circle(
    axis: Axes, points: np.ndarray, classes: np.ndarray, images: np.ndarray, size: float = 18,
    gap: float = 0.34,
) -> Axes:
    """Draw (N, 2) points on the unit circle, each with its (8, 8) image; these keep ``gap`` radians apart."""
    points = np.asarray(points)
    turn = np.linspace(0, 2 * np.pi, 200)
    axis.plot(np.cos(turn), np.sin(turn), color="0.8", linewidth=1, zorder=0)
    angles = np.arctan2(points[:, 1], points[:, 0])
    places = 1.38 * np.stack([f(_spread(angles, gap)) for f in (np.cos, np.sin)], axis=1)
    for point, place, colour, image in zip(points, places, label_colours(classes), images, strict=True):
        axis.plot(*zip(point, place, strict=True), color=colour, linewidth=0.8, zorder=1)
        axis.plot(*point, "o", color=colour, markersize=7, markeredgecolor="white", zorder=3)
        stamp(axis, image, tuple(place), colour, size)
    axis.set(xlim=(-1.62, 1.62), ylim=(-1.62, 1.62), aspect="equal")
    axis.axis("off")
    return axis


def _spread(angles: np.ndarray, gap: float) -> np.ndarray:
    """Move angles as little as it takes for neighbours on the circle to be ``gap`` apart."""
    order = np.argsort(angles, kind="stable")
    spread = angles[order].copy()
    full_turn = 2 * np.pi * (np.arange(len(spread)) == len(spread) - 1)  # after the last comes the first
    for _ in range(500):
        missing = np.clip(gap - (np.roll(spread, -1) - spread + full_turn), 0, None)
        spread += (np.roll(missing, 1) - missing) / 2
    return spread[np.argsort(order)]


def plot_learning_circle(
    frames: dict[int, np.ndarray], classes: np.ndarray, images: np.ndarray, losses: list[float], floor: float
) -> Axes:
    """Draw the circle at some steps, step -> (N, 2) points, and under them the loss over all steps.

    Returns:
        The axis of the loss.
    """
    figure = plt.figure(figsize=(11, 4.7))
    grid = figure.add_gridspec(2, len(frames), height_ratios=(2.75, 1.6))
    for k, (step, points) in enumerate(frames.items()):
        axis = draw_circle(figure.add_subplot(grid[0, k]), points, classes, images, size=14)
        axis.text(0, 0, f"step {step}\nloss {losses[step]:.2f}", ha="center", va="center", fontsize=11)
    axis = figure.add_subplot(grid[1, :])
    axis.plot(losses, color=LATENT_COLOUR, linewidth=2.5)
    axis.plot(list(frames), [losses[step] for step in frames], "o", color=LATENT_COLOUR, markersize=9)
    axis.axhline(floor, color=LABEL_COLOUR, linestyle=":", linewidth=2, label="the least the labels allow")
    axis.set_xscale("symlog", linthresh=5)
    axis.set_xticks(list(frames), list(frames))
    axis.set_xticks([], minor=True)
    axis.set(xlabel="step", ylabel="loss, nats", xlim=(-0.3, 1.08 * len(losses)), ylim=(0, 1.1 * max(losses)))
    axis.legend(frameon=False)
    return axis


def draw_forces(
    axis: Axes, points: np.ndarray, anchor: int, w: np.ndarray, p: np.ndarray, scale: float = 2.0
) -> Axes:
    """Draw what each contrast does to the anchor: arrows over ``scale`` * |w - p| of the way between the two.

    Args:
        points: (N, 2) on the unit circle.
        w, p: (N,) shares of the anchor's contrasts, 0 at the anchor itself.
    """
    points, w, p = np.asarray(points), np.asarray(w), np.asarray(p)
    here = points[anchor]
    for there, gap in zip(points, scale * (w - p), strict=True):
        if abs(gap) > 0.005:  # shorter ones are not to be seen
            axis.plot(*zip(here, there, strict=True), color="0.85", linewidth=0.8, zorder=0)
            ends = (here, here + gap * (there - here)) if gap > 0 else (here - gap * (there - here), here)
            draw_arrow(axis, *ends, LABEL_COLOUR if gap > 0 else LATENT_COLOUR)
    total = scale * ((w - p)[:, None] * (points - here)).sum(axis=0)
    turn = np.arctan2(here[1], here[0]) + np.linspace(0, here[0] * total[1] - here[1] * total[0], 50)
    axis.plot(np.cos(turn), np.sin(turn), color="black", linewidth=4, solid_capstyle="butt", zorder=2)
    draw_arrow(axis, *np.stack([np.cos(turn), np.sin(turn)], axis=1)[[-8, -1]], "black", 4)
    axis.plot(*here, "o", color="black", markersize=12, fillstyle="none", markeredgewidth=2, zorder=4)
    legend = {"pull": LABEL_COLOUR, "push": LATENT_COLOUR, "sum, along the circle": "black"}
    for name, colour in legend.items():
        axis.plot([], [], color=colour, linewidth=3, label=name)
    return axis


def draw_arrow(axis: Axes, start: np.ndarray, end: np.ndarray, colour, width: float = 2) -> None:
    short = 6 if colour is LATENT_COLOUR else 0  # where a push ends, the anchor is
    arrow = {"arrowstyle": "-|>,head_width=0.3,head_length=0.5", "shrinkA": 0, "shrinkB": short}
    axis.annotate("", end, start, arrowprops=arrow | {"color": colour, "linewidth": width}, zorder=2)


def draw_shares(
    axis: Axes, w: np.ndarray, p: np.ndarray, classes: np.ndarray, images: np.ndarray, size: float = 16
) -> Axes:
    """Draw an anchor's shares of (K,) contrasts side by side: w, what labels ask, p, what latents give."""
    places, w, p = np.arange(len(w)), np.asarray(w), np.asarray(p)
    axis.bar(places - 0.2, w, 0.4, color=LABEL_COLOUR, label="$w_{ij}$: labels ask")
    axis.bar(places + 0.2, p, 0.4, color=LATENT_COLOUR, label="$p_{ij}$: latents give")
    axis.set(xlim=(-0.6, len(w) - 0.4))
    return image_ticks(axis, images, classes, size=size)


def draw_shares_matrix(
    axis: Axes, matrix: np.ndarray, classes: np.ndarray, images: np.ndarray, title: str, top: float = 1.0,
    size: float = 16,
) -> Axes:
    """Show an (N, N) matrix between 0 and ``top``, its images along two sides. The diagonal is gray."""
    matrix = np.where(np.eye(len(matrix), dtype=bool), np.nan, np.asarray(matrix))
    axis.imshow(matrix, cmap=SIMILARITY_MAP, vmin=0, vmax=top)
    axis.set_facecolor("0.8")
    axis.set_title(title, fontsize=11)
    axis.spines[:].set_visible(False)
    return image_ticks(image_ticks(axis, images, classes, "x", size), images, classes, "y", size)


def plot_pushes(
    points: np.ndarray, classes: np.ndarray, images: np.ndarray, anchor: int, w: np.ndarray,
    shares: dict[float, np.ndarray],
) -> np.ndarray:
    """Draw, for temperature -> (N,) shares p of one anchor, whom it is pushed away from, and the shares.

    Above, each negative's line is as thick as its share; below, bars of the contrasts, nearest first.
    """
    points, classes = np.asarray(points), np.asarray(classes)
    _, axes = plt.subplots(2, len(shares), figsize=(11, 5.6), height_ratios=(3.5, 1.8), sharey="row")
    order = np.argsort(-points @ points[anchor])[1:]
    for (upper, lower), (temperature, p) in zip(axes.T, shares.items(), strict=True):
        draw_circle(upper, points, classes, images, size=17).set_title(rf"$\tau$ = {temperature:g}")
        for j in np.flatnonzero(classes != classes[anchor]):
            upper.plot(*points[[j, anchor]].T, color=LATENT_COLOUR, linewidth=22 * p[j], alpha=0.75,
                       solid_capstyle="butt")
        upper.plot(*points[anchor], "o", color="white", markersize=13, markeredgecolor="black",
                   markeredgewidth=2, zorder=4)
        draw_shares(lower, w[order], p[order], classes[order], images[order])
        lower.set_xlabel("contrasts, nearest first", labelpad=27)
    axes[1, 0].set_ylabel("share")
    axes[1, -1].legend(frameon=False)
    return axes


def draw_likeness(
    axis: Axes, likeness: dict[str, np.ndarray], colours: list, classes: np.ndarray, images: np.ndarray
) -> Axes:
    """Draw what several judges, name -> (K,), say of the same K images, side by side, over the images."""
    width = 0.8 / len(likeness)
    for k, ((name, values), colour) in enumerate(zip(likeness.items(), colours, strict=True)):
        places = np.arange(len(values)) + (k - (len(likeness) - 1) / 2) * width
        look = {"color": colour, "edgecolor": colour, "linewidth": 2}  # so that a 0 is a line
        axis.bar(places, np.asarray(values), width, label=name, **look)
    axis.spines["bottom"].set_visible(False)
    axis.set(xlim=(-0.6, len(images) - 0.4))
    return image_ticks(axis, images, classes, size=26)
