"""Pictures of lesson 09 with a line a row: with more labels or wrong ones, and trained for longer.

All bars are 95 % intervals of the mean over seeds, by Student's t.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator, ScalarFormatter

from genscl_lessons.plots import color_of
from genscl_lite.runs.statistics import t_interval
from genscl_lite.train.methods import METHODS

MARKERS = "osD^vP*X"


def plot_varied(runs: pd.DataFrame, name: str, axis: Axes, log: bool = False) -> Axes:
    """Draw accuracy against a setting that was varied, in percent with 95 % intervals: a line a row.

    Rows without mixing are dashed, those with it solid; the color is that of the row's family.
    """
    values = np.sort(runs[name].unique()).astype(float)
    for place, (method, own) in enumerate(runs.groupby("method", sort=False)):
        kind, found = (
            METHODS[method],
            {x: t_interval(part) for x, part in own.groupby(name).accuracy_last},
        )
        mean, low, high, _ = 100 * np.array(list(found.values())).T
        x, aside = np.array(list(found), dtype=float), place - (runs.method.nunique() - 1) / 2
        x = (
            x * 1.025**aside if log else x + 0.015 * aside * np.ptp(values)
        )  # bars do not hide each other
        axis.errorbar(
            x,
            mean,
            yerr=np.nan_to_num(high - mean),
            capsize=3,
            linewidth=2,
            label=kind.title,
            color=color_of(method),
            marker=MARKERS[place],
            linestyle="-" if kind.mixes else (0, (4, 2)),
        )
    if log:
        axis.set_xscale("log")
    axis.set_xticks(values)
    axis.xaxis.set_major_formatter(ScalarFormatter())
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_ylabel("test accuracy, %")
    axis.grid(alpha=0.4)
    axis.legend(frameon=False, fontsize=10, handlelength=4, loc="upper left", bbox_to_anchor=(1, 1))
    return axis


def plot_gains(runs: pd.DataFrame, pairs: tuple[tuple[str, str], ...], axis: Axes) -> None:
    """Draw how much more accurate the first row of each pair is, in points, against epochs; seed by seed."""
    accuracy = runs.pivot_table(index=["epochs", "seed"], columns="method", values="accuracy_last")
    for place, (first, second) in enumerate(pairs):
        if not {first, second} <= set(accuracy):
            continue
        differences = 100 * (accuracy[first] - accuracy[second]).dropna()
        found = {epochs: t_interval(values) for epochs, values in differences.groupby("epochs")}
        means = [interval.mean for interval in found.values()]
        halves = [np.nan_to_num(interval.high - interval.mean) for interval in found.values()]
        color = color_of(first)
        axis.errorbar(
            np.array(list(found)) * 1.025 ** (place - 0.5),  # bars do not hide each other
            means,
            yerr=halves,
            color=color,
            marker="o",
            capsize=3,
            linewidth=2,
            label=f"{METHODS[first].title}\nminus {METHODS[second].title}",
        )
    axis.axhline(0, color="black", linewidth=1)
    axis.set_xscale("log")
    axis.set_xticks(lengths := np.sort(runs.epochs.unique()), lengths)
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xlabel("epochs")
    axis.set_ylabel("difference, points")
    axis.grid(alpha=0.4)
    axis.legend(frameon=False, fontsize=10, loc="lower right")
