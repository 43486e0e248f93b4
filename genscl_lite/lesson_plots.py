"""Pictures that belong to one lesson each (notebooks 01 to 06): arrays in, matplotlib Axes out, in the look of ``plots``."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter

from genscl_lite.plots import CLASS_COLOURS, LABEL_COLOUR, LATENT_COLOUR, SIMILARITY_MAP, class_colours, label_colours

DIFFERENCE_MAP = LinearSegmentedColormap.from_list("difference", [LABEL_COLOUR, "white", LATENT_COLOUR])
"""Colour map of p - w: vermilion where latents say more than labels, blue where they say less."""


def show_label_bars(
    images: np.ndarray, rows: dict[str, np.ndarray], titles: list[str], figure: Figure | None = None, named: float = 0.15
) -> np.ndarray:
    """Show images and, under each, its label distributions as bars in the classes' colours.

    Args:
        images: (N, channels, H, W) in [0, 1].
        rows: what the row of bars is called -> (N, C) distributions.
        titles: N, above the images.
        figure: figure or subfigure to draw on; default: a new one.
        named: bars from this height on have their class written above them.

    Returns:
        The axes, (1 + len(rows), N).
    """
    figure = figure or plt.figure(figsize=(1.3 * len(images) + 0.4, 1.5 + 1.15 * len(rows)))
    axes = figure.subplots(1 + len(rows), len(images), squeeze=False, gridspec_kw={"height_ratios": [1.3] + [1] * len(rows)})
    for axis, image, title in zip(axes[0], images, titles, strict=True):
        axis.imshow(np.moveaxis(image, 0, -1).squeeze(), cmap="gray_r", vmin=0, vmax=1)
        axis.set_title(title, fontsize=10, fontweight="normal")
        axis.axis("off")
    top = max(labels.max() for labels in rows.values())
    for line, (name, labels) in zip(axes[1:], rows.items(), strict=True):
        classes = np.arange(labels.shape[1])
        for axis, label in zip(line, labels, strict=True):
            axis.bar(classes, label, color=class_colours(len(classes)), width=0.9, linewidth=0)
            for c in np.flatnonzero(label >= named):
                axis.text(c, label[c] + 0.02 * top, c, ha="center", va="bottom", fontsize=10)
            axis.set(ylim=(0, 1.22 * top), xlim=(-0.7, len(classes) - 0.3), xticks=[], yticks=[])
            axis.spines["left"].set_visible(False)
        line[0].set_ylabel(name, fontsize=11)
    return axes


def plot_class_matrices(
    matrices: dict[str, np.ndarray], scale: str, top: float | None = None, figure: Figure | None = None
) -> np.ndarray:
    """Show (C, C) class-to-class means side by side on one scale. The diagonal, far above all others, is left blank.

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
    off = {title: np.where(np.eye(len(matrix), dtype=bool), np.nan, matrix) for title, matrix in matrices.items()}
    top = top or max(np.nanmax(matrix) for matrix in off.values())
    for axis, (title, matrix) in zip(axes, off.items(), strict=True):
        axis.set_facecolor("0.8")
        picture = axis.imshow(matrix, cmap=SIMILARITY_MAP, vmin=0, vmax=top)
        axis.set_title(title, fontsize=11)
        ticks = np.arange(len(matrix))
        axis.set(xticks=ticks, yticks=ticks if axis is axes[0] else [])
        axis.tick_params(length=0, labelsize=10, pad=2)
        for side in axis.spines.values():
            side.set_visible(False)
        for labels in (axis.get_xticklabels(), axis.get_yticklabels()):
            for label, colour in zip(labels, class_colours(len(ticks)), strict=False):
                label.set(color=colour, fontweight="bold")
    figure.colorbar(picture, ax=axes[-1], shrink=0.85, label=scale)
    return axes


def plot_entropies(temperatures: np.ndarray, entropies: np.ndarray, marked: dict[float, str], classes: int, axis: Axes) -> Axes:
    """Draw the mean entropy of a teacher's labels against its temperature, (T,) each, with some temperatures named."""
    axis.semilogx(temperatures, entropies, color=LABEL_COLOUR, linewidth=3)
    axis.axhline(np.log(classes), color="0.4", linestyle=":")
    axis.text(temperatures[0], np.log(classes) + 0.04, f"log {classes}: no idea", color="0.4", va="bottom", fontsize=10)
    for temperature, name in marked.items():
        y = np.interp(np.log(temperature), np.log(temperatures), entropies)
        axis.plot(temperature, y, "o", color=LABEL_COLOUR, markersize=10)
        axis.annotate(name, (temperature, y), (-9, 5), textcoords="offset points", ha="right", fontsize=11)
    axis.xaxis.set_major_formatter("{x:g}")
    axis.set(xlabel="teacher temperature", ylabel="mean entropy of its labels, nats", ylim=(0, 1.12 * np.log(classes)))
    return axis


