"""Pictures of lesson 03: floor and distance, the gradient, how far down the loss goes, Eq. 2, cost."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from genscl_lessons.figures.binary_supcon import draw_circle
from genscl_lessons.figures.digits import DIFFERENCE_MAP, group_ticks, image_ticks, stamp
from genscl_lessons.plots import LABEL_COLOR, LATENT_COLOR, label_colors


def plot_floor_and_distance(
    axis: Axes, entropy: np.ndarray, kl: np.ndarray, labels: np.ndarray, images: np.ndarray
) -> Axes:
    """Stack the two parts of each anchor's loss, (M,) each, over its (8, 8) image, beside what chance gives."""
    places = np.arange(len(kl))
    axis.bar(places, entropy, 0.7, color=LABEL_COLOR, label="$H(w_i)$: the floor")
    axis.bar(
        places,
        kl,
        0.7,
        bottom=entropy,
        color=LATENT_COLOR,
        label=r"$\mathrm{KL}(w_i \| p_i)$: left to learn",
    )
    chance = np.log(len(kl) - 1)
    axis.axhline(chance, color="0.4", linestyle="--", linewidth=2, label="chance: all points alike")
    axis.set(xlim=(-0.6, len(kl) - 0.4), ylabel="loss of the anchor, nats")
    axis.legend(frameon=False, loc="upper left")
    return image_ticks(axis, images, labels, size=26)


def plot_differences(
    frames: dict[str, tuple[np.ndarray, np.ndarray]],
    labels: np.ndarray,
    images: np.ndarray,
    top: float = 0.5,
) -> np.ndarray:
    """Show latents on the circle and, beside each, p - w: red pairs are too close, blue ones too far apart.

    Args:
        frames: title -> (M, 2) unit latents and (M, M) differences p - w.
        labels: (M, C) distributions, for colors.
        images: (M, 8, 8).
        top: the difference that has the strongest color.

    Returns:
        The axes, circle and map for each frame.
    """
    count = len(frames)
    figure, axes = plt.subplots(
        1, 2 * count, figsize=(5.5 * count, 3), width_ratios=(1, 0.9) * count
    )
    for (title, frame), circle, picture in zip(frames.items(), axes[::2], axes[1::2], strict=True):
        points, difference = frame
        draw_circle(circle, points, labels, images, size=18)
        circle.text(0, 0, title, ha="center", va="center", fontsize=11, fontweight="bold")
        shown = np.ma.masked_where(np.eye(len(difference), dtype=bool), difference)
        mappable = picture.imshow(shown, cmap=DIFFERENCE_MAP, vmin=-top, vmax=top)
        picture.set_facecolor("0.85")
        for along in ("x", "y"):
            image_ticks(picture, images, labels, along, size=16)
        picture.spines[:].set_visible(False)
    bar = figure.colorbar(mappable, ax=axes[-1], shrink=0.75, aspect=15, ticks=(-top, 0, top))
    names = f"{-top:g} or less:\ntoo far", "$p = w$", f"{top:g} or more:\ntoo close"
    bar.ax.set_yticklabels(names, fontsize=10)
    bar.ax.tick_params(length=0)
    return axes


def plot_descents(
    axis: Axes, losses: dict[str, list[float]], floor: float, chance: float, title: str
) -> Axes:
    """Draw two falling losses over steps, the second filled down to the floor and its last gap written."""
    steps = 1 + np.arange(len(next(iter(losses.values()))))
    for (name, values), style in zip(losses.items(), (":", "-"), strict=True):
        axis.semilogx(steps, values, color=LATENT_COLOR, linewidth=2.5, linestyle=style, label=name)
    axis.fill_between(steps, floor, values, color=LATENT_COLOR, alpha=0.25, linewidth=0)
    axis.axhline(floor, color=LABEL_COLOR, linewidth=2.5, label="floor: $H(w)$")
    axis.axhline(chance, color="0.4", linestyle="--", linewidth=2, label="chance: all points alike")
    gap = f"{name} ends {abs(values[-1] - floor):.3f} above the floor"
    axis.text(steps[-1], floor - 0.08, gap, ha="right", va="top", fontsize=11)
    axis.xaxis.set_major_formatter("{x:g}")
    axis.set(xlabel="step (logarithmic)", title=title, xlim=(1, steps[-1]))
    return axis


def plot_strip(
    moments: dict[str, dict[str, tuple[np.ndarray, float, float]]],
    labels: np.ndarray,
    images: np.ndarray,
) -> np.ndarray:
    """Show moments of a film, a row for each loss: title -> name -> (N, 2) unit latents, loss, floor."""
    names = list(next(iter(moments.values())))
    size = 2.15 * len(moments), 2.3 * len(names)
    axes = plt.subplots(len(names), len(moments), figsize=size)[1]
    for column, (title, moment) in zip(axes.T, moments.items(), strict=True):
        for axis, name in zip(column, names, strict=True):
            points, loss, floor = moment[name]
            draw_circle(axis, points, labels, images, size=14)
            text = f"loss {loss:.2f}\nfloor {floor:.2f}"
            axis.text(0, -0.18, text, ha="center", va="center", fontsize=9)
            axis.text(0, 0.32, title, ha="center", va="center", fontsize=10, fontweight="bold")
    for axis, name in zip(axes[:, 0], names, strict=True):
        axis.text(
            -0.04,
            0.5,
            name,
            transform=axis.transAxes,
            rotation=90,
            ha="right",
            va="center",
            fontsize=12,
            fontweight="bold",
        )
    return axes


