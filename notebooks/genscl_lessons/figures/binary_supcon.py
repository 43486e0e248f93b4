"""Pictures of lesson 01: points on a circle, their shares, pulls and pushes."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap

from genscl_lessons.figures.digits import image_ticks, spread, stamp
from genscl_lessons.plots import LABEL_COLOR, LATENT_COLOR, SIMILARITY_MAP, label_colors


def draw_circle(
    axis: Axes,
    points: np.ndarray,
    classes: np.ndarray,
    images: np.ndarray,
    size: float = 18,
    gap: float = 0.34,
) -> Axes:
    """Draw (N, 2) points on the unit circle, each with its (8, 8) image; these keep ``gap`` radians apart."""
    points = np.asarray(points)
    turn = np.linspace(0, 2 * np.pi, 200)
    axis.plot(np.cos(turn), np.sin(turn), color="0.8", linewidth=1, zorder=0)
    angles = np.arctan2(points[:, 1], points[:, 0])
    places = 1.38 * np.stack([f(spread(angles, gap)) for f in (np.cos, np.sin)], axis=1)
    for point, place, color, image in zip(
        points, places, label_colors(classes), images, strict=True
    ):
        axis.plot(*zip(point, place, strict=True), color=color, linewidth=0.8, zorder=1)
        axis.plot(*point, "o", color=color, markersize=7, markeredgecolor="white", zorder=3)
        stamp(axis, image, tuple(place), color, size)
    axis.set(xlim=(-1.62, 1.62), ylim=(-1.62, 1.62), aspect="equal")
    axis.axis("off")
    return axis


def plot_learning_circle(
    frames: dict[int, np.ndarray],
    classes: np.ndarray,
    images: np.ndarray,
    losses: list[float],
    floor: float,
    chance: float,
) -> Axes:
    """Draw the circle at some steps, step -> (N, 2) points, and under them the loss over all steps.

    Returns:
        The axis of the loss.
    """
    figure = plt.figure(figsize=(11, 4.7))
    grid = figure.add_gridspec(2, len(frames), height_ratios=(2.75, 1.6))
    for k, (step, points) in enumerate(frames.items()):
        axis = draw_circle(figure.add_subplot(grid[0, k]), points, classes, images, size=14)
        axis.text(
            0, 0, f"step {step}\nloss {losses[step]:.2f}", ha="center", va="center", fontsize=11
        )
    axis = figure.add_subplot(grid[1, :])
    axis.plot(losses, color=LATENT_COLOR, linewidth=2.5)
    axis.plot(
        list(frames), [losses[step] for step in frames], "o", color=LATENT_COLOR, markersize=9
    )
    axis.axhline(
        floor, color=LABEL_COLOR, linestyle=":", linewidth=2, label="the least the labels allow"
    )
    axis.axhline(chance, color="0.4", linestyle="--", linewidth=2, label="chance: all points alike")
    axis.set_xscale("symlog", linthresh=5)
    axis.set_xticks(list(frames), list(frames))
    axis.set_xticks([], minor=True)
    axis.set(
        xlabel="step",
        ylabel="loss, nats",
        xlim=(-0.3, 1.08 * len(losses)),
        ylim=(0, 1.1 * max(losses)),
    )
    axis.legend(frameon=False)
    return axis


def plot_classified(
    points: np.ndarray,
    vectors: np.ndarray,
    classes: np.ndarray,
    images: np.ndarray,
    curves: dict[str, list[float]],
) -> np.ndarray:
    """Draw points in the plane, colored by the class that a linear classifier gives, and curves over steps.

    Args:
        points: (N, 2) latents of any length.
        vectors: (C, 2) of the classifier, one for each class in ascending order.
        classes: (N,) class numbers.
        images: (N, 8, 8).
        curves: what is drawn on an axis of its own -> a value for each step.
    """
    points, vectors, classes = np.asarray(points), np.asarray(vectors), np.asarray(classes)
    panels = [["plane", name] for name in curves]
    _, axes = plt.subplot_mosaic(panels, figsize=(11, 4.6), width_ratios=(4.6, 6))
    plane, numbers = axes["plane"], np.unique(classes)
    colors = label_colors(np.arange(numbers.max() + 1))[numbers]
    reach = 1.75 * np.linalg.norm(points, axis=1).max()
    across = np.linspace(-reach, reach, 400)
    grid = np.stack(np.meshgrid(across, across), axis=-1)
    plane.imshow(
        (grid @ vectors.T).argmax(axis=-1),
        extent=(-reach, reach, -reach, reach),
        origin="lower",
        cmap=ListedColormap(0.78 + 0.22 * colors),
        vmin=0,
        vmax=len(numbers) - 1,
        interpolation="nearest",
    )
    angles = np.arctan2(points[:, 1], points[:, 0])
    places = 0.82 * reach * np.stack([f(spread(angles, 0.3)) for f in (np.cos, np.sin)], axis=1)
    for number in numbers:
        of_class = angles[classes == number]
        middle = np.arctan2(np.sin(of_class).mean(), np.cos(of_class).mean())
        offsets = (of_class - middle + np.pi) % (2 * np.pi) - np.pi
        turn = middle + np.linspace(offsets.min(), offsets.max(), 60)
        arc = reach * np.stack([np.cos(turn), np.sin(turn)])
        for edge in (arc[:, 0], arc[:, -1]):
            plane.plot(*np.outer(edge, (0, 0.7)), ":", color="0.3", linewidth=1)
        plane.plot(*0.25 * arc, color="0.3", linewidth=1.5)
        plane.text(
            *0.35 * arc[:, 30],
            f"{np.degrees(np.ptp(offsets)):.0f}°",
            ha="center",
            va="center",
            fontsize=11,
            bbox={"fc": "white", "ec": "none", "alpha": 0.6, "pad": 1},
        )
    for point, place, number, image in zip(points, places, classes, images, strict=True):
        color = colors[np.searchsorted(numbers, number)]
        plane.plot(*zip(point, place, strict=True), color=color, linewidth=0.8)
        plane.plot(*point, "o", color=color, markersize=7, markeredgecolor="white")
        stamp(plane, image, tuple(place), color, 19)
    plane.set(xticks=[], yticks=[])
    plane.spines[:].set_visible(False)
    for name, values in curves.items():
        axes[name].plot(values, color=LATENT_COLOR, linewidth=2.5)
        axes[name].set(ylabel=name, xlim=(0, len(values) - 1), ylim=(0, 1.08 * max(values)))
        axes[name].text(
            len(values) - 1, values[-1] + 0.05 * max(values), f"{values[-1]:.2g}", ha="right"
        )
    axes[name].set_xlabel("step")
    return axes


def plot_spreads(axis: Axes, curves: dict[str, list[float]]) -> Axes:
    """Draw name -> spread within a class, in degrees, at each step; the steps are stretched at the left."""
    looks = {"color": "0.45", "linestyle": "-"}, {"color": "0.45", "linestyle": "--"}
    looks = *looks, {"color": "0.45", "linestyle": ":"}, {"color": LATENT_COLOR, "linestyle": "-"}
    for (name, values), look in zip(curves.items(), looks, strict=True):
        axis.plot(np.arange(len(values)), values, linewidth=2.5, label=name, **look)
    axis.set_xscale("symlog", linthresh=1)
    axis.xaxis.set_major_formatter("{x:g}")
    axis.set(xlim=(0, len(values)), ylim=(0, None), xlabel="step (logarithmic)")
    axis.set_ylabel("spread within a class, degrees")
    axis.legend(frameon=False, fontsize=11, loc="lower left")
    return axis


def draw_crowds(axis: Axes, points: np.ndarray, classes: np.ndarray, bins: int = 72) -> Axes:
    """Draw how many of (N, 2) points lie in each direction, as bars from the circle inward, a color for each class."""
    angles, edges = np.arctan2(points[:, 1], points[:, 0]), np.linspace(-np.pi, np.pi, bins + 1)
    middle = (edges[1:] + edges[:-1]) / 2
    counts = {c: np.histogram(angles[classes == c], edges)[0] for c in np.unique(classes)}
    longest = max(map(np.max, counts.values()))
    colors = label_colors(np.arange(max(counts) + 1))
    for c, bars in counts.items():
        for angle, length in zip(middle[bars > 0], 0.8 * bars[bars > 0] / longest, strict=True):
            radius = np.array([1, 1 - length])
            axis.plot(
                radius * np.cos(angle),
                radius * np.sin(angle),
                color=colors[c],
                linewidth=5,
                solid_capstyle="butt",
                zorder=0,
            )
    return axis


def plot_losses(axis: Axes, history: list[float], chance: float, best: float, floor: float) -> Axes:
    """Draw a training's losses between chance, the best arrangement and the floor."""
    axis.plot(history, color=LATENT_COLOR, linewidth=2.5, label="loss of the batch")
    lines = {f"chance, {chance:.2f}": (chance, "0.4", "--")}
    lines[f"best arrangement, {best:.2f}"] = best, LABEL_COLOR, "--"
    lines[f"floor, {floor:.2f}"] = floor, LABEL_COLOR, ":"
    for name, (value, color, style) in lines.items():
        axis.axhline(value, color=color, linestyle=style, linewidth=2, label=name)
    axis.set(xlabel="step", ylabel="loss, nats")
    axis.legend(frameon=False, loc="upper right", bbox_to_anchor=(1, 0.93))
    return axis


