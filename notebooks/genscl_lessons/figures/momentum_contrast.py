"""Pictures of lesson 06: contrasts, the queue slot by slot, keys that age, settings over seeds."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter

from genscl_lessons.plots import (
    CLASS_COLORS,
    LABEL_COLOR,
    LATENT_COLOR,
    MEAN_STYLE,
    half_interval,
)


def plot_contrasts(
    anchor: np.ndarray, groups: dict[str, tuple[np.ndarray, np.ndarray]], columns: int = 43
) -> Figure:
    """Show an anchor and groups of contrasts: the more one resembles the anchor, the bluer; the others fade.

    Args:
        anchor: (H, W) in [0, 1].
        groups: title -> images (K, H, W) in [0, 1] and their similarity to the anchor, (K,) in [0, 1].
        columns: contrasts in a line.
    """
    lines = [-(-len(images) // columns) for images, _ in groups.values()]
    figure = plt.figure(figsize=(11, 0.24 * sum(lines) + 0.45 * len(lines)))
    left, right = figure.subfigures(1, 2, width_ratios=[1, 9.5])
    axes = [
        left.subplots(),
        *right.subplots(len(groups), 1, squeeze=False, height_ratios=lines)[:, 0],
    ]
    axes[0].imshow(anchor, cmap="gray_r", vmin=0, vmax=1)
    axes[0].set_title("anchor", fontsize=11)
    for axis, line, (title, (images, similarity)) in zip(
        axes[1:], lines, groups.items(), strict=True
    ):
        height, width = images.shape[1] + 2, images.shape[2] + 2  # a white frame of one pixel
        picture = np.ones((line * height, columns * width, 3))
        for k, (image, strength) in enumerate(zip(images, similarity, strict=True)):
            top, side = k // columns * height + 1, k % columns * width + 1
            ink = np.array(LABEL_COLOR) * strength + 0.86 * (1 - strength)
            picture[top : top + height - 2, side : side + width - 2] = 1 - image[..., None] * (
                1 - ink
            )
        axis.imshow(picture, interpolation="nearest")
        axis.set_title(title, fontsize=11, loc="left")
    for axis in axes:
        axis.axis("off")
        axis.set_anchor("NW")
    return figure


def plot_contrast_count(
    sizes: list[int], agree: np.ndarray, company: np.ndarray, marked: dict[str, int]
) -> np.ndarray:
    """Draw what more contrasts bring, with the range over draws, in two panels; return the axes.

    Args:
        sizes: numbers of contrasts.
        agree: (sizes, draws) mean cosine of the anchors' gradients with those from very many contrasts.
        company: (sizes, draws) share of anchors that find a contrast they resemble.
        marked: name -> number of contrasts to mark.
    """
    _, axes = plt.subplots(1, 2, figsize=(11, 3.4))
    panels = {
        "anchors that meet a similar contrast": (company, LABEL_COLOR),
        "cosine of the gradient with\nthat of very many contrasts": (agree, LATENT_COLOR),
    }
    for axis, (name, (values, color)) in zip(axes, panels.items(), strict=True):
        axis.plot(sizes, values.mean(axis=1), "o-", color=color, linewidth=3)
        axis.fill_between(
            sizes, values.min(axis=1), values.max(axis=1), color=color, alpha=0.2, linewidth=0
        )
        for label, size in marked.items():
            axis.axvline(size, color="0.6", linestyle=":", zorder=0)
            axis.annotate(
                f"the {label}",
                (size, 0.02),
                (4, 0),
                textcoords="offset points",
                color="0.3",
                fontsize=11,
            )
        axis.set(xscale="log", ylim=(0, 1.02), xlabel="number of contrasts")
        axis.set_title(name, fontsize=12)
        axis.xaxis.set_major_locator(FixedLocator(sizes))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.xaxis.set_major_formatter("{x:g}")
    axes[0].yaxis.set_major_formatter(PercentFormatter(1))
    return axes


def plot_queue(
    images: np.ndarray,
    labels: np.ndarray,
    written: np.ndarray,
    next_slots: list[int],
    axis: Axes | None = None,
) -> Axes:
    """Draw what a queue holds after each of S steps, a line each: the images, each with its label as a bar.

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
        axis.imshow(
            images[step, slot],
            cmap="gray_r",
            vmin=0,
            vmax=1,
            alpha=strength,
            extent=(slot + 0.08, slot + 0.92, top + 0.87, top + 0.03),
        )
        left = slot + 0.05
        for share, color in zip(labels[step, slot], CLASS_COLORS, strict=True):
            look = {"facecolor": color, "alpha": strength, "linewidth": 0}
            axis.add_patch(plt.Rectangle((left, top + 0.9), 0.9 * share, 0.18, **look))
            left += 0.9 * share
        color, width = ("black", 1.8) if age == 0 else ("0.8", 0.6)
        axis.add_patch(plt.Rectangle(**box, edgecolor=color, linewidth=width))
    for step, slot in enumerate(next_slots):
        axis.plot(
            slot + 0.05, 1.3 * step + 1.16, "^", color=LATENT_COLOR, markersize=8, clip_on=False
        )
    axis.set(
        xlim=(-0.05, slots + 0.05),
        ylim=(1.3 * steps, -0.1),
        aspect="auto",
        xlabel="slot",
        xticks=np.arange(slots) + 0.5,
        yticks=1.3 * np.arange(steps) + 0.5,
    )
    axis.set_xticklabels(range(slots), fontsize=10)
    axis.set_yticklabels([f"step {step}" for step in range(steps)], fontsize=11)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    return axis


