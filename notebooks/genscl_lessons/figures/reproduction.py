"""Pictures of lesson 09: claims as intervals, rows and their costs, differences seed by seed.

All intervals are 95 % intervals of the mean over seeds, by Student's t; no picture shows another spread.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from genscl_lessons.plots import FAMILY_COLOURS, MEAN_STYLE, OTHER_COLOUR, draw_differences
from genscl_lessons.report import by_method, whole_cost
from genscl_lite.runs.statistics import t_interval
from genscl_lite.train.methods import METHODS, TEACHERS

VERDICT_COLOURS = {
    "supported": "tab:green",
    "contradicted": "crimson",
    "as good": "tab:blue",
    "undecided": "0.45",
    "untested": "0.7",
}
POOLED = {"linewidth": 6, "alpha": 0.35, "solid_capstyle": "butt"}
HOLLOW = {"color": "black", "fillstyle": "none"}


def colour_of(method: str):
    return FAMILY_COLOURS.get(METHODS[method].family, OTHER_COLOUR)


def plot_ledger(ledger: pd.DataFrame, axis: Axes) -> Axes:
    """Draw each claim's difference with its 95 % interval, coloured by verdict; the paper's as a diamond.

    The interval by the pooled error is a broad, pale band; that over test images a thin black line below.
    Above the line are the primary claims.
    """
    for y, row in enumerate(ledger.itertuples()):
        colour = VERDICT_COLOURS[row.verdict]
        if pd.isna(row.difference):
            axis.text(
                0.02,
                y,
                row.verdict,
                color=colour,
                va="center",
                fontsize=10,
                style="italic",
                transform=axis.get_yaxis_transform(),
            )
        elif pd.isna(row.low):
            axis.plot(100 * row.difference, y, "o", color=colour, fillstyle="none", markersize=8)
        else:
            half = 100 * (row.high - row.low) / 2
            axis.errorbar(
                100 * row.difference,
                y,
                xerr=half,
                fmt="o",
                color=colour,
                markersize=8,
                capsize=4,
                linewidth=2,
            )
        if not pd.isna(row.pooled_low):
            axis.plot(
                [100 * row.pooled_low, 100 * row.pooled_high], [y] * 2, color=colour, **POOLED
            )
        if not pd.isna(row.image_low):
            axis.plot(
                [100 * row.image_low, 100 * row.image_high],
                [y + 0.27] * 2,
                color="black",
                linewidth=1,
            )
        if not pd.isna(row.published):
            axis.plot(100 * row.published, y - 0.22, "D", markersize=6, **HOLLOW)
    primary = (ledger.kind == "primary").sum()
    axis.axhline(primary - 0.5, color="0.6", linewidth=1, linestyle=":")
    axis.axvline(0, color="black", linewidth=1)
    axis.axvspan(-0.5, 0.5, color="0.93", zorder=0)
    axis.set_yticks(range(len(ledger)), ledger.claim)
    axis.set_ylim(len(ledger) - 0.5, -0.5)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x", alpha=0.4)
    axis.set_xlabel("difference, percentage points")
    for verdict in VERDICT_COLOURS:
        own = ledger[ledger.verdict == verdict]
        if len(own) and own.low.notna().any():
            axis.errorbar(
                [], [], xerr=[], fmt="o", color=VERDICT_COLOURS[verdict], capsize=4, label=verdict
            )
        if own.difference.notna().any() and own[own.difference.notna()].low.isna().any():
            axis.plot(
                [],
                [],
                "o",
                color=VERDICT_COLOURS[verdict],
                fillstyle="none",
                markersize=8,
                label=f"{verdict}, one seed",
            )
    if ledger.published.notna().any():
        axis.plot([], [], "D", markersize=6, label="paper, ResNet-50", **HOLLOW)
    if ledger.pooled_low.notna().any():
        axis.plot([], [], color="black", label="pooled error", **POOLED)
    if ledger.image_low.notna().any():
        axis.plot([], [], color="black", linewidth=1, label="over seeds and test images")
    return axis


def plot_ledgers(ledgers: dict[str, pd.DataFrame]) -> np.ndarray:
    """Draw a ledger for each title, side by side, with one legend; return the axes."""
    rows = max(map(len, ledgers.values()))
    figure, axes = plt.subplots(
        1,
        len(ledgers),
        figsize=(4.6 + 3.7 * len(ledgers), 0.48 * rows + 1.5),
        sharey=True,
        squeeze=False,
    )
    handles = {}
    for axis, (name, ledger) in zip(axes[0], ledgers.items(), strict=True):
        plot_ledger(ledger, axis).set_title(name, loc="left")
        handles |= dict(zip(*axis.get_legend_handles_labels()[::-1], strict=True))
    figure.legend(
        handles.values(), handles, frameon=False, fontsize=10, loc="outside lower center", ncols=4
    )
    return axes[0]


def plot_table(runs: pd.DataFrame, table: pd.DataFrame, axis: Axes) -> Axes:
    """Draw each method's runs as dots, their mean with its interval, the published number as a diamond.

    On the axis halving the error is always the same step, so that rows near 100 % are told apart.
    """
    for y, row in enumerate(table.itertuples()):
        own = runs.accuracy_last[runs.method == row.method]
        dots = {"alpha": 0.35, "markersize": 6, "markeredgewidth": 0}
        axis.plot(
            _percent_wrong(own), np.full(len(own), y), "o", color=colour_of(row.method), **dots
        )
        interval = t_interval(own)
        half = 0 if np.isnan(interval.low) else 100 * (interval.high - interval.mean)
        mean = _percent_wrong(interval.mean)
        axis.errorbar(
            mean, y, xerr=min(half, 0.9 * mean), color=colour_of(row.method), **MEAN_STYLE
        )
        if not pd.isna(row.published):
            axis.plot(_percent_wrong(row.published), y, "D", markersize=8, **HOLLOW)
    axis.set_xscale("log")
    axis.invert_xaxis()
    left, right = axis.get_xlim()
    _accuracy_ticks(left, right, axis.set_xticks)
    axis.minorticks_off()
    _rows_of_methods(table, axis)
    axis.set_xlabel("test accuracy, %")
    axis.plot([], [], "o", color="black", markersize=9, label="mean, 95 % interval")
    axis.plot(
        [], [], "o", color="black", alpha=0.35, markersize=6, markeredgewidth=0, label="one seed"
    )
    if table.published.notna().any():
        axis.plot([], [], "D", markersize=8, label="published", **HOLLOW)
    axis.legend(frameon=False, fontsize=10, loc="upper left", bbox_to_anchor=(0, -0.14), ncols=3)
    return axis


def plot_costs(runs: pd.DataFrame, axis: Axes) -> Axes:
    """Draw the seconds (or hours) of a run of each method as bars, those of its teacher's run behind them."""
    costs = whole_cost(runs)
    unit, name = (3600, "hours") if costs.whole.max() > 7200 else (1, "seconds")
    for y, row in enumerate(costs.itertuples()):
        axis.barh(y, row.own / unit, color=colour_of(row.Index), height=0.5)
        if row.teacher > 0:
            axis.barh(
                y,
                row.teacher / unit,
                left=row.own / unit,
                color=colour_of(row.Index),
                alpha=0.4,
                height=0.5,
            )
    _rows_of_methods(costs.reset_index(), axis)
    axis.set(xlabel=f"{name} a run", xlim=(0, None))
    patches = [
        Patch(color="black", label="its own"),
        Patch(color="black", alpha=0.4, label="its teacher's"),
    ]
    axis.legend(
        handles=patches,
        frameon=False,
        fontsize=10,
        loc="upper left",
        ncols=2,
        bbox_to_anchor=(-0.05, -0.14),
    )
    return axis