def plot_inheritance(similarity: np.ndarray, cosines: dict[str, np.ndarray], temperature: float) -> np.ndarray:
    """Scatter a student's latent cosines over its teacher's label similarities, a dot for each pair of classes.

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
            axis.annotate(f"{i[k]} and {j[k]}", (x[k], y[k]), (0, 9 if y[k] > perfect[k] else -9), textcoords="offset points",
                          ha=side, va="bottom" if y[k] > perfect[k] else "top", fontsize=10,
                          path_effects=[withStroke(linewidth=3, foreground="white")])
        axis.set(xscale="log", title=title, xlim=(0.8 * x[0], 1.25 * x[-1]))
        axis.set_xlabel("label similarity of the pair, by the teacher", fontsize=11)
        axis.xaxis.set_major_locator(FixedLocator([m * 10.0**e for e in range(-6, 1) for m in (1, 3)]))
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_locator(NullLocator())
    axes[0].set_ylabel("latent cosine, minus its mean")
    axes[0].legend(frameon=False, loc="upper left")
    return axes


def stamp(axis: Axes, image: np.ndarray, xy: tuple, colour, size: float = 18, width: float = 1.5, **where) -> None:
    """Draw one (8, 8) image ``size`` points large at ``xy``, framed by its class colour; ``where`` as for AnnotationBbox."""
    picture = OffsetImage(np.asarray(image), zoom=size / len(image), cmap="gray_r", clim=(0, 1), interpolation="nearest")
    frame = {"edgecolor": colour, "linewidth": width, "facecolor": "white", "boxstyle": "square,pad=0.02"}
    axis.add_artist(AnnotationBbox(picture, xy, pad=0, bboxprops=frame, annotation_clip=False, **where))


def image_ticks(axis: Axes, images: np.ndarray, classes: np.ndarray, along: str = "x", size: float = 16) -> Axes:
    """Put (N, 8, 8) images in place of the tick labels 0 to N - 1 of the "x" or the "y" axis, framed by label colour."""
    for k, (image, colour) in enumerate(zip(images, label_colours(classes), strict=True)):
        if along == "x":
            stamp(axis, image, (k, 0), colour, size, xycoords=("data", "axes fraction"), box_alignment=(0.5, 1),
                  xybox=(0, -5), boxcoords="offset points")  # fmt: skip
        else:
            stamp(axis, image, (0, k), colour, size, xycoords=("axes fraction", "data"), box_alignment=(1, 0.5),
                  xybox=(-5, 0), boxcoords="offset points")  # fmt: skip
    axis.set(**{f"{along}ticks": []})
    return axis


def draw_circle(
    axis: Axes, points: np.ndarray, classes: np.ndarray, images: np.ndarray, size: float = 18, gap: float = 0.34
) -> Axes:
    """Draw (N, 2) points on the unit circle, each with its (8, 8) image beside it; images keep ``gap`` radians apart."""
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
    for _ in range(500):
        missing = np.clip(gap - (np.roll(spread, -1) - spread + 2 * np.pi * (np.arange(len(spread)) == len(spread) - 1)), 0, None)
        spread += (np.roll(missing, 1) - missing) / 2
    return spread[np.argsort(order)]


def plot_learning_circle(
    frames: dict[int, np.ndarray], classes: np.ndarray, images: np.ndarray, losses: list[float], floor: float
) -> Axes:
    """Draw the circle at some steps, step -> (N, 2) points, and under them the loss of all steps above its floor.

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


def draw_forces(axis: Axes, points: np.ndarray, anchor: int, w: np.ndarray, p: np.ndarray, scale: float = 2.0) -> Axes:
    """Draw what each contrast does to the anchor: arrows that cover ``scale`` * |w - p| of the way between the two.

    Args:
        points: (N, 2) on the unit circle; w, p: (N,) shares of the anchor's contrasts, 0 at the anchor itself.
    """
    points, w, p = np.asarray(points), np.asarray(w), np.asarray(p)
    here = points[anchor]
    for there, gap in zip(points, scale * (w - p), strict=True):
        if abs(gap) > 0.005:  # shorter ones are not to be seen
            axis.plot(*zip(here, there, strict=True), color="0.85", linewidth=0.8, zorder=0)
            ends = (here, here + gap * (there - here)) if gap > 0 else (here - gap * (there - here), here)
            _arrow(axis, *ends, LABEL_COLOUR if gap > 0 else LATENT_COLOUR)
    total = scale * ((w - p)[:, None] * (points - here)).sum(axis=0)
    turn = np.arctan2(here[1], here[0]) + np.linspace(0, here[0] * total[1] - here[1] * total[0], 50)
    axis.plot(np.cos(turn), np.sin(turn), color="black", linewidth=4, solid_capstyle="butt", zorder=2)
    _arrow(axis, *np.stack([np.cos(turn), np.sin(turn)], axis=1)[[-8, -1]], "black", 4)
    axis.plot(*here, "o", color="black", markersize=12, fillstyle="none", markeredgewidth=2, zorder=4)
    for name, colour in {"pull": LABEL_COLOUR, "push": LATENT_COLOUR, "sum, along the circle": "black"}.items():
        axis.plot([], [], color=colour, linewidth=3, label=name)
    return axis


def _arrow(axis: Axes, start: np.ndarray, end: np.ndarray, colour, width: float = 2) -> None:
    arrow = {"arrowstyle": "-|>,head_width=0.3,head_length=0.5", "shrinkA": 0, "shrinkB": 6 if colour is LATENT_COLOUR else 0}
    axis.annotate("", end, start, arrowprops=arrow | {"color": colour, "linewidth": width}, zorder=2)


def draw_shares(axis: Axes, w: np.ndarray, p: np.ndarray, classes: np.ndarray, images: np.ndarray, size: float = 16) -> Axes:
    """Draw an anchor's shares of (K,) contrasts side by side: w, what labels ask, and p, what latents give."""
    places, w, p = np.arange(len(w)), np.asarray(w), np.asarray(p)
    axis.bar(places - 0.2, w, 0.4, color=LABEL_COLOUR, label="$w_{ij}$: labels ask")
    axis.bar(places + 0.2, p, 0.4, color=LATENT_COLOUR, label="$p_{ij}$: latents give")
    axis.set(xlim=(-0.6, len(w) - 0.4))
    return image_ticks(axis, images, classes, size=size)


def draw_shares_matrix(
    axis: Axes, matrix: np.ndarray, classes: np.ndarray, images: np.ndarray, title: str, top: float = 1.0, size: float = 16
) -> Axes:
    """Show an (N, N) matrix between 0 and ``top`` with its images along both sides. The diagonal, left out, is gray."""
    matrix = np.where(np.eye(len(matrix), dtype=bool), np.nan, np.asarray(matrix))
    axis.imshow(matrix, cmap=SIMILARITY_MAP, vmin=0, vmax=top)
    axis.set_facecolor("0.8")
    axis.set_title(title, fontsize=11)
    for side in axis.spines.values():
        side.set_visible(False)
    return image_ticks(image_ticks(axis, images, classes, "x", size), images, classes, "y", size)