def plot_ages(by_age: dict[str, dict[float, np.ndarray]]) -> np.ndarray:
    """Draw how similar queries are to keys of other classes, by the age of the key; a panel for each kind.

    Args:
        by_age: kind of labels -> momentum -> (ages,) mean cosine; age 0 is a key of this step.

    Returns:
        The axes.
    """
    figure, axes = plt.subplots(1, len(by_age), figsize=(11, 3.7), sharey=True, squeeze=False)
    momenta = sorted({m for lines in by_age.values() for m in lines})
    colors = dict(
        zip(momenta, plt.get_cmap("viridis")(np.linspace(0, 0.85, len(momenta))), strict=True)
    )
    for axis, (kind, lines) in zip(axes[0], by_age.items(), strict=True):
        for momentum, cosine in lines.items():
            axis.plot(
                np.arange(len(cosine)),
                cosine,
                color=colors[momentum],
                linewidth=3,
                label=f"m = {momentum:g}",
            )
        axis.axhline(0, color="0.6", linestyle=":", zorder=0)
        axis.set(title=kind, xlabel="age of the key, steps", ylim=(-0.3, 1))
    axes[0, 0].set_ylabel("cosine of a query and\nkeys of other classes")
    handles = [
        plt.Line2D([], [], color=colors[m], linewidth=3, label=f"m = {m:g}") for m in momenta
    ]
    figure.legend(handles=handles, frameon=False, loc="outside right center", title="momentum")
    return axes[0]


def plot_settings(results: pd.DataFrame, columns: list[str]) -> np.ndarray:
    """Draw measures of each setting, a panel for each: small dots are seeds, large ones means with their 95 % interval.

    Args:
        results: a row for each run, with columns ``labels``, ``setting`` and those to draw.
        columns: the measures.

    Returns:
        The axes.
    """
    groups = list(results.groupby(["labels", "setting"], sort=False))
    _, axes = plt.subplots(1, len(columns), figsize=(11, 0.42 * len(groups) + 1), sharey=True)
    kinds = list(dict.fromkeys(results["labels"]))
    for axis, column in zip(axes, columns, strict=True):
        for y, ((kind, _), rows) in enumerate(groups):
            color = (LATENT_COLOR, CLASS_COLORS[2])[kinds.index(kind)]
            axis.plot(
                rows[column], np.full(len(rows), y), "o", color=color, alpha=0.35, markersize=6
            )
            half = half_interval(rows[column])
            axis.errorbar(rows[column].mean(), y, xerr=half, color=color, **MEAN_STYLE)
        axis.set_xlim(right=min(axis.get_xlim()[1], 100 if "%" in column else 1))
        axis.set_title(column, fontsize=11)
        axis.grid(axis="x", alpha=0.4)
        axis.tick_params(axis="y", length=0)
    axes[0].set_yticks(range(len(groups)), [f"{kind}: {setting}" for (kind, setting), _ in groups])
    axes[0].set_ylim(len(groups) - 0.5, -0.5)
    return axes