def plot_cost_against_accuracy(runs: pd.DataFrame, axis: Axes) -> Axes:
    """Draw each row's accuracy, with its interval, against its seconds, its teacher's run included.

    A pale line leads back to where the row would stand if its teacher cost nothing. Rows with a teacher have
    their names at the right, others at the left, in order of accuracy, a thin line from each to its point.
    """
    rows = runs[~runs.method.isin(TEACHERS)]
    means = by_method(rows, "accuracy_last").join(whole_cost(runs)).dropna(subset="whole")
    unit, name = (3600, "hours") if means.whole.max() > 7200 else (1, "seconds")
    wrong = _percent_wrong(means["mean"])
    most, least = np.log(wrong.max()), np.log(wrong.min())
    step, right = max(most - least, 0.5) / 11, means.whole.max() / unit
    alone = means.teacher == 0
    for taught, side in ((~alone, 1.08 * right), (alone, 0.88 * means.whole[alone].min() / unit)):
        height = -np.inf
        for method in wrong[taught].sort_values().index:
            row, y = means.loc[method], wrong[method]
            height, x = max(np.log(y), height + step), row.whole / unit
            half = 0 if np.isnan(row.low) else min(100 * (row.high - row["mean"]), 0.9 * y)
            colour = colour_of(method)
            axis.plot(
                [row.own / unit, x],
                [y, y],
                color=colour,
                alpha=0.3,
                linewidth=4,
                solid_capstyle="butt",
            )
            axis.errorbar(x, y, yerr=half, color=colour, **MEAN_STYLE)
            axis.annotate(
                METHODS[method].title,
                (x, y),
                (side, np.exp(height)),
                fontsize=9,
                va="center",
                ha="left" if row.teacher else "right",
                annotation_clip=False,
                arrowprops={
                    "arrowstyle": "-",
                    "color": "0.75",
                    "linewidth": 0.8,
                    "shrinkB": 6,
                    "relpos": (0 if row.teacher else 1, 0.5),
                },
            )
    axis.set(xlabel=f"{name} of training, the teacher's included", yscale="log")
    axis.set_xlim(0, right)
    axis.set_xticks([tick for tick in axis.get_xticks() if tick <= right])
    axis.set_xlim(-0.3 * right, 1.05 * right)  # room for the names at the left
    axis.invert_yaxis()
    _accuracy_ticks(*axis.get_ylim(), axis.set_yticks)
    axis.minorticks_off()
    axis.set_ylabel("test accuracy, %")
    axis.grid(axis="x", alpha=0.4)
    return axis


