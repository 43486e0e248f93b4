"""Pictures of lesson 09 with a line a row: on the way, with more labels or wrong ones, longer; and trust.

All bars and bands are 95 % intervals of the mean over seeds, by Student's t.
"""

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullLocator, ScalarFormatter

from genscl_lessons.floor import NATS_AT_FLOOR
from genscl_lessons.plots import FAMILY_COLORS, LABEL_COLOR, OTHER_COLOR
from genscl_lessons.report import by_method
from genscl_lite.runs.statistics import t_interval
from genscl_lite.train.methods import METHODS, TEACHERS

GROUPS = {
    "classifiers": lambda kind: kind.head == "classifier",
    "contrastive, no mixing": lambda kind: kind.head == "projection" and not kind.mixes,
    "contrastive, with mixing": lambda kind: kind.head == "projection" and kind.mixes,
}
MARKERS = "osD^vP*X"
BINS = 10
"""Of a reliability diagram."""
FEW = 30
"""Images in a bin, of all seeds together, below which its accuracy is mostly luck."""


def groups_of(methods) -> dict[str, list[str]]:
    """Sort rows into panels; teachers alone, which learn from other data, are left out."""
    rows = [method for method in METHODS if method in set(methods) and method not in TEACHERS]
    found = {name: [m for m in rows if belongs(METHODS[m])] for name, belongs in GROUPS.items()}
    return {name: members for name, members in found.items() if members}


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
            color=FAMILY_COLORS.get(kind.family, OTHER_COLOR),
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


def plot_lengths(runs: pd.DataFrame, axes: tuple[Axes, Axes]) -> None:
    """Draw accuracy against epochs, and against seconds of training: a line a row, dots for seeds.

    Rows without mixing are dashed, those with it solid; the color is that of the row's family. Bars are 95 %
    intervals where there are several seeds. Seconds are those of one machine, the one with most lengths.
    """
    machine = runs.groupby("device").epochs.nunique().idxmax()
    for axis, shown, x in (
        (axes[0], runs, "epochs"),
        (axes[1], runs[runs.device == machine], "seconds"),
    ):
        for method, own in shown.groupby("method", sort=False):
            kind, lengths = METHODS[method], own.groupby("epochs")
            accuracy, place = 100 * lengths.accuracy_last.mean(), lengths[x].mean()
            color = FAMILY_COLORS.get(kind.family, OTHER_COLOR)
            axis.plot(
                place,
                accuracy,
                marker="o",
                label=kind.title,
                color=color,
                linewidth=2,
                linestyle="-" if kind.mixes else (0, (4, 2)),
            )
            if axis is axes[0]:
                halves = [
                    100 * np.nan_to_num(interval.high - interval.mean)
                    for interval in (t_interval(values) for _, values in lengths.accuracy_last)
                ]
                axis.errorbar(
                    place, accuracy, yerr=halves, color=color, linestyle="none", capsize=3
                )
            axis.plot(
                own[x],
                100 * own.accuracy_last,
                "o",
                color=color,
                alpha=0.35,
                markersize=5,
                markeredgewidth=0,
            )
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.grid(alpha=0.4)
        axis.set_ylabel("test accuracy, %")
    _mark_lengths(axes[0], runs)
    axes[1].set_xlabel(f"seconds of training\n{machine}")
    axes[1].xaxis.set_minor_locator(NullLocator())
    axes[1].xaxis.set_major_formatter(ScalarFormatter())
    axes[0].legend(frameon=False, fontsize=10, handlelength=4)


