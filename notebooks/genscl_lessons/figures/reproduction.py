"""Pictures of lesson 09: the answer, claims as intervals, rows and their costs, differences seed by seed.

All intervals are 95 % intervals of the mean over seeds, by Student's t; no picture shows another spread.
"""

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from genscl_lessons.bookkeeping import DATASETS, Book
from genscl_lessons.figures.see_the_space import two_lines
from genscl_lessons.paper_table import VERSIONS, rows_of
from genscl_lessons.plots import MEAN_STYLE, color_of, draw_differences
from genscl_lessons.report import difference_of, whole_cost
from genscl_lite.runs.claims import AS_GOOD, deciding_interval
from genscl_lite.runs.statistics import t_interval
from genscl_lite.train.methods import METHODS

BOOK_STYLES = (("indigo", "o"), ("peru", "s"), ("teal", "P"))
"""Color and marker of a data set, in both panels of the answer."""
HOLLOW = {"color": "black", "fillstyle": "none"}


def plot_answer(books: list[Book], published: pd.DataFrame) -> np.ndarray:
    """Draw the primary claims as intervals, and beside them the paper's table and ours, above SupCon.

    Args:
        books: runs of a data set each, which has its own color and marker.
        published: the paper's accuracies.

    Returns:
        Both axes.
    """
    figure, axes = plt.subplots(
        1, 2, figsize=(12.5, 5), width_ratios=(1.1, 1), layout="constrained"
    )
    figure.get_layout_engine().set(wspace=0.08)  # room for the verdicts
    axes[0].axvspan(-100 * AS_GOOD, 100 * AS_GOOD, color="0.93", zorder=0)
    for place, book in enumerate(books):
        plot_primary(book, axes[0], BOOK_STYLES[place], 0.3 * place - 0.15 * (len(books) - 1))
    primary = books[0].ledger[books[0].ledger.kind == "primary"]
    names = [f"minus {two_lines(row)}" for row in primary.worse]
    axes[0].set_yticks(range(len(primary)), names)
    axes[0].set_ylim(len(primary) - 0.5, -0.5)
    axes[0].set_title(METHODS[primary.better.iloc[0]].title, loc="left")
    plot_above_supcon(books, published, axes[1])
    for axis in axes:
        axis.axvline(0, color="black", linewidth=1)
        axis.tick_params(axis="y", length=0)
        axis.grid(axis="x", alpha=0.4)
        axis.set_axisbelow(True)
        axis.set_xlabel("difference, percentage points")
        axis.legend(
            frameon=False, fontsize=10, loc="upper center", bbox_to_anchor=(0.4, -0.14), ncols=2
        )
    return axes


def plot_primary(book: Book, axis: Axes, style: tuple[str, str], aside: float) -> None:
    """Draw the primary claims' differences, thick with the interval that decides, and name their verdicts.

    Where that one is of a pooled error, the interval seed by seed is a thin line.
    """
    color, marker = style
    for y, row in enumerate(book.ledger[book.ledger.kind == "primary"].itertuples()):
        if not row.seeds:
            continue
        mean, low, high, seeds = deciding_interval(row)
        if seeds > 1:
            axis.plot([100 * row.low, 100 * row.high], [y + aside] * 2, color=color, linewidth=1)
            axis.plot([100 * low, 100 * high], [y + aside] * 2, color=color, linewidth=4)
        axis.plot(100 * mean, y + aside, marker, color=color, markersize=9)
        right = axis.get_yaxis_transform()
        axis.text(1.02, y + aside, row.verdict, color=color, va="center", transform=right)
    axis.plot([], [], marker, color=color, linewidth=4, linestyle="-", label=f"here, {book.name}")


def plot_above_supcon(books: list[Book], published: pd.DataFrame, axis: Axes) -> None:
    """Draw how far each row of the paper's table lies above SupCon: published, and here with 95 % intervals.

    SimCLR, which sees no labels, is far below and left out.
    """
    rows = [row for row in rows_of(books, published) if row not in ("simclr", "supcon")]
    theirs = published[published.source == VERSIONS[0]]
    accuracy = theirs.pivot(index="method", columns="dataset", values="published")
    for place, (book, (color, marker)) in enumerate(zip(books, BOOK_STYLES, strict=False)):
        for y, row in enumerate(rows):
            interval = difference_of(book.runs, row, "supcon")
            if not interval:
                continue
            mean, low, high, _ = interval
            where = y + 0.2 * place
            axis.plot([100 * low, 100 * high], [where] * 2, color=color, linewidth=2)
            axis.plot(100 * mean, where, marker, color=color, markersize=8)
        axis.plot([], [], marker, color=color, label=f"here, {book.name}")
    for (name, column), marker in zip(accuracy.items(), "Dv", strict=False):
        own = 100 * (column - column["supcon"]).reindex(rows)
        label = f"paper, {DATASETS[name]}"
        axis.plot(own, np.arange(len(rows)) - 0.28, marker, markersize=7, label=label, **HOLLOW)
    axis.set_yticks(range(len(rows)), [two_lines(row) for row in rows])
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.set_title("each row minus SupCon", loc="left")


def plot_table(runs: pd.DataFrame, table: pd.DataFrame, axis: Axes) -> Axes:
    """Draw each method's runs as dots, their mean with its interval, the published number as a diamond."""
    dots = {"alpha": 0.35, "markersize": 6, "markeredgewidth": 0}
    for y, row in enumerate(table.itertuples()):
        own = 100 * runs.accuracy_last[runs.method == row.method]
        color = color_of(row.method)
        axis.plot(own, np.full(len(own), y), "o", color=color, **dots)
        mean, low, _, _ = t_interval(own)
        axis.errorbar(mean, y, xerr=np.nan_to_num(mean - low), color=color, **MEAN_STYLE)
    axis.plot(100 * table.published, range(len(table)), "D", markersize=8, **HOLLOW)
    _rows_of_methods(table, axis)
    axis.set_xlabel("test accuracy, %")
    axis.plot([], [], "o", color="black", markersize=9, label="mean, 95 % interval")
    axis.plot([], [], "o", color="black", label="one seed", **dots)
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
