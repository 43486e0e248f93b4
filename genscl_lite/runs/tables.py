"""Tables made of many finished runs."""

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

import pandas as pd

from genscl_lite.datasets import files
from genscl_lite.runs.paths import PUBLISHED
from genscl_lite.train.methods import METHODS

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
COST_COLUMNS = (
    "method",
    "dataset",
    "arch",
    "epochs",
    "seconds",
    "probe_seconds",
    "images_per_second",
    "peak_memory_bytes",
    "device",
)
SUMMARIES = "*/seed*/summary.json"


def run_files(folder: str | Path, name: str) -> list[tuple[str, int, Path]]:
    """Find METHOD/seedN/``name`` below a folder: method, seed and path of each, in order of METHODS."""
    order = {method: place for place, method in enumerate(METHODS)}
    found = [
        (path.parts[-3], int(path.parts[-2].removeprefix("seed")), path)
        for path in files.as_path(folder).glob(f"*/seed*/{name}")
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
    return pd.DataFrame(summaries).fillna({"label_noise": 0.0})


def read_varied(folder: str | Path, name: str) -> pd.DataFrame:
    """Read the runs in ``folder`` and those of ``--vary name=...``, in FOLDER_nameVALUE beside it.

    Sorted by the column ``name``. FileNotFoundError: there are none.
    """
    folder = Path(folder)
    folders = [folder, *folder.parent.glob(f"{folder.name}_{name}[0-9]*")]
    runs = [read_summaries(path) for path in folders if any(path.glob(SUMMARIES))]
    if not runs:
        raise FileNotFoundError(
            f"{folder}: no finished run there, and none beside it of another {name}"
        )
    return pd.concat(runs).sort_values(name, kind="stable", ignore_index=True)


def by_processor(runs: pd.DataFrame) -> pd.DataFrame:
    """Count the processor's seconds as those of a run, which other work on the machine does not lengthen.

    If all runs say them and none was on a GPU; else runs are returned as they are.
    """
    on_gpu = "peak_memory_bytes" in runs and runs.peak_memory_bytes.notna().any()
    if on_gpu or "cpu_seconds" not in runs or runs.cpu_seconds.isna().any():
        return runs
    return runs.assign(seconds=runs.cpu_seconds)


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


def make_cost_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Say what a run of each method costs, with ``COST_COLUMNS``: means over seeds, but memory is the most.

    Seconds are those of training; the probe's stand beside them, the teacher's in its own row. Images a
    second count each image once, however many views it has. Memory is a GPU's; on a CPU it is missing.
    """
    runs = runs.assign(peak_memory_bytes=runs.peak_memory_bytes.astype(float))
    means = {name: "mean" for name in ("seconds", "probe_seconds", "images_per_second")}
    groups = runs.groupby(["method", "dataset", "arch", "epochs", "device"], sort=False)
    return (
        groups.agg(means | {"peak_memory_bytes": "max"}).reset_index()[list(COST_COLUMNS)].round(1)
    )


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
    header = ["method", "epochs", "seeds", "accuracy, %", "published, %", "seconds a run"]
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


def render_cost_table(table: pd.DataFrame) -> str:
    """Render costs as Markdown, the machines below it."""
    header = "method", "encoder", "epochs", "training, s", "probe, s", "images/s", "peak GPU memory"
    rows = [
        [
            METHODS[row.method].title,
            cell(row.arch),
            str(row.epochs),
            f"{row.seconds:.0f}",
            f"{row.probe_seconds:.0f}",
            f"{row.images_per_second:.0f}",
            "" if pd.isna(row.peak_memory_bytes) else f"{row.peak_memory_bytes / 2**30:.1f} GiB",
        ]
        for row in table.itertuples()
    ]
    machines = "; ".join(map(cell, table.device.unique()))
    return f"{markdown_table(header, rows)}\n\nOn {machines}."