def draw_simplices(axes: np.ndarray) -> np.ndarray:
    """Draw the best places of 2, 3 and 4 classes with room enough, and of 4 on a circle, on four axes."""
    third = 2 * np.pi / 3
    triangle = np.array([[np.sin(k * third), np.cos(k * third)] for k in range(3)])
    square = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]])
    corners = np.array(
        [[0, 0, 1], *(np.c_[8**0.5 * triangle, -np.ones(3)] / 3)]
    )  # a regular tetrahedron
    turn = np.array(
        [[np.cos(0.35), np.sin(0.35), 0], [-0.25 * np.sin(0.35), 0.25 * np.cos(0.35), 0.97]]
    )
    drawn = {
        "2 classes on a line\nall cosines -1": (square[[0, 2]], 0),
        "3 classes on a circle\nall cosines -1/2": (triangle, 1),
        "4 classes in space\nall cosines -1/3": (corners @ turn.T, 2),
        "4 classes on a circle\ncosines 0, 0 and -1": (square, 1),
    }
    around = np.linspace(0, 2 * np.pi, 200)
    for axis, (title, (points, dimensions)) in zip(axes, drawn.items(), strict=True):
        if dimensions:
            axis.plot(np.cos(around), np.sin(around), color="0.8", linewidth=1)
        if dimensions == 2:  # the equator of a sphere
            axis.plot(
                np.cos(around), 0.25 * np.sin(around), color="0.8", linewidth=1, linestyle=":"
            )
        for k, one in enumerate(points):
            axis.plot(*np.c_[one, (0, 0)], color="black", linewidth=2.5)
            for other in points[:k]:
                axis.plot(*np.c_[one, other], color="0.6", linewidth=1, linestyle="--")
        axis.plot(*points.T, "o", color="black", markersize=11)
        axis.set(xlim=(-1.2, 1.2), ylim=(-1.2, 1.2), aspect="equal")
        axis.set_title(title, fontsize=11, fontweight="normal")
        axis.axis("off")
    return axes


def plot_bounds(
    axis: Axes,
    line: np.ndarray,
    bounds: dict[str, np.ndarray],
    taus: list[float],
    reached: dict[str, np.ndarray],
) -> Axes:
    """Draw what theory says is left, (L,) over temperatures ``line``, and what descents reached, (T,)."""
    for (name, values), style in zip(bounds.items(), ("--", "-"), strict=True):
        axis.plot(line, values, color=LABEL_COLOR, linewidth=2, linestyle=style, label=name)
    for (name, values), fill in zip(reached.items(), ("none", "full"), strict=True):
        axis.plot(
            taus,
            values,
            "o",
            color=LATENT_COLOR,
            markersize=9,
            fillstyle=fill,
            markeredgewidth=2,
            label=name,
        )
    axis.set(xlabel=r"temperature $\tau$", ylabel="KL left, nats", ylim=(0, None))
    axis.legend(frameon=False, fontsize=10)
    return axis


def plot_constants(
    axis: Axes, constants: list[tuple[int, float]], possible: tuple[float, float]
) -> Axes:
    """Draw the constants that descents end at, as (dimensions of the latents, constant), and which are possible."""
    low, high = possible
    axis.plot(possible, [0, 0], color=LABEL_COLOR, linewidth=8, solid_capstyle="butt", alpha=0.35)
    axis.annotate(
        f"possible: {low:.2f} to {high:.2f}", (high, 0), (8, 0), textcoords="offset points",
        color=LABEL_COLOR, fontsize=11, va="center",
    )  # fmt: skip
    sizes = sorted({size for size, _ in constants})
    for size, face in zip(sizes, (LATENT_COLOR, "white"), strict=False):
        own = [constant for other, constant in constants if other == size]
        look = {"color": LATENT_COLOR, "markerfacecolor": face, "markersize": 11}
        axis.plot(own, np.zeros(len(own)), "o", label=f"D = {size}", **look)
    axis.set(
        xlabel="constant $b$: the cosine of two equal labels",
        yticks=[],
        xlim=(low - 0.05, high + 0.15),
    )
    axis.spines["left"].set_visible(False)
    axis.legend(frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 0.75))
    return axis