def plot_pushes(
    points: np.ndarray, classes: np.ndarray, images: np.ndarray, anchor: int, w: np.ndarray, shares: dict[float, np.ndarray]
) -> np.ndarray:
    """Draw, for temperature -> (N,) shares p of one anchor, whom it is pushed away from, and the shares themselves.

    Above, each negative's line is as thick as its share; below, bars of the contrasts, nearest first.
    """
    points, classes = np.asarray(points), np.asarray(classes)
    _, axes = plt.subplots(2, len(shares), figsize=(11, 5.6), height_ratios=(3.5, 1.8), sharey="row")
    order = np.argsort(-points @ points[anchor])[1:]
    for (upper, lower), (temperature, p) in zip(axes.T, shares.items(), strict=True):
        draw_circle(upper, points, classes, images, size=17).set_title(rf"$\tau$ = {temperature:g}")
        for j in np.flatnonzero(classes != classes[anchor]):
            upper.plot(*points[[j, anchor]].T, color=LATENT_COLOUR, linewidth=22 * p[j], alpha=0.75, solid_capstyle="butt")
        upper.plot(*points[anchor], "o", color="white", markersize=13, markeredgecolor="black", markeredgewidth=2, zorder=4)
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
        axis.bar(places, np.asarray(values), width, color=colour, label=name, edgecolor=colour, linewidth=2)  # a 0 is a line
    axis.spines["bottom"].set_visible(False)
    axis.set(xlim=(-0.6, len(images) - 0.4))
    return image_ticks(axis, images, classes, size=26)


def plot_floor_and_distance(axis: Axes, entropy: np.ndarray, kl: np.ndarray, labels: np.ndarray, images: np.ndarray) -> Axes:
    """Stack the two parts of each anchor's loss, (M,) each, over its (8, 8) image: what labels fix, what is left to learn."""
    places = np.arange(len(kl))
    axis.bar(places, entropy, 0.7, color=LABEL_COLOUR, label="$H(w_i)$: the floor")
    axis.bar(places, kl, 0.7, bottom=entropy, color=LATENT_COLOUR, label="$\\mathrm{KL}(w_i \\| p_i)$: left to learn")
    axis.set(xlim=(-0.6, len(kl) - 0.4), ylabel="loss of the anchor, nats")
    axis.legend(frameon=False, loc="upper left")
    return image_ticks(axis, images, labels, size=26)


def plot_differences(
    frames: dict[str, tuple[np.ndarray, np.ndarray]], labels: np.ndarray, images: np.ndarray, top: float = 0.5
) -> np.ndarray:
    """Show latents on the circle and, beside each circle, p - w: red pairs are too close, blue ones too far apart.

    Args:
        frames: title -> (M, 2) unit latents and (M, M) differences p - w.
        labels: (M, C) distributions, for colours.
        images: (M, 8, 8).
        top: the difference that has the strongest colour.

    Returns:
        The axes, circle and map for each frame.
    """
    figure, axes = plt.subplots(1, 2 * len(frames), figsize=(5.5 * len(frames), 3), width_ratios=(1, 0.9) * len(frames))
    for (title, (points, difference)), circle, picture in zip(frames.items(), axes[::2], axes[1::2], strict=True):
        draw_circle(circle, points, labels, images, size=18)
        circle.text(0, 0, title, ha="center", va="center", fontsize=11, fontweight="bold")
        shown = np.ma.masked_where(np.eye(len(difference), dtype=bool), difference)
        mappable = picture.imshow(shown, cmap=DIFFERENCE_MAP, vmin=-top, vmax=top)
        picture.set_facecolor("0.85")
        for along in ("x", "y"):
            image_ticks(picture, images, labels, along, size=16)
        for side in picture.spines.values():
            side.set_visible(False)
    bar = figure.colorbar(mappable, ax=axes[-1], shrink=0.75, aspect=15, ticks=(-top, 0, top))
    bar.ax.set_yticklabels(["too\nfar", "$p = w$", "too\nclose"], fontsize=10)
    bar.ax.tick_params(length=0)
    return axes


def plot_descents(axis: Axes, losses: dict[str, list[float]], floor: float, title: str) -> Axes:
    """Draw two falling losses over steps, the second filled down to the labels' floor and its last height over it named."""
    steps = 1 + np.arange(len(next(iter(losses.values()))))
    for (name, values), style in zip(losses.items(), (":", "-"), strict=True):
        axis.semilogx(steps, values, color=LATENT_COLOUR, linewidth=2.5, linestyle=style, label=name)
    axis.fill_between(steps, floor, values, color=LATENT_COLOUR, alpha=0.25, linewidth=0)
    axis.axhline(floor, color=LABEL_COLOUR, linewidth=2.5, label="floor: $H(w)$")
    gap = f"{name} ends {abs(values[-1] - floor):.3f} above the floor"
    axis.text(steps[-1], floor - 0.08, gap, ha="right", va="top", fontsize=11)
    axis.xaxis.set_major_formatter("{x:g}")
    axis.set(xlabel="step", title=title, xlim=(1, steps[-1]))
    return axis


