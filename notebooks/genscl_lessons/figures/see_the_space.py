"""Pictures of lesson 10: where blends go between two classes, and who is whose neighbor."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator

from genscl_lessons.plots import (
    LABEL_COLOR,
    LATENT_COLOR,
    MEAN_STYLE,
    SIMILARITY_MAP,
    WRONG_COLOR,
    class_colors,
    class_ticks,
    row_colors,
)
from genscl_lessons.report import by_method, title
from genscl_lessons.space import MEASURES


def two_lines(method: str) -> str:
    """Return a row's title, broken at its first +."""
    return title(method).replace(" + ", "\n+ ", 1)


def plot_blends(
    matrices: dict[str, dict[str, np.ndarray]], classes: np.ndarray, rows: int, top: float
) -> np.ndarray:
    """Show (M, M) similarities of the same blends, sorted, ``rows`` of them; return the axes.

    Args:
        matrices: name of a line of panels -> title -> similarities; a title may be missing in a line.
        classes: (M,) sorted first classes of the blends.
        rows: how many rows, spread evenly, are shown.
        top: the similarity that has the brightest color.
    """
    chosen = np.linspace(0, len(classes) - 1, min(rows, len(classes))).astype(int)
    titles = list(dict.fromkeys(column for line in matrices.values() for column in line))
    width = min(11.5, 3 * len(titles))
    size = width / (len(titles) + 0.2)
    figure, axes = plt.subplots(
        len(matrices),
        len(titles),
        figsize=(width, size * len(matrices) + 0.4),
        squeeze=False,
        layout="constrained",
    )
    for row, (name, line) in enumerate(matrices.items()):
        for axis, column in zip(axes[row], titles, strict=True):
            if column not in line:
                axis.axis("off")
                continue
            picture = axis.imshow(
                line[column][np.ix_(chosen, chosen)],
                cmap=SIMILARITY_MAP,
                vmin=0,
                vmax=top,
                interpolation="nearest",
            )
            class_ticks(axis, classes[chosen])
            axis.tick_params(labelsize=9)
            sns.despine(ax=axis, left=True, bottom=True)
            if not row:
                axis.set_title(column.replace(", ", ",\n"), fontsize=12 - len(titles) // 2)
        axes[row, titles.index(next(iter(line)))].set_ylabel(name)
    figure.colorbar(picture, ax=axes, shrink=0.8 / len(matrices), aspect=15).set_label(
        "share of the row"
    )
    return axes


def plot_measures(blends: pd.DataFrame, marked: list[str], equal_shares: float) -> np.ndarray:
    """Draw ``MEASURES`` of all rows: a pale dot a seed, and the mean with its 95 % interval.

    Args:
        blends: of ``read_blends``.
        marked: rows that the lesson compares, drawn in color.
        equal_shares: KL from the labels of equal shares for all, drawn as a line.
    """
    rows = list(dict.fromkeys(blends.method))
    _, axes = plt.subplots(1, len(MEASURES), figsize=(11.5, 0.36 * len(rows) + 1.2), sharey=True)
    for axis, (measure, (name, *_)) in zip(axes, MEASURES.items(), strict=True):
        means = by_method(blends, measure)
        for y, method in enumerate(rows):
            color = LATENT_COLOR if method in marked else "0.6"
            own = blends[measure][blends.method == method]
            axis.plot(
                own,
                np.full(len(own), y),
                "o",
                color=color,
                alpha=0.3,
                markersize=5,
                markeredgewidth=0,
            )
            if method in means.index:
                row = means.loc[method]
                half = 0 if np.isnan(row.low) else row.high - row["mean"]
                axis.errorbar(
                    row["mean"], y, xerr=half, color=color, **MEAN_STYLE | {"markersize": 7}
                )
        if measure == "blend_kl":
            axis.axvline(equal_shares, color=LABEL_COLOR, linestyle=":")
        axis.set_xlabel(name, fontsize=11)
        axis.xaxis.set_major_locator(MaxNLocator(5))
        axis.grid(axis="x", alpha=0.4)
        axis.tick_params(axis="y", length=0)
    axes[0].set_yticks(range(len(rows)), [title(method) for method in rows], fontsize=10)
    axes[0].set_ylim(len(rows) - 0.5, -0.5)
    return axes


def plot_sharpness(
    own: dict[str, float], suited: dict[str, float], uniform: float, axis: Axes
) -> Axes:
    """Draw each run's KL from the labels at its own temperature and at the one that suits them best.

    Args:
        own: method -> KL in nats, as the run has it.
        suited: method -> KL in nats, with the temperature fitted.
        uniform: KL of equal shares for all, drawn as a line.
        axis: to draw on.
    """
    for y, method in enumerate(own):
        axis.plot([own[method], suited[method]], [y, y], color="0.75", linewidth=3, zorder=0)
    places = range(len(own))
    axis.plot(list(own.values()), places, "o", color="0.45", markersize=9, label="as trained")
    axis.plot(
        list(suited.values()),
        places,
        "o",
        color=LATENT_COLOR,
        markersize=9,
        label="with the temperature that suits the labels",
    )
    axis.axvline(uniform, color=LABEL_COLOR, linestyle=":", label="equal shares for all")
    axis.set_yticks(places, [title(method) for method in own], fontsize=10)
    axis.set(xlabel="KL from the labels, nats", ylim=(len(own) - 0.5, -0.5), xlim=(0, None))
    axis.legend(frameon=False, fontsize=10, loc="lower center", bbox_to_anchor=(0.4, 1), ncols=3)
    return axis


def mean_shares(label_shares: np.ndarray, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the means of both in each tenth of the label's share, (K,) each, over the tenths that occur."""
    tenths = np.clip((label_shares * 10).astype(int), 0, 9)
    known = np.unique(tenths)
    return tuple(np.array([of[tenths == k].mean() for k in known]) for of in (label_shares, shares))


def plot_shares(label_shares: np.ndarray, latent_shares: dict[str, np.ndarray], axis: Axes) -> Axes:
    """Plot what share of a blend's similarity goes to one of its two classes, a: by its label, by each network.

    Args:
        label_shares: (N,) in [0, 1].
        latent_shares: method -> (N,) in [0, 1], drawn as means over tenths of the label's share.
        axis: to draw on.
    """
    axis.plot([0, 1], [0, 1], color=LABEL_COLOR, linewidth=4, label="what the label says")
    colors = row_colors(latent_shares)
    for method, shares in latent_shares.items():
        style = {"color": colors[method], "linewidth": 2.5, "markersize": 6, "label": title(method)}
        axis.plot(*mean_shares(label_shares, shares), "o-", **style)
    axis.set(xlabel="share of class $a$ in the label", xlim=(0, 1), ylim=(-0.02, 1.02))
    axis.set_ylabel("share of class $a$,\nas the run has it, mean")
    axis.set_aspect("equal")
    axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return axis


def plot_alignment_uniformity(measures: pd.DataFrame, axis: Axes, methods: list[str]) -> Axes:
    """Scatter alignment against uniformity, both low at the lower left, of some methods.

    Args:
        measures: columns ``method``, ``alignment`` (above 0) and ``uniformity``.
        axis: to draw on.
        methods: those to draw.
    """
    found = measures.set_index("method")
    for method, color in row_colors(methods).items():
        row = found.loc[method]
        axis.plot(
            row.uniformity, row.alignment, "o", color=color, markersize=12, label=title(method)
        )
    axis.set(
        yscale="log",
        xlabel="uniformity (low: evenly spread)",
        ylabel="alignment\n(low: classes close together)",
    )
    axis.margins(x=0.2, y=0.2)
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.minorticks_off()
    axis.grid(alpha=0.4)
    axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return axis


def show_neighbors(
    images: np.ndarray,
    queries: np.ndarray,
    neighbors: dict[str, np.ndarray],
    classes: np.ndarray,
    names: list[str],
) -> Axes:
    """Show query images, each with the nearest images of each space in its row; another class is framed.

    Args:
        images: (N, channels, H, W) in [0, 1].
        queries: (Q,) indices.
        neighbors: title of the space -> (Q, k) indices.
        classes: (N,) class numbers.
        names: of the classes.
    """
    tall = images.shape[2] / images.shape[3]
    step, left = 1.25, 2.1
    columns = left + sum(step * found.shape[1] + 0.5 for found in neighbors.values()) - 0.5
    rows = (step * len(queries) + 0.6) * tall
    _, axis = plt.subplots(figsize=(0.6 * columns, 0.6 * rows))

    def tile(image: int, x: float, row: int, wrong: bool = False) -> None:
        top = step * row * tall
        picture = np.moveaxis(images[image], 0, -1).squeeze()
        axis.imshow(picture, cmap="gray_r", vmin=0, vmax=1, extent=(x, x + 1, top + tall, top))
        color, width = (WRONG_COLOR, 2.5) if wrong else ("0.8", 0.8)
        axis.add_patch(
            plt.Rectangle((x, top), 1, tall, fill=False, edgecolor=color, linewidth=width)
        )
        if wrong:
            axis.text(
                x + 1.04,
                top,
                names[classes[image]],
                color=WRONG_COLOR,
                fontsize=9,
                va="top",
                parse_math=False,
            )

    for row, query in enumerate(queries):
        tile(query, 0, row)
        c = classes[query]
        axis.text(
            1.1,
            (step * row + 0.5) * tall,
            names[c],
            color=class_colors(len(names))[c],
            fontweight="bold",
            va="center",
            parse_math=False,
        )
    axis.text(0, -0.25, "query", fontsize=11)
    for name, found in neighbors.items():
        axis.text(left, -0.25, name, fontsize=11, fontweight="bold")
        for (row, k), image in np.ndenumerate(found):
            tile(image, left + step * k, row, classes[image] != classes[queries[row]])
        left += step * found.shape[1] + 0.5
    axis.set(xlim=(-0.1, columns), ylim=(rows - 0.6 * tall, -0.6 * tall))
    axis.axis("off")
    return axis