def plot_chance(below: dict[str, np.ndarray], smooth: int = 10, axis: Axes | None = None) -> Axes:
    """Draw loss minus chance over steps, name -> (seeds, steps): thin lines are seeds, thick ones means.

    ``smooth``: how many steps are averaged for a point.
    """
    axis = axis or plt.subplots(figsize=(9, 3.6))[1]
    for (name, curves), color in zip(below.items(), ("0.45", LATENT_COLOR), strict=True):
        whole = curves[:, : curves.shape[1] // smooth * smooth]
        means = whole.reshape(len(curves), -1, smooth).mean(axis=2)
        at = smooth * (np.arange(means.shape[1]) + 0.5)
        axis.plot(at, means.T, color=color, linewidth=1, alpha=0.5)
        axis.plot(at, means.mean(axis=0), color=color, linewidth=3.5, label=f"keys by {name}")
    axis.axhline(0, color="black", linestyle="--", linewidth=1.5)
    axis.text(curves.shape[1], 0.01, "chance, log K", ha="right", va="bottom", fontsize=11)
    axis.set(xlabel="step", ylabel="loss minus chance, nats", xlim=(0, curves.shape[1]))
    axis.legend(frameon=False, loc="lower left")
    return axis


LONG_RUNS = {
    "no queue": ("genscl_mix", "{}"),
    "queue, statistics of the batch": ("genscl_mix_queue", "{}"),
    "queue, averages": ("genscl_mix_queue", '{"key_statistics": "running"}'),
}
"""Title -> method and changes of the runs on photographs that are drawn. They do equal operations."""


def plot_long_runs(curves: pd.DataFrame) -> Figure:
    """Draw how far ``LONG_RUNS`` come from chance to their floor over their training, a panel a recipe.

    Thin lines are seeds, thick ones means.

    Args:
        curves: a line an epoch, as ``data/results/queue_autopsy.py`` keeps them.
    """
    figure, axes = plt.subplots(1, 2, figsize=(11, 3.8), layout="constrained")
    panels = {"cifar10_small_sgd": "first recipe", "cifar10_small": "present recipe"}
    for axis, (preset, recipe) in zip(axes, panels.items(), strict=True):
        for (title, way), color in zip(LONG_RUNS.items(), ("black", LATENT_COLOR, "0.55"), strict=True):  # fmt: skip
            own = curves[curves[["preset", "method", "changes"]].eq([preset, *way]).all(axis=1)]
            share = (own.chance - own.loss) / (own.chance - own.label_entropy)
            for _, seed in share.groupby(own.seed):
                axis.plot(own.epoch[seed.index], seed, color=color, linewidth=0.8, alpha=0.5)
            mean = share.groupby(own.epoch).mean()
            axis.plot(mean.index, mean, color=color, linewidth=2.5, label=title)
        axis.axhline(0, color="black", linestyle="--", linewidth=1.5)
        axis.annotate(
            "chance",
            (0.99, 0),
            (0, -3),
            xycoords=axis.get_yaxis_transform(),
            textcoords="offset points",
            ha="right",
            va="top",
            fontsize=11,
        )
        axis.set(xlabel="epoch, up to equal operations", xlim=(0, None))
        axis.set_title(recipe, loc="left")
        axis.yaxis.set_major_formatter(PercentFormatter(1))
    axes[0].set_ylabel("way from chance to the floor")
    axes[1].legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 0.26))
    return figure