def plot_forces(
    points: np.ndarray,
    classes: np.ndarray,
    images: np.ndarray,
    anchor: int,
    w: np.ndarray,
    p: np.ndarray,
    force: np.ndarray,
) -> np.ndarray:
    """Draw the (N,) forces of all contrasts on one anchor, along the circle, beside its shares w and p.

    Left, lines from the contrasts are as thick as the force is strong, and the black arc shows where the sum
    of all forces moves the anchor (not to scale). Right, bars of the contrasts, nearest first; a force above
    0 turns the anchor counterclockwise.
    """
    points, force, classes = np.asarray(points), np.asarray(force), np.asarray(classes)
    panels = [["circle", "shares"], ["circle", "force"]]
    _, axes = plt.subplot_mosaic(panels, figsize=(11, 5.2), width_ratios=(5, 5.5))
    circle, here = axes["circle"], points[anchor]
    draw_circle(circle, points, classes, images, size=23)
    colors = [LABEL_COLOR if of_class else LATENT_COLOR for of_class in classes == classes[anchor]]
    for there, strength, color in zip(
        points, np.abs(force) / np.abs(force).max(), colors, strict=True
    ):
        circle.plot(
            *zip(here, there, strict=True),
            color=color,
            linewidth=9 * strength,
            alpha=0.8,
            solid_capstyle="butt",
            zorder=0,
        )
    turn = np.arctan2(here[1], here[0]) + np.linspace(0.07, 0.6, 50) * np.sign(force.sum())
    arc = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    circle.plot(*arc.T, color="black", linewidth=4, zorder=2)
    draw_arrow(circle, *arc[[-8, -1]], "black", 4)
    ring = {"color": "white", "markersize": 13, "markeredgecolor": "black", "markeredgewidth": 2}
    circle.plot(*here, "o", zorder=4, **ring)
    for name, color in {
        "pull": LABEL_COLOR,
        "push": LATENT_COLOR,
        "the anchor goes": "black",
    }.items():
        circle.plot([], [], color=color, linewidth=4, label=name)
    circle.legend(
        frameon=False, loc="upper center", bbox_to_anchor=(0.5, 0.02), ncols=3, columnspacing=1.2
    )
    order = np.argsort(-points @ here)[1:]
    w, p = np.asarray(w)[order], np.asarray(p)[order]
    draw_shares(axes["shares"], w, p, classes[order], images[order], size=19)
    axes["shares"].set(ylabel="share", title="the anchor's contrasts, nearest first")
    axes["shares"].legend(frameon=False, loc="upper right", bbox_to_anchor=(0.82, 1))
    axes["force"].bar(range(len(order)), force[order], color=[colors[k] for k in order])
    axes["force"].axhline(0, color="0.3", linewidth=1)
    axes["force"].set(xlim=axes["shares"].get_xlim(), xticks=[], ylabel="force along\nthe circle")
    axes["force"].spines["bottom"].set_visible(False)
    return axes