def plot_cosines(
    axis: Axes,
    log_similarities: np.ndarray,
    cosines: np.ndarray,
    line: tuple[float, float],
    labels: np.ndarray,
    images: np.ndarray,
) -> Axes:
    """Scatter the cosines of all pairs of latents over the logarithm of their labels' similarity, with some pairs shown.

    Args:
        log_similarities, cosines: (M, M).
        line: slope and offset of the line to draw.
        labels: (M, C) distributions, for colours.
        images: (M, 8, 8).
    """
    one, other = np.triu_indices(len(cosines), 1)
    x, y = log_similarities[one, other], cosines[one, other]
    slope, offset = line
    ends = np.array([x.min() - 0.15, 0.15])
    axis.plot(ends, offset + slope * ends, color=LABEL_COLOUR, linewidth=2.5, label=f"slope {slope:.3g}", zorder=0)
    axis.plot(x, y, "o", color=LATENT_COLOUR, markersize=8, markeredgecolor="white", label="a pair of images")
    colours = label_colours(labels)
    for k in (x.argmin(), np.abs(x - x.min() / 3).argmin(), x.argmax()):
        for image, away in ((one[k], 56), (other[k], 84)):
            stamp(axis, images[image], (x[k], y[k]), colours[image], 24, xybox=(away, -14), boxcoords="offset points",
                  arrowprops={"arrowstyle": "-", "color": "0.6"} if away == 56 else None)  # fmt: skip
    axis.set(xlabel="log of label similarity, $\\log s_{ij}$", ylabel="latent similarity, $z_i \\cdot z_j$", xlim=(None, 1.05))
    axis.set(ylim=(y.min() - 0.15, None))
    axis.legend(frameon=False, loc="upper left")
    return axis


def group_ticks(axis: Axes, centres: np.ndarray, names: list[str], colours: list, images: np.ndarray) -> Axes:
    """Put an (8, 8) image and a name under each group of bars."""
    for x, name, colour, image in zip(centres, names, colours, images, strict=True):
        stamp(axis, image, (x, 0), colour, 24, xycoords=("data", "axes fraction"), box_alignment=(0.5, 1),
              xybox=(0, -5), boxcoords="offset points")  # fmt: skip
        axis.annotate(name, (x, 0), (0, -36), xycoords=("data", "axes fraction"), textcoords="offset points",
                      ha="center", va="top", fontsize=10, annotation_clip=False)  # fmt: skip
    axis.set(xticks=[])
    return axis


def plot_anchor_weights(
    axis: Axes, weights: np.ndarray, sizes: list[int], names: list[str], colours: list, images: np.ndarray
) -> Axes:
    """Draw each anchor's weight in "eq2", (M,), against 1 in "normalized", group by group, a name and an image for each."""
    groups = np.split(np.arange(len(weights)), np.cumsum(sizes)[:-1])
    for places, colour in zip(groups, colours, strict=True):
        axis.bar(places, weights[places], 0.85, color=colour)
    axis.axhline(1, color=LABEL_COLOUR, linewidth=2.5)
    axis.text(len(weights) - 0.4, 1.02, "all anchors in normalized", color=LABEL_COLOUR, ha="right", va="bottom", fontsize=11)
    axis.set(xlim=(-0.8, len(weights) - 0.2), ylabel="weight", title="weight of each anchor in eq2")
    return group_ticks(axis, np.array([places.mean() for places in groups]), names, colours, images)


def plot_left_over(axis: Axes, left_over: dict[str, np.ndarray], names: list[str], colours: list, images: np.ndarray) -> Axes:
    """Draw what each group has left to learn, (G,), under two weightings: plain bars and hatched ones."""
    places = np.arange(len(names))
    for (weighting, values), hatch, shift in zip(left_over.items(), ("", "///"), (-0.2, 0.2), strict=True):
        axis.bar(places + shift, values, 0.38, color=colours, hatch=hatch, edgecolor="white", linewidth=0)
        axis.bar(0, 0, color="0.6", hatch=hatch, edgecolor="white", linewidth=0, label=weighting)
    axis.legend(frameon=False, loc="upper left")
    axis.set(ylabel="KL left, nats", title="left to learn after descent")
    return group_ticks(axis, places, names, colours, images)


def draw_to_scale(shapes: dict[str, tuple[int, int]], colours: list) -> Axes:
    """Draw matrices as rectangles, rows down and columns to the right, all on one scale, each named beneath."""
    gap = max(columns for _, columns in shapes.values()) / 3.3
    width = sum(columns for _, columns in shapes.values()) + gap * len(shapes)
    tall = max(rows for rows, _ in shapes.values())
    axis = plt.subplots(figsize=(7, 7 * 1.2 * tall / width))[1]
    left = gap / 2
    for (name, (rows, columns)), colour in zip(shapes.items(), colours, strict=True):
        axis.add_patch(plt.Rectangle((left, -rows), columns, rows, color=colour, linewidth=0))
        axis.text(left + columns / 2, -tall - 0.04 * tall, f"{name}\n{rows:,} x {columns:,}", ha="center", va="top", fontsize=11)
        left += columns + gap
    axis.set(xlim=(0, width), ylim=(-1.2 * tall, 0), aspect="equal")
    axis.axis("off")
    return axis


def draw_boxes(axes: np.ndarray, boxes: list[tuple[int, int, int]], pixels: int) -> np.ndarray:
    """Outline CutMix's boxes as they were drawn, (row, column, half a side) each, also where they leave the image."""
    for axis, (row, column, half) in zip(axes, boxes, strict=True):
        corner = column - half - 0.5, row - half - 0.5
        axis.add_patch(plt.Rectangle((-0.5, -0.5), pixels, pixels, fill=False, edgecolor="0.7", linewidth=1))
        dashes = {"fill": False, "edgecolor": LATENT_COLOUR, "linewidth": 2, "linestyle": "--"}
        axis.add_patch(plt.Rectangle(corner, 2 * half, 2 * half, **dashes))
        axis.set(xlim=(-0.22 * pixels, 1.22 * pixels), ylim=(1.22 * pixels, -0.22 * pixels))
    return axes


