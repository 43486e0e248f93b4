"""Tables made of many finished runs."""

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd

from genscl_lite.datasets import files
from genscl_lite.runs.paths import PUBLISHED
from genscl_lite.train.methods import METHODS
from genscl_lite.train.run_folder import seeds_in

TABLE_COLUMNS = (
    "method",
    "dataset",
    "arch",
    "epochs",
    "seeds",
    "accuracy_mean",
    "accuracy_sd",
    "knn_mean",
    "head_mean",
    "published",
    "source",
    "seconds",
)


def run_files(folder: str | Path, name: str) -> list[tuple[str, int, Path]]:
    """Find METHOD/seedN/``name`` below a folder: method, seed and path of each, in order of METHODS."""
    order = {method: place for place, method in enumerate(METHODS)}
    found = [
        (row.name, seed, run / name)
        for row in files.as_path(folder).glob("*/")
        for seed, run in seeds_in(row).items()
        if (run / name).exists()
    ]
    return sorted(found, key=lambda run: (order.get(run[0], len(order)), *run))


def read_summaries(folder: str | Path) -> pd.DataFrame:
    """Read METHOD/seedN/summary.json below ``folder``, in order of METHODS; or FileNotFoundError.

    Where an older run beside newer ones does not say its ``label_noise``, there was none.
    """
    summaries = [files.read_json(path) for *_, path in run_files(folder, "summary.json")]
    if not summaries:
        raise FileNotFoundError(
            f"{folder}: no finished run (METHOD/seedN/summary.json) in this folder"
        )
    return pd.DataFrame([{"label_noise": 0.0} | summary for summary in summaries])


def make_table(runs: pd.DataFrame, published: pd.DataFrame | None = None) -> pd.DataFrame:
    """Average runs over seeds: one row a method, with ``TABLE_COLUMNS``; seconds are of one run's training.

    Accuracies are fractions: by the read-out, by a vote of neighbors, and by a classifier's own head. The
    deviation is the sample's (n - 1), missing for one seed. Published numbers are joined by data set,
    architecture and method; ``source`` says where each comes from.
    """
    others = {name: runs.get(name, np.nan) for name in ("knn_accuracy", "head_accuracy")}
    runs = runs.assign(**others).astype(dict.fromkeys(others, float))
    published = pd.read_csv(PUBLISHED) if published is None else published
    table = runs.groupby(["method", "dataset", "arch", "epochs"], sort=False).agg(
        seeds=("seed", "nunique"),
        accuracy_mean=("accuracy_last", "mean"),
        accuracy_sd=("accuracy_last", "std"),
        knn_mean=("knn_accuracy", "mean"),
        head_mean=("head_accuracy", "mean"),
        seconds=("seconds", "mean"),
    )
    table = table.reset_index().merge(published, how="left", on=["method", "dataset", "arch"])
    fractions = ("accuracy_mean", "accuracy_sd", "knn_mean", "head_mean")
    return table[list(TABLE_COLUMNS)].round(dict.fromkeys(fractions, 6) | {"seconds": 1})


def write_csv(table: pd.DataFrame) -> str:
    """Write a table as CSV in which no text is a formula for a spreadsheet."""
    return table.replace(r"^(?=[=+\-@\t\r])", "'", regex=True).to_csv(
        index=False, lineterminator="\n"
    )


def write_table(path: str | Path, table: pd.DataFrame) -> None:
    with files.atomic_write(path) as temporary:
        temporary.write_text(write_csv(table), encoding="utf-8")


def cell(text: object) -> str:
    """Write what a file holds so that it stays in its cell of a Markdown table, and is no HTML."""
    return escape(" ".join(str(text).split()), quote=False).replace("|", r"\|")


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lay out cells as a Markdown table.

    >>> print(markdown_table(["method", "seeds"], [["SupCon", "5"]]))
    | method | seeds |
    |---|---|
    | SupCon | 5 |
    """
    first, *others = [f"| {' | '.join(cells)} |" for cells in (header, *rows)]
    return "\n".join([first, "|---" * len(header) + "|", *others])


def render_table(table: pd.DataFrame) -> str:
    """Render a table as Markdown, accuracies in percent; without the columns that nothing is in."""
    columns = {
        "method": [METHODS[method].title for method in table.method],
        "epochs": table.epochs.astype(str),
        "seeds": table.seeds.astype(str),
        "accuracy ± SD, %": [
            percent(mean) + ("" if pd.isna(deviation) else f" ± {percent(deviation)}")
            for mean, deviation in zip(table.accuracy_mean, table.accuracy_sd, strict=True)
        ],
        "neighbors, %": table.knn_mean.map(percent),
        "own head, %": table.head_mean.map(percent),
        "published, %": [
            "" if pd.isna(accuracy) else f"{percent(accuracy)} ({cell(source)})"
            for accuracy, source in zip(table.published, table.source, strict=True)
        ],
        "seconds a run": table.seconds.map("{:.0f}".format),
    }
    shown = {name: cells for name, cells in columns.items() if any(cells)}
    return markdown_table(list(shown), zip(*shown.values(), strict=True))


def percent(fraction: float | None) -> str:
    """Write a fraction in percent.

    >>> percent(0.8042), percent(None)
    ('80.4', '')
    """
    return "" if pd.isna(fraction) else f"{100 * fraction:.1f}"