def draw_arrow(axis: Axes, start: np.ndarray, end: np.ndarray, color, width: float = 2) -> None:
    arrow = {"arrowstyle": "-|>,head_width=0.3,head_length=0.5", "shrinkA": 0, "shrinkB": 0}
    axis.annotate("", end, start, arrowprops=arrow | {"color": color, "linewidth": width}, zorder=2)


def draw_shares(
    axis: Axes,
    w: np.ndarray,
    p: np.ndarray,
    classes: np.ndarray,
    images: np.ndarray,
    size: float = 16,
) -> Axes:
    """Draw an anchor's shares of (K,) contrasts side by side: w, what labels ask, p, what latents give."""
    places, w, p = np.arange(len(w)), np.asarray(w), np.asarray(p)
    axis.bar(places - 0.2, w, 0.4, color=LABEL_COLOR, label="$w_{ij}$: labels ask")
    axis.bar(places + 0.2, p, 0.4, color=LATENT_COLOR, label="$p_{ij}$: latents give")
    axis.set(xlim=(-0.6, len(w) - 0.4))
    return image_ticks(axis, images, classes, size=size)


def draw_shares_matrix(
    axis: Axes,
    matrix: np.ndarray,
    classes: np.ndarray,
    images: np.ndarray,
    title: str,
    top: float = 1.0,
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
    points: np.ndarray,
    classes: np.ndarray,
    images: np.ndarray,
    anchor: int,
    shares: dict[float, np.ndarray],
    pushes: dict[float, np.ndarray],
) -> np.ndarray:
    """Draw, for temperature -> (N,) shares p of one anchor and (N,) parts of the push, whom it flees from.

    Above, each negative's line is as thick as its part of the push along the circle; below, both as bars of
    the negatives, nearest first.
    """
    points, classes = np.asarray(points), np.asarray(classes)
    _, axes = plt.subplots(
        2, len(shares), figsize=(11, 5.6), height_ratios=(3.5, 1.8), sharey="row"
    )
    order = np.argsort(-points @ points[anchor])[1:]
    order = order[classes[order] != classes[anchor]]
    for (upper, lower), (temperature, p) in zip(axes.T, shares.items(), strict=True):
        push = np.asarray(pushes[temperature])
        draw_circle(upper, points, classes, images, size=17).set_title(rf"$\tau$ = {temperature:g}")
        for j in order:
            upper.plot(
                *points[[j, anchor]].T,
                color=LATENT_COLOR,
                linewidth=22 * push[j],
                alpha=0.75,
                solid_capstyle="butt",
            )
        upper.plot(
            *points[anchor],
            "o",
            color="white",
            markersize=13,
            markeredgecolor="black",
            markeredgewidth=2,
            zorder=4,
        )
        places = np.arange(len(order))
        share = np.asarray(p)[order] / np.asarray(p)[order].sum()
        lower.bar(places - 0.2, share, 0.4, color="0.7", label="part of the softmax")
        lower.bar(places + 0.2, push[order], 0.4, color=LATENT_COLOR, label="part of the push")
        lower.set(xlim=(-0.6, len(order) - 0.4))
        image_ticks(lower, images[order], classes[order])
        lower.set_xlabel("negatives, nearest first", labelpad=27)
    axes[1, 0].set_ylabel("part of the whole")
    axes[1, -1].legend(frameon=False)
    return axes