def plot_differences(
    differences: dict[str, tuple[np.ndarray, tuple[float, float, float]]], axis: Axes
) -> Axes:
    """Draw differences in percentage points: a dot a seed, and their mean with its 95 % interval.

    Args:
        differences: what is compared -> (seeds,) differences; and their mean, low and high.
        axis: to draw on.
    """
    return draw_differences(
        differences, axis, "gray a seed, black the mean, 95 % interval", fontsize=10
    )


def _rows_of_methods(table: pd.DataFrame, axis: Axes) -> None:
    axis.set_yticks(range(len(table)), [METHODS[method].title for method in table.method])
    axis.set_ylim(len(table) - 0.5, -0.5)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x", alpha=0.4)
    axis.set_axisbelow(True)


def _percent_wrong(accuracy):
    return np.maximum(100 * (1 - accuracy), 0.05)


def _accuracy_ticks(most: float, least: float, set_ticks: Callable) -> None:
    """Put ticks on an axis of percent wrong that say percent right, none too near another."""
    ticks, chosen = [90, 70, 50, 30, 20, 15, 10, 7, 5, 4, 3, 2, 1.5, 1, 0.5, 0.2, 0.1], []
    for tick in ticks:
        near = any(abs(np.log(tick / other)) < 0.05 * np.log(most / least) for other in chosen)
        if least <= tick <= most and not near:
            chosen.append(tick)
    set_ticks(chosen, [f"{100 - tick:g}" for tick in chosen])