def plot_cosines(
    axis: Axes,
    log_similarities: np.ndarray,
    cosines: np.ndarray,
    line: tuple[float, float],
    labels: np.ndarray,
    images: np.ndarray,
) -> Axes:
    """Scatter the cosines of all pairs of latents over the logarithm of their labels' similarity; show three.

    Args:
        log_similarities, cosines: (M, M).
        line: slope and offset of the line to draw.
        labels: (M, C) distributions, for colors.
        images: (M, 8, 8).
    """
    one, other = np.triu_indices(len(cosines), 1)
    x, y = log_similarities[one, other], cosines[one, other]
    slope, offset = line
    ends = np.array([x.min() - 0.15, 0])
    axis.plot(
        ends,
        offset + slope * ends,
        color=LABEL_COLOR,
        linewidth=2.5,
        zorder=0,
        label=f"slope {slope:.3g}",
    )
    axis.plot(
        x,
        y,
        "o",
        color=LATENT_COLOR,
        markersize=8,
        markeredgecolor="white",
        label="a pair of images",
    )
    colors = label_colors(labels)
    for k in (x.argmin(), np.abs(x - x.min() / 3).argmin(), x.argmax()):
        for image, away in ((one[k], 56), (other[k], 84)):
            line_to_pair = {"arrowstyle": "-", "color": "0.6"} if away == 56 else None
            stamp(
                axis,
                images[image],
                (x[k], y[k]),
                colors[image],
                24,
                xybox=(away, -14),
                boxcoords="offset points",
                arrowprops=line_to_pair,
            )
    axis.set(
        xlabel=r"log of label similarity, $\log s_{ij}$",
        ylabel=r"latent similarity, $z_i \cdot z_j$",
    )
    axis.set(xlim=(None, 1.05), ylim=(y.min() - 0.15, None))
    axis.legend(frameon=False, loc="upper left")
    return _end_at_zero(axis)


def _end_at_zero(axis: Axes) -> Axes:
    """End an axis of log s at 0, the logarithm of the largest similarity; what is written beside it stays."""
    left = axis.get_xlim()[0]
    axis.set_xticks(np.arange(np.ceil(left), 1))
    axis.spines["bottom"].set_bounds(left, 0)
    axis.xaxis.label.set_x(-left / np.ptp(axis.get_xlim()) / 2)
    return axis


def plot_anchor_weights(
    axis: Axes,
    weights: np.ndarray,
    sizes: list[int],
    names: list[str],
    colors: list,
    images: np.ndarray,
) -> Axes:
    """Draw each anchor's weight in "eq2", (M,), against 1 in "normalized"; groups are named."""
    groups = np.split(np.arange(len(weights)), np.cumsum(sizes)[:-1])
    for places, color in zip(groups, colors, strict=True):
        axis.bar(places, weights[places], 0.85, color=color)
    axis.axhline(1, color=LABEL_COLOR, linewidth=2.5)
    axis.text(
        len(weights) - 0.4,
        1.02,
        "all anchors in normalized",
        color=LABEL_COLOR,
        ha="right",
        va="bottom",
        fontsize=11,
    )
    axis.set(xlim=(-0.8, len(weights) - 0.2), ylabel="weight", title="weight of each anchor in eq2")
    return group_ticks(axis, np.array([places.mean() for places in groups]), names, colors, images)


def plot_left_over(
    axis: Axes,
    left_over: dict[str, np.ndarray],
    names: list[str],
    colors: list,
    images: np.ndarray,
) -> Axes:
    """Draw what each group has left to learn, (G,), under two weightings: plain bars and hatched ones."""
    places = np.arange(len(names))
    for (weighting, values), hatch, shift in zip(
        left_over.items(), ("", "///"), (-0.2, 0.2), strict=True
    ):
        axis.bar(
            places + shift, values, 0.38, color=colors, hatch=hatch, edgecolor="white", linewidth=0
        )
        axis.bar(0, 0, color="0.6", hatch=hatch, edgecolor="white", linewidth=0, label=weighting)
    axis.legend(frameon=False, loc="upper left")
    axis.set(ylabel="KL left, nats", title="left to learn after descent")
    return group_ticks(axis, places, names, colors, images)


def draw_to_scale(shapes: dict[str, tuple[int, int]], colors: list) -> Axes:
    """Draw matrices as rectangles, rows down and columns to the right, on one scale, each named beneath."""
    gap = max(columns for _, columns in shapes.values()) / 3.3
    width = sum(columns for _, columns in shapes.values()) + gap * len(shapes)
    tall = max(rows for rows, _ in shapes.values())
    axis = plt.subplots(figsize=(7, 7 * 1.2 * tall / width))[1]
    left = gap / 2
    for (name, (rows, columns)), color in zip(shapes.items(), colors, strict=True):
        axis.add_patch(plt.Rectangle((left, -rows), columns, rows, color=color, linewidth=0))
        text = f"{name}\n{rows:,} x {columns:,}"
        axis.text(left + columns / 2, -tall - 0.04 * tall, text, ha="center", va="top", fontsize=11)
        left += columns + gap
    axis.set(xlim=(0, width), ylim=(-1.2 * tall, 0), aspect="equal")
    axis.axis("off")
    return axis