def draw_push_curves(
    axis: Axes, angle: np.ndarray, pushes: dict[float, np.ndarray], peaks: dict[float, float]
) -> Axes:
    """Draw temperature -> (A,) push over the (A,) angle of a negative in degrees, and mark each peak."""
    for (temperature, push), style in zip(pushes.items(), ("-", "--", ":"), strict=True):
        push = np.asarray(push) / np.asarray(push).max()
        axis.plot(
            angle,
            push,
            style,
            color=LATENT_COLOR,
            linewidth=2.5,
            label=rf"$\tau$ = {temperature:g}",
        )
        peak = peaks[temperature]
        axis.plot(peak, np.interp(peak, angle, push), "o", color=LATENT_COLOR, markersize=9)
        axis.text(peak, 1.04, f"{peak:.0f}°", ha="center", va="bottom", fontsize=11)
    axis.set(
        xlabel="angle between anchor and negative, degrees",
        ylabel="push, largest = 1",
        xlim=(0, 180),
        ylim=(0, 1.18),
        xticks=range(0, 181, 30),
    )
    return axis


def plot_network(image: np.ndarray, sizes: dict[str, int]) -> Axes:
    """Draw the way of an image through encoder and head; sizes: features, latent -> how many numbers."""
    _, axis = plt.subplots(figsize=(11, 2.1))
    axis.set(xlim=(0, 11), ylim=(0, 2.1))
    axis.axis("off")
    stamp(axis, image, (0.8, 1.2), "0.3", 44)
    boxes = {2.9: ("encoder", "a small ResNet"), 6.7: ("projection head", "two small layers")}
    for x, (name, what) in boxes.items():
        axis.text(
            x,
            1.2,
            f"{name}",
            ha="center",
            va="center",
            fontsize=13,
            fontweight="bold",
            bbox={"boxstyle": "round,pad=0.6", "fc": "0.93", "ec": "0.3"},
        )
        axis.text(x, 0.45, what, ha="center", va="center", fontsize=10, color="0.35")
    for x, name, below in (
        (0.8, "", "image"),
        (4.8, "$h$", f"{sizes['features']} features"),
        (9.6, "$z$", f"latent: {sizes['latent']} numbers, length 1"),
    ):
        axis.text(x, 1.2, name, ha="center", va="center", fontsize=17)
        axis.text(x, 0.45, below, ha="center", va="center", fontsize=10, color="0.35")
    for start, end in ((1.25, 2.1), (3.7, 4.5), (5.1, 5.5), (7.95, 9.3)):
        draw_arrow(axis, np.array((start, 1.2)), np.array((end, 1.2)), "0.3")
    axis.text(
        4.8, 1.85, "kept: kNN and the probe look here", ha="center", fontsize=11, color=LABEL_COLOR
    )
    axis.text(
        9.2,
        1.85,
        "the loss looks here; dropped at the end",
        ha="center",
        fontsize=11,
        color=LATENT_COLOR,
    )
    return axis


def draw_likeness(
    axis: Axes,
    likeness: dict[str, np.ndarray],
    colors: list,
    classes: np.ndarray,
    images: np.ndarray,
) -> Axes:
    """Draw what several judges, name -> (K,), say of the same K images, side by side, over the images."""
    width = 0.8 / len(likeness)
    for k, ((name, values), color) in enumerate(zip(likeness.items(), colors, strict=True)):
        places = np.arange(len(values)) + (k - (len(likeness) - 1) / 2) * width
        look = {"color": color, "edgecolor": color, "linewidth": 2}  # so that a 0 is a line
        axis.bar(places, np.asarray(values), width, label=name, **look)
    axis.spines["bottom"].set_visible(False)
    axis.set(xlim=(-0.6, len(images) - 0.4))
    return image_ticks(axis, images, classes, size=26)
