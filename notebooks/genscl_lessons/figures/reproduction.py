"""Pictures of lesson 09: the answer, claims as intervals, rows and their costs, differences seed by seed.

All intervals are 95 % intervals of the mean over seeds, by Student's t; no picture shows another spread.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from genscl_lessons.answer import DATASETS, Book, rows_of
from genscl_lessons.figures.see_the_space import two_lines
from genscl_lessons.plots import FAMILY_COLORS, MEAN_STYLE, OTHER_COLOR, draw_differences
from genscl_lessons.report import difference_of, whole_cost
from genscl_lite.runs.claims import AS_GOOD, deciding_interval
from genscl_lite.runs.statistics import t_interval
from genscl_lite.train.methods import METHODS

VERDICT_COLORS = {
    "supported": "tab:green",
    "contradicted": "crimson",
    "as good": "tab:blue",
    "undecided": "0.45",
    "untested": "0.7",
}
BOOK_MARKERS = "osP"
"""A data set each."""
HOLLOW = {"color": "black", "fillstyle": "none"}


def color_of(method: str):
    return FAMILY_COLORS.get(METHODS[method].family, OTHER_COLOR)


def plot_answer(
    books: list[Book], firsts: list[Book | None], published: pd.DataFrame
) -> np.ndarray:
    """Draw the primary claims as intervals, and beside them the paper's table and ours, above SupCon.

    Args:
        books: runs of a data set each, which has its own marker; colors are those of the verdicts.
        firsts: for each the same data set by the first recipe, drawn pale; None where there is none.
        published: the paper's accuracies.

    Returns:
        Both axes.
    """
    figure, axes = plt.subplots(1, 2, figsize=(12, 4.8), width_ratios=(1, 1.15))
    axes[0].axvspan(-100 * AS_GOOD, 100 * AS_GOOD, color="0.93", zorder=0)
    for place, (book, first) in enumerate(zip(books, firsts, strict=True)):
        plot_primary(book.ledger, axes[0], BOOK_MARKERS[place], 0.16 * place - 0.2)
        if first:
            plot_primary(first.ledger, axes[0], BOOK_MARKERS[place], 0.16 * place + 0.12, "0.75")
        name = book.setting.partition(", ")[0]
        axes[0].plot([], [], BOOK_MARKERS[place], color="black", label=f"here, {name}")
    primary = books[0].ledger[books[0].ledger.kind == "primary"]
    axes[0].set_yticks(
        range(len(primary)), [f"minus {two_lines(row).strip()}" for row in primary.worse]
    )
    axes[0].set_ylim(len(primary) - 0.5, -0.5)
    axes[0].set_title(f"{METHODS[primary.better.iloc[0]].title}", loc="left")
    verdicts = [verdict for book in books for verdict in book.ledger.verdict[: len(primary)]]
    for verdict in dict.fromkeys(verdicts):
        axes[0].plot([], [], "s", color=VERDICT_COLORS[verdict], label=verdict)
    if any(firsts):
        axes[0].plot([], [], "s", color="0.75", label="first recipe")
    plot_above_supcon(books, published, axes[1])
    for axis in axes:
        axis.axvline(0, color="black", linewidth=1)
        axis.tick_params(axis="y", length=0)
        axis.grid(axis="x", alpha=0.4)
        axis.set_xlabel("difference, percentage points")
    legends = [axis.get_legend_handles_labels() for axis in axes]
    handles = {name: handle for pair in legends for handle, name in zip(*pair, strict=True)}
    figure.legend(
        handles.values(), handles, frameon=False, fontsize=10, loc="outside lower center", ncols=5
    )
    return axes


def plot_primary(
    ledger: pd.DataFrame, axis: Axes, marker: str, aside: float, color: str | None = None
) -> None:
    """Draw the primary claims' differences with the intervals that decide; without a color, the verdict's."""
    for y, row in enumerate(ledger[ledger.kind == "primary"].itertuples()):
        if not row.seeds:
            continue
        own = color or VERDICT_COLORS[row.verdict]
        mean, low, high, seeds = deciding_interval(row)
        if seeds > 1:
            axis.plot([100 * low, 100 * high], [y + aside] * 2, color=own, linewidth=2)
        fill = "full" if seeds > 1 else "none"
        axis.plot(100 * mean, y + aside, marker, color=own, markersize=8, fillstyle=fill)


def plot_above_supcon(books: list[Book], published: pd.DataFrame, axis: Axes) -> None:
    """Draw how far each row of the paper's table lies above SupCon: published, and here with 95 % intervals.

    SimCLR, which sees no labels, is far below and left out.
    """
    rows = [row for row in rows_of(books, published) if row not in ("simclr", "supcon")]
    theirs = published[published.arch == "resnet50"]
    accuracy = theirs.pivot(index="method", columns="dataset", values="published")
    for (name, column), marker in zip(accuracy.items(), "Dv", strict=False):
        own = 100 * (column - column["supcon"]).reindex(rows)
        label = f"paper, {DATASETS[name]}"
        axis.plot(own, np.arange(len(rows)) - 0.28, marker, markersize=7, label=label, **HOLLOW)
    for place, book in enumerate(books):
        for y, row in enumerate(rows):
            found = difference_of(book.runs, row, "supcon")
            if not found:
                continue
            mean, low, high, _ = found[0]
            where = y + 0.16 * place
            color = color_of(row)
            axis.plot([100 * low, 100 * high], [where] * 2, color=color, linewidth=2)
            axis.plot(100 * mean, where, BOOK_MARKERS[place], color=color, markersize=8)
    axis.set_yticks(range(len(rows)), [two_lines(row).strip() for row in rows])
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.set_title("each row minus SupCon", loc="left")


def plot_table(runs: pd.DataFrame, table: pd.DataFrame, axis: Axes) -> Axes:
    """Draw each method's runs as dots, their mean with its interval, the published number as a diamond.

    On the axis halving the error is always the same step, so that rows near 100 % are told apart.
    """
    for y, row in enumerate(table.itertuples()):
        own = runs.accuracy_last[runs.method == row.method]
        dots = {"alpha": 0.35, "markersize": 6, "markeredgewidth": 0}
        axis.plot(
            _percent_wrong(own), np.full(len(own), y), "o", color=color_of(row.method), **dots
        )
        interval = t_interval(own)
        half = 0 if np.isnan(interval.low) else 100 * (interval.high - interval.mean)
        mean = _percent_wrong(interval.mean)
        axis.errorbar(mean, y, xerr=min(half, 0.9 * mean), color=color_of(row.method), **MEAN_STYLE)
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
        axis.barh(y, row.own / unit, color=color_of(row.Index), height=0.5)
        if row.teacher > 0:
            axis.barh(
                y,
                row.teacher / unit,
                left=row.own / unit,
                color=color_of(row.Index),
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
