"""Pictures of lesson 09: where blends go between two classes, and who is whose neighbour."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from genscl_lite.lessons.plots import LABEL_COLOUR, LATENT_COLOUR, WRONG_COLOUR, class_colours


def plot_shares(label_shares: np.ndarray, latent_shares: dict[str, np.ndarray]) -> np.ndarray:
    """Plot what share of a blend's similarity goes to one of its two classes, a: by its label, by its latent.

    Args:
        label_shares: (N,) in [0, 1].
        latent_shares: title -> (N,) in [0, 1].

    Returns:
        The axes, one for each title.
    """
    columns = len(latent_shares)
    _, axes = plt.subplots(1, columns, figsize=(4.6 * columns, 4.3), sharey=True, squeeze=False)
    bins = np.clip((label_shares * 10).astype(int), 0, 9)
    known = np.unique(bins)
    label_means = [label_shares[bins == b].mean() for b in known]
    for axis, (title, shares) in zip(axes[0], latent_shares.items(), strict=True):
        axis.plot([0, 1], [0, 1], color=LABEL_COLOUR, linewidth=3, label="what the label says")
        axis.scatter(label_shares, shares, s=22, color=LATENT_COLOUR, alpha=0.45, linewidths=0,
                     label="the latent of one blend")
        latent_means = [shares[bins == b].mean() for b in known]
        axis.plot(label_means, latent_means, color=LATENT_COLOUR, linewidth=3, label="their mean")
        axis.set(title=title, xlabel="share of class $a$ in the label", xlim=(0, 1), ylim=(-0.02, 1.02))
        axis.set_aspect("equal")
    axes[0, 0].set_ylabel("share of class $a$ in the latent similarity")
    axes[0, -1].legend(frameon=False, fontsize=10, loc="upper left", bbox_to_anchor=(1, 1))
    return axes[0]


def show_neighbours(
    images: np.ndarray, queries: np.ndarray, neighbours: dict[str, np.ndarray], classes: np.ndarray,
    names: list[str],
) -> Axes:
    """Show query images, each with the nearest images of each space in its row; another class is framed.

    Args:
        images: (N, channels, H, W) in [0, 1].
        queries: (Q,) indices.
        neighbours: title of the space -> (Q, k) indices.
        classes: (N,) class numbers.
        names: of the classes.
    """
    tall = images.shape[2] / images.shape[3]
    step, left = 1.25, 2.1
    columns = left + sum(step * found.shape[1] + 0.5 for found in neighbours.values()) - 0.5
    rows = (step * len(queries) + 0.6) * tall
    _, axis = plt.subplots(figsize=(0.6 * columns, 0.6 * rows))

    def tile(image: int, x: float, row: int, wrong: bool = False) -> None:
        top = step * row * tall
        picture = np.moveaxis(images[image], 0, -1).squeeze()
        axis.imshow(picture, cmap="gray_r", vmin=0, vmax=1, extent=(x, x + 1, top + tall, top))
        colour, width = (WRONG_COLOUR, 2.5) if wrong else ("0.8", 0.8)
        axis.add_patch(plt.Rectangle((x, top), 1, tall, fill=False, edgecolor=colour, linewidth=width))
        if wrong:
            axis.text(x + 1.04, top, names[classes[image]], color=WRONG_COLOUR, fontsize=9, va="top",
                      parse_math=False)

    for row, query in enumerate(queries):
        tile(query, 0, row)
        c = classes[query]
        axis.text(1.1, (step * row + 0.5) * tall, names[c], color=class_colours(len(names))[c],
                  fontweight="bold", va="center", parse_math=False)
    axis.text(0, -0.25, "query", fontsize=11)
    for title, found in neighbours.items():
        axis.text(left, -0.25, title, fontsize=11, fontweight="bold")
        for (row, k), image in np.ndenumerate(found):
            tile(image, left + step * k, row, classes[image] != classes[queries[row]])
        left += step * found.shape[1] + 0.5
    axis.set(xlim=(-0.1, columns), ylim=(rows - 0.6 * tall, -0.6 * tall))
    axis.axis("off")
    return axis