def plot_kept(axis: Axes, drawn: np.ndarray, kept: np.ndarray, title: str) -> Axes:
    """Scatter the share of pixels an image keeps over the share that was drawn, (N,) each."""
    axis.plot([0, 1], [0, 1], color="0.6", linewidth=1.5, zorder=0)
    axis.scatter(drawn, kept, s=9, color=LABEL_COLOUR, alpha=0.5, linewidths=0)
    gap = (kept - drawn).mean()
    axis.text(0.97, 0.06, f"{100 * gap:.0f} points more\nthan drawn, on average", ha="right", va="bottom", fontsize=11)
    axis.set(xlim=(0, 1.02), ylim=(0, 1.02), aspect="equal", xlabel="drawn $\\lambda$", ylabel="pixels really kept", title=title)
    return axis


def owner_picture(owners: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Colour each pixel of N mixed images by whom it comes from: (N, K, H, W) shares of K images -> (N, H, W, 3)."""
    return np.einsum("nkhw,kc->nhwc", owners, label_colours(classes))


def show_owners(images: np.ndarray, owners: np.ndarray, classes: np.ndarray, labels: np.ndarray) -> Figure:
    """Show mixed images, under each whose pixels they are, and under that the mixed label as one bar of the same colours.

    Args:
        images: (N, channels, H, W) mixed.
        owners: (N, N, H, W), how much of each pixel comes from which image of the batch.
        classes: (N,) of the images before mixing.
        labels: (N, C) mixed.
    """
    figure, axes = plt.subplots(3, len(images), figsize=(1.3 * len(images) + 0.4, 3.3), height_ratios=(1, 1, 0.3))
    for column, image, picture, label in zip(axes.T, images, owner_picture(owners, classes), labels, strict=True):
        column[0].imshow(np.moveaxis(image, 0, -1).squeeze(), cmap="gray_r", vmin=0, vmax=1)
        column[1].imshow(picture)
        left = 0.0
        for c in np.flatnonzero(label > 0):
            column[2].barh(0, label[c], left=left, color=CLASS_COLOURS[c], height=1)
            if label[c] > 0.12:
                column[2].text(left + label[c] / 2, 0, c, ha="center", va="center", fontsize=12, fontweight="bold")
            left += label[c]
        column[2].set(xlim=(0, 1), ylim=(-0.5, 0.5))
        for axis in column:
            axis.set(xticks=[], yticks=[])
            for side in axis.spines.values():
                side.set_visible(False)
    for axis, name in zip(axes[:, 0], ("image", "whose pixels", "label"), strict=True):
        axis.set_ylabel(name, fontsize=11)
    return figure


def plot_sweep(
    axis: Axes, shares: np.ndarray, curves: dict[int, tuple[np.ndarray, np.ndarray]], images: np.ndarray
) -> Axes:
    """Draw how similar a blend is to its two parents while its share grows: by distributions (lines), by argmax (dashes).

    Args:
        shares: (S,) of the first parent.
        curves: class of a parent -> (S,) similarities by distributions, and by argmax.
        images: (B, H, W), blends at B even shares from 0 to 1, drawn under the axis.
    """
    for c, (soft, hard) in curves.items():
        axis.plot(shares, hard, color=CLASS_COLOURS[c], linewidth=2, linestyle=(0, (4, 2)), drawstyle="steps-mid")
        axis.plot(shares, soft, color=CLASS_COLOURS[c], linewidth=3.5, label=f"similarity to a {c}")
    axis.plot([], [], color="0.4", linewidth=3.5, label="by distributions")
    axis.plot([], [], color="0.4", linewidth=2, linestyle=(0, (4, 2)), label="by argmax")
    first, second = (np.array(CLASS_COLOURS[c]) for c in curves)
    places = np.linspace(0, 1, len(images))
    for x, image in zip(places, images, strict=True):
        stamp(axis, image, (x, 0), x * first + (1 - x) * second, 26, xycoords=("data", "axes fraction"),
              box_alignment=(0.5, 1), xybox=(0, -22), boxcoords="offset points")  # fmt: skip
    axis.set(xlim=(-0.02, 1.02), ylim=(-0.03, 1.05), ylabel="similarity")
    axis.set_xticks(places, [f"{x:.2f}" for x in places])
    axis.set_xlabel(f"share of the {next(iter(curves))}", labelpad=34)
    axis.legend(frameon=False, fontsize=10, loc="center left", bbox_to_anchor=(0, 0.42))
    return axis


def plot_label_kinds(hard: np.ndarray, soft: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Show (M, M) similarities by argmax and by distributions, and their difference, rows sorted by (M,) ``classes``."""
    order = np.argsort(classes, kind="stable")
    borders = np.flatnonzero(np.diff(classes[order])) + 0.5
    starts, ends = np.r_[-0.5, borders], np.r_[borders, len(order) - 0.5]
    figure, axes = plt.subplots(1, 3, figsize=(10.8, 3.5))
    shown = {"argmax": hard, "distributions": soft, "argmax minus distributions": hard - soft}
    for axis, (title, matrix) in zip(axes, shown.items(), strict=True):
        colours, least = (DIFFERENCE_MAP, -1) if axis is axes[2] else (SIMILARITY_MAP, 0)
        picture = axis.imshow(matrix[np.ix_(order, order)], cmap=colours, vmin=least, vmax=1, interpolation="nearest")
        axis.set_title(title)
        axis.set_xticks((starts + ends) / 2, classes[order][(ends - 0.5).astype(int)])
        axis.set_yticks((starts + ends) / 2, classes[order][(ends - 0.5).astype(int)])
        axis.tick_params(length=0)
        for side in axis.spines.values():
            side.set_visible(False)
        if axis is not axes[0]:
            bar = figure.colorbar(picture, ax=axis, shrink=0.8, aspect=15, ticks=(least, 0, 1))
    bar.ax.set_yticklabels(["denied", "agree", "invented"])
    return axes


def plot_beta_draws(draws: dict[float, np.ndarray], one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Draw a histogram of lam for each alpha, alpha -> (draws,), and beneath it blends of two (H, W) images at its deciles."""
    figure, axes = plt.subplots(2, len(draws), figsize=(3.5 * len(draws), 3.3), height_ratios=(3, 1))
    for (top, strip), (alpha, lam) in zip(axes.T, draws.items(), strict=True):
        top.hist(lam, bins=20, range=(0, 1), density=True, color=LABEL_COLOUR, edgecolor="white", linewidth=0.5)
        top.set(title=f"$\\alpha$ = {alpha:g}", xlabel="$\\lambda$", yticks=[], xlim=(0, 1))
        top.spines["left"].set_visible(False)
        shares = np.quantile(lam, (0.1, 0.3, 0.5, 0.7, 0.9))
        blends = [share * one + (1 - share) * other for share in shares]
        gap = np.zeros((len(one), 3))
        strip.imshow(np.hstack([part for blend in blends for part in (blend, gap)][:-1]), cmap="gray_r", vmin=0, vmax=1)
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
            for side in axis.spines.values():
                side.set_visible(False)
        line[0].set_ylabel(name, fontsize=11, rotation=0, ha="right", va="center")
    return figure


# 02: how similar two labels are


def plot_label_columns(labels: dict[str, np.ndarray], images: dict[str, np.ndarray]) -> np.ndarray:
    """Draw title -> (N, C) label distributions as columns stacked of class colours, over title -> (N, 8, 8) images.

    Images are framed in the colour of the label's largest class.

    Returns:
        The axes, one for each title.
    """
    _, axes = plt.subplots(len(labels), 1, figsize=(11, 1.62 * len(labels)), sharex=True)
    for axis, (title, y) in zip(axes, labels.items(), strict=True):
        y = np.asarray(y)
        for c, below in enumerate((y.cumsum(axis=1) - y).T):
            axis.bar(np.arange(len(y)), y[:, c], 0.86, below, color=class_colours(y.shape[1])[c], linewidth=0)
        axis.set(ylim=(0, 1), yticks=[0, 1], xlim=(-0.6, len(y) - 0.4))
        axis.set_ylabel(title, fontsize=11)
        image_ticks(axis, images[title], y.argmax(axis=1), size=26)
        for side in axis.spines.values():
            side.set_visible(False)
        axis.tick_params(length=0)
    for c, colour in enumerate(class_colours(y.shape[1])):
        axes[0].plot([], [], "s", color=colour, markersize=10, label=str(c))
    axes[0].legend(frameon=False, ncols=y.shape[1], loc="lower left", bbox_to_anchor=(0, 1), columnspacing=1.2, handletextpad=0.1)
    return axes


def plot_label_matrices(matrices: dict[str, np.ndarray], labels: dict[str, np.ndarray], names: np.ndarray) -> np.ndarray:
    """Show title -> (N, N) label similarities side by side, with the (N, C) labels as bars along the left of each.

    Args:
        names: (N,) class numbers, written once for each run of equal ones.

    Returns:
        The axes, one for each matrix.
    """
    figure, axes = plt.subplots(1, len(matrices), figsize=(11, 2.9))
    names, rows = np.asarray(names), len(names)
    first = np.flatnonzero(np.diff(names, prepend=-1))
    centres = (first + np.append(first[1:], rows) - 1) / 2
    for axis, (title, matrix) in zip(axes, matrices.items(), strict=True):
        picture = axis.imshow(np.asarray(matrix), cmap=SIMILARITY_MAP, vmin=0, vmax=1)
        y = np.asarray(labels[title])
        bar, left = rows / 4, -0.5 - rows / 4 - rows / 40
        for c, before in enumerate((y.cumsum(axis=1) - y).T):
            axis.barh(np.arange(rows), bar * y[:, c], 0.8, left + bar * before, color=class_colours(y.shape[1])[c], linewidth=0)
        axis.set(title=title, xlim=(left, rows - 0.5), ylim=(rows - 0.5, -0.5))
        axis.set_xticks(centres, names[first])
        axis.set_yticks(centres, names[first])
        axis.tick_params(length=0)
        for side in axis.spines.values():
            side.set_visible(False)
    figure.colorbar(picture, ax=axes[-1], shrink=0.8, label="similarity")
    return axes


def plot_written_matrix(matrix: np.ndarray, images: np.ndarray, labels: np.ndarray, axis: Axes) -> Axes:
    """Show an (N, N) similarity with its values written in, and its images along both sides."""
    matrix = np.asarray(matrix)
    axis.imshow(matrix, cmap=SIMILARITY_MAP, vmin=0, vmax=1)
    for (row, column), value in np.ndenumerate(matrix):
        axis.text(column, row, f"{value:.2f}", ha="center", va="center", color="white" if value < 0.6 else "black")
    for side in axis.spines.values():
        side.set_visible(False)
    return image_ticks(image_ticks(axis, images, labels, "x", 34), images, labels, "y", 34)


def plot_label_arrows(labels: np.ndarray, images: np.ndarray, names: tuple[str, str], axis: Axes) -> Axes:
    """Draw (N, 2) labels over two classes as arrows from the origin, with the (N, 8, 8) images and the cosine to the first."""
    labels = np.asarray(labels)
    unit = labels / np.linalg.norm(labels, axis=1, keepdims=True)
    axis.plot([0, 1], [1, 0], color="0.7", linestyle=":", zorder=0)
    colours = labels @ np.array([CLASS_COLOURS[int(name)] for name in names])
    for label, way, image, colour in zip(labels, unit, images, colours, strict=True):
        _arrow(axis, np.zeros(2), label, colour, 2.5)
        stamp(axis, image, tuple(label + 0.11 * way), colour, size=26)
        axis.text(*(label + 0.11 * way + (0.09, 0)), f"cos {way @ unit[0]:.2f}", va="center", fontsize=11)
    axis.set(xlim=(-0.06, 1.42), ylim=(-0.08, 1.2), aspect="equal", xticks=[0, 0.5, 1], yticks=[0, 0.5, 1],
             xlabel=f"share of {names[0]}", ylabel=f"share of {names[1]}")  # fmt: skip
    axis.spines["left"].set_bounds(0, 1)
    axis.spines["bottom"].set_bounds(0, 1)
    return axis


def plot_measures(
    share: np.ndarray, curves: dict[str, np.ndarray], pictures: dict[float, np.ndarray], axis: Axes, marked: float | None = None
) -> Axes:
    """Draw name -> (S,) similarities over the (S,) share of one class in a blend, with the blends' images below the axis.

    Args:
        pictures: share -> (8, 8) image, in place of tick labels.
        marked: a share to mark by a vertical line.
    """
    looks = [{"color": LABEL_COLOUR, "linewidth": 3.5}, {"color": "0.45", "linestyle": "--"}, {"color": CLASS_COLOURS[2]}]
    for (name, values), look in zip(curves.items(), looks, strict=True):
        axis.plot(np.asarray(share), np.asarray(values), label=name, **{"linewidth": 2.5} | look)
    if marked is not None:
        axis.axvline(marked, color="0.85", linewidth=7, zorder=0)
    for x, image in pictures.items():
        stamp(axis, image, (x, 0), "0.6", 24, 1, xycoords=("data", "axes fraction"), box_alignment=(0.5, 1), xybox=(0, -22),
              boxcoords="offset points")  # fmt: skip
    axis.set_xticks(list(pictures), [f"{x:g}" for x in pictures])
    axis.set(xlim=(-0.03, 1.03), ylim=(0, 1.05), ylabel="similarity")
    return axis


def plot_resemblance(counts: dict[str, np.ndarray], images: np.ndarray, classes: np.ndarray, most: int, axis: Axes) -> Axes:
    """Draw title -> (N,) effective numbers of contrasts over the images, and the most there can be."""
    looks = [("s", "0.3"), ("D", CLASS_COLOURS[4]), ("o", CLASS_COLOURS[2]), ("*", LABEL_COLOUR)]
    for (title, values), (marker, colour) in zip(counts.items(), looks, strict=True):
        size = 13 if marker == "*" else 8
        axis.plot(np.asarray(values), marker, color=colour, markersize=size, linestyle=":", linewidth=1, label=title)
    axis.axhline(most, color="0.7", linewidth=1)
    axis.text(len(images) - 0.4, most + 0.2, "all contrasts", ha="right", color="0.5", fontsize=10)
    axis.set(xlim=(-0.6, len(images) - 0.4), ylim=(0, most + 1.5), ylabel="contrasts resembled")
    return image_ticks(axis, images, classes, size=26)


def plot_asked_shares(
    w: dict[str, np.ndarray], anchor: int, images: dict[str, np.ndarray], labels: dict[str, np.ndarray]
) -> np.ndarray:
    """Draw title -> (N, N) shares of one anchor as bars, a row for each title, with how many contrasts it resembles.

    Images: title -> (N, 8, 8), framed in the colour of the largest class of labels: title -> (N, C). Returns the axes.
    """
    _, axes = plt.subplots(len(w), 1, figsize=(11, 1.45 * len(w)), sharex=True, sharey=True)
    for axis, (title, shares) in zip(axes, w.items(), strict=True):
        share = np.asarray(shares[anchor])
        many = np.exp(-(share[share > 0] * np.log(share[share > 0])).sum())
        axis.bar(np.arange(len(share)), share, color=LABEL_COLOUR)
        axis.text(0.995, 0.95, f"resembles {many:.1f} contrasts", ha="right", va="top", transform=axis.transAxes, fontsize=11)
        axis.set_ylabel(title, fontsize=11)
        image_ticks(axis, images[title], np.asarray(labels[title]).argmax(axis=1), size=22)
        axis.axvspan(anchor - 0.5, anchor + 0.5, color="0.9", zorder=0)
        axis.text(anchor, 0.5, "the\nanchor", ha="center", va="center", transform=axis.get_xaxis_transform(), fontsize=10)
    axes[0].set(xlim=(-0.6, len(share) - 0.4), ylim=(0, None))
    return axes


def plot_contrasts(anchor: np.ndarray, groups: dict[str, tuple[np.ndarray, np.ndarray]], columns: int = 43) -> Figure:
    """Show an anchor and groups of contrasts: the more one resembles the anchor, the bluer; the others fade.

    Args:
        anchor: (H, W) in [0, 1].
        groups: title -> images (K, H, W) in [0, 1] and their similarity to the anchor, (K,) in [0, 1].
        columns: contrasts in a line.
    """
    lines = [-(-len(images) // columns) for images, _ in groups.values()]
    figure = plt.figure(figsize=(11, 0.24 * sum(lines) + 0.45 * len(lines)))
    left, right = figure.subfigures(1, 2, width_ratios=[1, 9.5])
    axes = [left.subplots(), *right.subplots(len(groups), 1, squeeze=False, gridspec_kw={"height_ratios": lines})[:, 0]]
    axes[0].imshow(anchor, cmap="gray_r", vmin=0, vmax=1)
    axes[0].set_title("anchor", fontsize=11)
    for axis, line, (title, (images, similarity)) in zip(axes[1:], lines, groups.items(), strict=True):
        height, width = images.shape[1] + 2, images.shape[2] + 2  # a white frame of one pixel
        picture = np.ones((line * height, columns * width, 3))
        for k, (image, strength) in enumerate(zip(images, similarity, strict=True)):
            top, side = k // columns * height + 1, k % columns * width + 1
            ink = np.array(LABEL_COLOUR) * strength + 0.86 * (1 - strength)
            picture[top : top + height - 2, side : side + width - 2] = 1 - image[..., None] * (1 - ink)
        axis.imshow(picture, interpolation="nearest")
        axis.set_title(title, fontsize=11, loc="left")
    for axis in axes:
        axis.axis("off")
        axis.set_anchor("NW")
    return figure


def plot_contrast_count(
    sizes: list[int], agree: np.ndarray, company: np.ndarray, marked: dict[str, int], axis: Axes | None = None
) -> Axes:
    """Draw what more contrasts bring, with the range over draws.

    Args:
        sizes: numbers of contrasts.
        agree: (sizes, draws) mean cosine of the anchors' gradients with those from all contrasts there are.
        company: (sizes, draws) share of anchors that find a contrast they resemble.
        marked: name -> number of contrasts to mark.
    """
    axis = axis or plt.subplots(figsize=(11, 3.6))[1]
    for values, colour, name in ((company, LABEL_COLOUR, "anchors that meet a similar contrast"),
                                 (agree, LATENT_COLOUR, "agreement of the gradient with that of all contrasts (cosine)")):
        axis.plot(sizes, values.mean(axis=1), "o-", color=colour, linewidth=3, label=name)
        axis.fill_between(sizes, values.min(axis=1), values.max(axis=1), color=colour, alpha=0.2, linewidth=0)
    for name, size in marked.items():
        axis.axvline(size, color="0.6", linestyle=":", zorder=0)
        axis.annotate(f"the {name}", (size, 0.02), (4, 0), textcoords="offset points", color="0.3", fontsize=11)
    axis.set(xscale="log", ylim=(0, 1.02), xlabel="number of contrasts")
    axis.xaxis.set_major_locator(FixedLocator(sizes))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_major_formatter(PercentFormatter(1))
    axis.legend(frameon=False, loc="lower right", bbox_to_anchor=(0.95, 0.08), fontsize=11)
    return axis


def plot_queue(
    images: np.ndarray, labels: np.ndarray, written: np.ndarray, next_slots: list[int], axis: Axes | None = None
) -> Axes:
    """Draw what a queue holds after each of S steps, a line each: the images, and under each its label as a coloured bar.

    Args:
        images: (S, slots, H, W) in [0, 1].
        labels: (S, slots, C) distributions.
        written: (S, slots), the step in which a slot was written; NaN: still empty.
        next_slots: S, the slot where the next step will begin.
    """
    steps, slots = written.shape
    axis = axis or plt.subplots(figsize=(11, 0.83 * steps + 0.5))[1]
    for step, slot in np.ndindex(steps, slots):
        top, age = 1.3 * step, step - written[step, slot]
        box = {"xy": (slot + 0.05, top), "width": 0.9, "height": 1.08, "fill": False}
        if np.isnan(age):
            axis.add_patch(plt.Rectangle(**box, edgecolor="0.75", linestyle=":"))
            continue
        strength = max(0.25, 1 - 0.3 * age)
        axis.imshow(images[step, slot], cmap="gray_r", vmin=0, vmax=1, alpha=strength,
                    extent=(slot + 0.08, slot + 0.92, top + 0.87, top + 0.03))
        left = slot + 0.05
        for share, colour in zip(labels[step, slot], CLASS_COLOURS, strict=True):
            axis.add_patch(plt.Rectangle((left, top + 0.9), 0.9 * share, 0.18, facecolor=colour, alpha=strength, linewidth=0))
            left += 0.9 * share
        axis.add_patch(plt.Rectangle(**box, edgecolor="black" if age == 0 else "0.8", linewidth=1.8 if age == 0 else 0.6))
    for step, slot in enumerate(next_slots):
        axis.plot(slot + 0.05, 1.3 * step + 1.16, marker="^", color=LATENT_COLOUR, markersize=8, clip_on=False)
    axis.set(xlim=(-0.05, slots + 0.05), ylim=(1.3 * steps, -0.1), aspect="auto", xlabel="slot",
             xticks=np.arange(slots) + 0.5, yticks=1.3 * np.arange(steps) + 0.5)
    axis.set_xticklabels(range(slots), fontsize=10)
    axis.set_yticklabels([f"step {step}" for step in range(steps)], fontsize=11)
    axis.tick_params(length=0)
    for side in axis.spines.values():
        side.set_visible(False)
    return axis


def plot_slow_keys(turned: dict[float, np.ndarray], agreement: dict[float, np.ndarray], every: int) -> np.ndarray:
    """Draw how far keys of each age have turned, and how well query and key encoder agree, a line for each momentum.

    Args:
        turned: momentum -> (ages,) mean angle in degrees between a key made so many steps ago and the key of today.
        agreement: momentum -> (moments,) mean cosine of the query and the key of one image, measured ``every`` steps.

    Returns:
        The two axes.
    """
    _, axes = plt.subplots(1, 2, figsize=(11, 3.9))
    colours = plt.get_cmap("viridis")(np.linspace(0, 0.85, len(turned)))
    for (momentum, angle), colour in zip(turned.items(), colours, strict=True):
        steps = every * (1 + np.arange(len(agreement[momentum])))
        for axis, x, y in ((axes[0], np.arange(len(angle)), angle), (axes[1], steps, agreement[momentum])):
            axis.plot(x, y, color=colour, linewidth=3, label=f"{momentum:g}")
    axes[0].set(title="Consistent: has a stored key turned?", xlabel="age of the key, steps",
                ylabel="angle to the key of today, degrees", ylim=(0, None))
    axes[1].set(title="Up to date: do both encoders agree?", xlabel="training step", ylabel="cosine of query and key",
                ylim=(None, 1.02))
    axes[1].legend(title="momentum", loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return axes
