"""Pictures of lesson 08: claims as intervals, accuracy against length of training."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullLocator, ScalarFormatter

from genscl_lite.lessons.plots import FAMILY_COLOURS, OTHER_COLOUR
from genscl_lite.train.methods import METHODS

VERDICT_COLOURS = {
    "supported": "tab:green", "contradicted": "crimson", "undecided": "0.45", "untested": "0.7",
}


def plot_ledger(ledger: pd.DataFrame, axis: Axes) -> Axes:
    """Draw each claim's difference with its 95 % interval, coloured by verdict; the paper's as a diamond."""
    for y, row in enumerate(ledger.itertuples()):
        colour = VERDICT_COLOURS[row.verdict]
        if pd.isna(row.difference):
            axis.text(0, y, row.verdict, color=colour, ha="center", va="center", fontsize=10, style="italic",
                      bbox={"color": "white", "pad": 1})
        elif pd.isna(row.low):
            axis.plot(100 * row.difference, y, "o", color=colour, fillstyle="none", markersize=8)
        else:
            half = 100 * (row.high - row.low) / 2
            axis.errorbar(100 * row.difference, y, xerr=half, fmt="o", color=colour, markersize=8, capsize=4,
                          linewidth=2)
        if not pd.isna(row.published):
            axis.plot(100 * row.published, y, "D", color="black", fillstyle="none", markersize=7)
    axis.axvline(0, color="black", linewidth=1)
    axis.set_yticks(range(len(ledger)), ledger.claim)
    axis.set_ylim(len(ledger) - 0.5, -0.5)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x", alpha=0.4)
    axis.set_xlabel("difference in accuracy, percentage points")
    for verdict in ("supported", "contradicted", "undecided"):
        if verdict in set(ledger.verdict):
            axis.errorbar([], [], xerr=[], fmt="o", color=VERDICT_COLOURS[verdict], capsize=4, label=verdict)
    if ledger.published.notna().any():
        axis.plot([], [], "D", color="black", fillstyle="none", markersize=7, label="paper, ResNet-50")
    axis.legend(frameon=False, fontsize=10, loc="upper left", bbox_to_anchor=(-0.02, -0.12), ncols=4)
    return axis


def plot_lengths(runs: pd.DataFrame, axes: tuple[Axes, Axes]) -> None:
    """Draw accuracy against epochs, and against seconds of training: a line a row, dots for seeds.

    Rows without mixing are dashed, those with it solid; the colour is that of the row's family.
    """
    for method, own in runs.groupby("method", sort=False):
        kind, means = METHODS[method], own.groupby("epochs")[["accuracy_last", "seconds"]].mean()
        style = {"color": FAMILY_COLOURS.get(kind.family, OTHER_COLOUR), "linewidth": 2,
                 "linestyle": "-" if kind.mixes else (0, (4, 2))}
        for axis, x, seeds in ((axes[0], means.index, own.epochs), (axes[1], means.seconds, own.seconds)):
            axis.plot(x, 100 * means.accuracy_last, marker="o", label=kind.title, **style)
            axis.plot(seeds, 100 * own.accuracy_last, "o", color=style["color"], alpha=0.35, markersize=5,
                      markeredgewidth=0)
    for axis, unit in zip(axes, ("epochs", "seconds of training on a core"), strict=True):
        axis.set_xscale("log")
        axis.set_xlabel(unit)
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.xaxis.set_major_formatter(ScalarFormatter())
        axis.grid(alpha=0.4)
    axes[0].set_xticks(np.sort(runs.epochs.unique()))
    axes[0].set_ylabel("test accuracy, %")
    axes[0].legend(frameon=False, fontsize=10, handlelength=4)
