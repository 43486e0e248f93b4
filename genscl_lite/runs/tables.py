"""Tables made of many finished runs."""

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

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

    Accuracies are fractions. The deviation is the sample's (n - 1), missing for one seed. Published numbers
    are joined by data set, architecture and method; ``source`` says where each comes from.
    """
    published = pd.read_csv(PUBLISHED) if published is None else published
    table = runs.groupby(["method", "dataset", "arch", "epochs"], sort=False).agg(
        seeds=("seed", "nunique"),
        accuracy_mean=("accuracy_last", "mean"),
        accuracy_sd=("accuracy_last", "std"),
        seconds=("seconds", "mean"),
    )
    table = table.reset_index().merge(published, how="left", on=["method", "dataset", "arch"])
    return table[list(TABLE_COLUMNS)].round({"accuracy_mean": 6, "accuracy_sd": 6, "seconds": 1})


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
    """Render a table as Markdown, accuracies in percent; without a column if nothing is published."""
    header = ["method", "epochs", "seeds", "accuracy ± SD, %", "published, %", "seconds a run"]
    rows = []
    for row in table.itertuples():
        spread = "" if pd.isna(row.accuracy_sd) else f" ± {100 * row.accuracy_sd:.1f}"
        published = (
            "" if pd.isna(row.published) else f"{100 * row.published:.1f} ({cell(row.source)})"
        )
        rows.append(
            [
                METHODS[row.method].title,
                str(row.epochs),
                str(row.seeds),
                f"{100 * row.accuracy_mean:.1f}{spread}",
                published,
                f"{row.seconds:.0f}",
            ]
        )
    if table.published.isna().all():
        header, *rows = [[*cells[:4], cells[5]] for cells in (header, *rows)]
    return markdown_table(header, rows)