def plot_gains(runs: pd.DataFrame, pairs: tuple[tuple[str, str], ...], axis: Axes) -> None:
    """Draw how much more accurate the first row of each pair is, in points, against epochs; seed by seed."""
    accuracy = runs.pivot_table(index=["epochs", "seed"], columns="method", values="accuracy_last")
    for first, second in pairs:
        if not {first, second} <= set(accuracy):
            continue
        differences = 100 * (accuracy[first] - accuracy[second]).dropna()
        found = {epochs: t_interval(values) for epochs, values in differences.groupby("epochs")}
        means = [interval.mean for interval in found.values()]
        halves = [np.nan_to_num(interval.high - interval.mean) for interval in found.values()]
        color = FAMILY_COLORS.get(METHODS[first].family, OTHER_COLOR)
        axis.errorbar(
            list(found),
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
    _mark_lengths(axis, runs)
    axis.set_ylabel("difference, points")
    axis.grid(alpha=0.4)
    axis.legend(frameon=False, fontsize=10, loc="lower right")


def _mark_lengths(axis: Axes, runs: pd.DataFrame) -> None:
    axis.set_xticks(lengths := np.sort(runs.epochs.unique()), lengths)
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xlabel("epochs")


def plot_floors(gaps: pd.DataFrame, axis: Axes) -> Axes:
    """Draw how far each row's loss ends above its floor, with its interval; dashed is "at the floor".

    Rows whose floor is not known, of older logs, are left out. Beside a bar stands the floor and, where chance
    is known, how much of the way from there to the floor was gone.
    """
    gaps = gaps.dropna(subset="gap")
    for y, row in enumerate(gaps.itertuples()):
        half = 0 if np.isnan(row.low) else row.high - row.gap
        axis.barh(
            y,
            row.gap,
            color=FAMILY_COLORS[METHODS[row.method].family],
            height=0.55,
            xerr=half or None,
            capsize=4,
        )
        axis.text(
            max(row.gap + half, NATS_AT_FLOOR),
            y,
            f"  floor {row.floor:.2f}"
            + ("" if np.isnan(row.share) else f", {100 * row.share:.0f} % of the way"),
            va="center",
            fontsize=10,
            color="0.35",
        )
    axis.axvline(NATS_AT_FLOOR, color=LABEL_COLOR, linestyle="--")
    axis.set_yticks(range(len(gaps)), [METHODS[method].title for method in gaps.method])
    axis.set_ylim(len(gaps) - 0.5, -0.5)
    axis.set(
        xlabel="final loss above its floor, nats",
        xlim=(0, 1.25 * gaps[["gap", "high"]].max().max()),
    )
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x", alpha=0.4)
    axis.set_axisbelow(True)
    return axis


def reliability(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> pd.DataFrame:
    """Return of each bin of confidence that holds images: its mean confidence, its accuracy, how many.

    >>> reliability(np.array([0.95, 0.95, 0.51]), np.array([True, False, True])).accuracy.tolist()
    [1.0, 0.5]
    """
    bin_of = np.clip(np.ceil(confidence * bins).astype(int), 1, bins)
    found = pd.DataFrame({"bin": bin_of, "confidence": confidence, "accuracy": right.astype(float)})
    return (
        found.groupby("bin")
        .agg(
            confidence=("confidence", "mean"),
            accuracy=("accuracy", "mean"),
            images=("accuracy", "size"),
        )
        .reset_index()
    )


def plot_reliability(predictions: pd.DataFrame, runs: pd.DataFrame) -> np.ndarray:
    """Draw a reliability diagram of each row, all its seeds together; above it, its calibration error.

    A dot is a bin of confidence, as large as the bin is full, pale where it holds less than ``FEW`` images.
    Below the diagonal the row is too sure.
    """
    methods = [m for names in groups_of(predictions.method).values() for m in names]
    errors = by_method(runs, "calibration_error")
    columns = min(4, len(methods))
    lines = -(-len(methods) // columns)
    _, axes = plt.subplots(
        lines,
        columns,
        figsize=(2.7 * columns, 2.9 * lines),
        sharex=True,
        sharey=True,
        squeeze=False,
    )
    for axis, method in zip(axes.flat, methods, strict=False):
        own = predictions[predictions.method == method]
        bins = reliability(
            np.concatenate(own.confidence.tolist()), np.concatenate(own.right.tolist())
        )
        color = FAMILY_COLORS.get(METHODS[method].family, OTHER_COLOR)
        axis.plot([0, 100], [0, 100], color=LABEL_COLOR, linewidth=1.5)
        axis.vlines(
            100 * bins.confidence,
            100 * bins.confidence,
            100 * bins.accuracy,
            color=color,
            alpha=0.5,
        )
        axis.scatter(
            100 * bins.confidence,
            100 * bins.accuracy,
            s=15 + 250 * bins.images / bins.images.sum(),
            color=color,
            alpha=np.where(bins.images < FEW, 0.35, 1),
            linewidths=0,
            clip_on=False,
        )
        name, mixed, rest = METHODS[method].title.partition(" + ")
        axis.set_title(f"{name}\n{mixed.strip()} {rest}".strip() if mixed else name, fontsize=8.5)
        if method in errors.index:
            row = errors.loc[method]
            half = "" if np.isnan(row.low) else f" ± {100 * (row.high - row['mean']):.1f}"
            axis.text(101, 6, f"error {100 * row['mean']:.1f}{half}", fontsize=10, ha="right")
        axis.set(xlim=(0, 103), ylim=(0, 103), xticks=(0, 50, 100), yticks=(0, 50, 100))
        axis.set_aspect("equal")
    for axis in axes.flat[len(methods) :]:
        axis.set_visible(False)
    axes[0, 0].figure.supxlabel("how sure the row is, %", fontsize=12)
    axes[0, 0].figure.supylabel("how often it is right, %", fontsize=12)
    return axes
