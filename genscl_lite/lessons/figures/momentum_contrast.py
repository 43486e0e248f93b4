"""Pictures of lesson 06: contrasts, the queue slot by slot, keys that age."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter

from genscl_lite.lessons.plots import CLASS_COLOURS, LABEL_COLOUR, LATENT_COLOUR


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
    axes = [left.subplots(), *right.subplots(len(groups), 1, squeeze=False, height_ratios=lines)[:, 0]]
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
    curves = {"anchors that meet a similar contrast": (company, LABEL_COLOUR),
              "agreement of the gradient with that of all contrasts (cosine)": (agree, LATENT_COLOUR)}
    for name, (values, colour) in curves.items():
        axis.plot(sizes, values.mean(axis=1), "o-", color=colour, linewidth=3, label=name)
        axis.fill_between(sizes, values.min(axis=1), values.max(axis=1), color=colour, alpha=0.2, linewidth=0)
    for name, size in marked.items():
        axis.axvline(size, color="0.6", linestyle=":", zorder=0)
        axis.annotate(f"the {name}", (size, 0.02), (4, 0), textcoords="offset points", color="0.3",
                      fontsize=11)
    axis.set(xscale="log", ylim=(0, 1.02), xlabel="number of contrasts")
    axis.xaxis.set_major_locator(FixedLocator(sizes))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_major_formatter(PercentFormatter(1))
    axis.legend(frameon=False, loc="lower right", bbox_to_anchor=(0.95, 0.08), fontsize=11)
    return axis


def plot_queue(
    images: np.ndarray, labels: np.ndarray, written: np.ndarray, next_slots: list[int],
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
        axis.imshow(images[step, slot], cmap="gray_r", vmin=0, vmax=1, alpha=strength,
                    extent=(slot + 0.08, slot + 0.92, top + 0.87, top + 0.03))
        left = slot + 0.05
        for share, colour in zip(labels[step, slot], CLASS_COLOURS, strict=True):
            look = {"facecolor": colour, "alpha": strength, "linewidth": 0}
            axis.add_patch(plt.Rectangle((left, top + 0.9), 0.9 * share, 0.18, **look))
            left += 0.9 * share
        colour, width = ("black", 1.8) if age == 0 else ("0.8", 0.6)
        axis.add_patch(plt.Rectangle(**box, edgecolor=colour, linewidth=width))
    for step, slot in enumerate(next_slots):
        axis.plot(slot + 0.05, 1.3 * step + 1.16, "^", color=LATENT_COLOUR, markersize=8, clip_on=False)
    axis.set(xlim=(-0.05, slots + 0.05), ylim=(1.3 * steps, -0.1), aspect="auto", xlabel="slot",
             xticks=np.arange(slots) + 0.5, yticks=1.3 * np.arange(steps) + 0.5)
    axis.set_xticklabels(range(slots), fontsize=10)
    axis.set_yticklabels([f"step {step}" for step in range(steps)], fontsize=11)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    return axis


def plot_slow_keys(
    turned: dict[float, np.ndarray], agreement: dict[float, np.ndarray], every: int
) -> np.ndarray:
    """Draw how far keys of each age have turned, and how well both encoders agree, a line for each momentum.

    Args:
        turned: momentum -> (ages,) mean angle in degrees between a key of so many steps ago and today's key.
        agreement: momentum -> (moments,) mean cosine of query and key of one image, measured ``every`` steps.

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
    axes[1].set(title="Up to date: do both encoders agree?", xlabel="training step",
                ylabel="cosine of query and key", ylim=(None, 1.02))
    axes[1].legend(title="momentum", loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return axes
