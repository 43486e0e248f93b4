"""``python data/results/pages.py``: write the tables of README and of the guides anew from the results here.

A table stands between ``<!-- table: KIND WORDS -->`` and ``<!-- end -->``: a kind of ``TABLES``, and the
arguments of its function, as names of folders in ``data/results``. All else on a page stays as it is.
"""

import importlib
import json
import re
import sys
from functools import cache
from pathlib import Path

import pandas as pd

# tests.benchmarks, which a script here does not find; the studies, which another script does not
sys.path += [str(Path(__file__).parents[2]), str(Path(__file__).parent)]

import studies

from genscl_lessons import answer, bookkeeping, changes, costs, paper_table, report, verdicts
from genscl_lessons.floor import floor_gaps, read_logs
from genscl_lite.datasets import files
from genscl_lite.runs import claims, statistics, tables
from genscl_lite.runs.paths import NOTEBOOKS, PROJECT, RESULTS
from genscl_lite.train.methods import METHODS
from tests.benchmarks import loss, step

MARKED = re.compile(r"(<!-- table: (.+?) -->).*?(<!-- end -->)", re.DOTALL)


def varied(folder: str, name: str) -> str:
    """Render accuracy against a parameter, of rows trained with several values of it; seeds in brackets."""
    runs = report.read_varied(RESULTS / folder, name)
    groups = runs.groupby(["method", name], sort=False).accuracy_last
    cells = groups.agg(lambda accuracy: f"{100 * accuracy.mean():.1f} ({len(accuracy)})").unstack()
    wide = cells[cells.notna().sum(axis=1) > 1].dropna(axis=1, how="all").fillna("")
    rows = [
        [METHODS[method].title, *wide.loc[method]] for method in METHODS if method in wide.index
    ]
    return tables.markdown_table(["method", *(f"{name} {value}" for value in wide)], rows)


def along(folder: str, name: str) -> str:
    """Say where differences of rows lie above zero, below or around it, at each value of a parameter."""
    runs = report.varied(RESULTS / folder, name)
    return "\n".join(report.along(runs, name, *pair) for pair in report.COMPARED)


def ways(folder: str, first: str, *others: str) -> str:
    """Render the first row minus each other one, read in each of ``bookkeeping.WAYS``."""
    found = {other: bookkeeping.by_each_way(book(folder).runs, first, other) for other in others}
    rows = [[METHODS[other].title, *answer.way_cells(own)] for other, own in found.items()]
    return tables.markdown_table(["minus", *bookkeeping.WAYS, "seeds"], rows)


def later_seeds(folder: str, first: str) -> str:
    """Render the primary claims over the seeds below ``first``, and over those from it on alone."""
    runs = read(folder)
    later = runs.seed >= int(first)
    earlier_ledger, later_ledger = (
        claims.make_ledger(part) for part in (runs[~later], runs[later])
    )
    rows = [
        [early.claim, changes.said(early), changes.said(late)]
        for early, late in zip(earlier_ledger.itertuples(), later_ledger.itertuples(), strict=True)
        if early.kind == "primary"
    ]
    return tables.markdown_table(["claim", f"seeds below {first}", f"seeds from {first} on"], rows)


def people(*folders: str) -> str:
    """Render how near each run's held-out images lie to what people see in them: a run a line."""
    head = [
        "labels",
        "row",
        "seed",
        "accuracy, %",
        "calibration error",
        "`all`",
        "`between`",
        "Pearson",
    ]
    rows = []
    for run in (run for folder in folders for run in read(folder).itertuples()):
        near = run.people["outputs"]
        numbers = run.calibration_error, near["all"], near["between"], near["between_pearson"]
        rows.append(
            [
                run.dataset,
                METHODS[run.method].title,
                str(run.seed),
                f"{100 * run.accuracy_last:.1f}",
                *(f"{number:.3f}" for number in numbers),
            ]
        )
    return tables.markdown_table(head, rows)


MEASURES = {
    "`between`, Spearman": lambda run: run.people["outputs"]["between"],
    "`between`, Pearson": lambda run: run.people["outputs"]["between_pearson"],
    "cross-entropy with people, nats": lambda run: run.people["cross_entropy"],
    "accuracy, fraction": lambda run: run.accuracy_last,
    "calibration error": lambda run: run.calibration_error,
}


def people_differences(first: str, second: str) -> str:
    """Render what the labels of the first folder change: differences of runs of one row and seed, by t.

    A verdict is given if the 95 % interval and a p corrected for all lines (Holm) agree.
    """
    one, other = (read(folder).set_index(["method", "seed"]) for folder in (first, second))
    both, lines = one.index.intersection(other.index), []
    for method in (method for method in METHODS if method in both.get_level_values("method")):
        for name, measure in MEASURES.items():
            pairs = [
                (measure(one.loc[key]), measure(other.loc[key])) for key in both if key[0] == method
            ]
            lines.append((method, name, [ours - theirs for ours, theirs in pairs]))
    rows = []
    corrected = statistics.holm([statistics.p_value(values) for *_, values in lines])
    for (method, name, values), p in zip(lines, corrected, strict=True):
        interval = statistics.t_interval(values)
        verdict = ("undecided", "higher", "lower")[statistics.decided(interval, p)]
        difference = studies.with_interval(values, "+.3f")
        rows.append([METHODS[method].title, name, difference, str(interval.count), verdict])
    return tables.markdown_table(
        ["row", "measure", "difference, 95 % interval", "seeds", "verdict"], rows
    )


def tries() -> str:
    """Render what ``tune.py`` tried: at 20 epochs the best try of each augmentation, longer and with a queue all."""
    found = pd.read_csv(RESULTS / "tuning.csv")
    found["changed"] = found.changes.map(json.loads)
    found["kind"] = [
        row.changed.get("augmentation", row.changes) if row.epochs == 20 else row.changes
        for row in found.itertuples()
    ]
    found = found.sort_values("accuracy", ascending=False, kind="stable")
    best = found.drop_duplicates(["family", "epochs", "kind"])
    best = best.sort_values(["epochs", "family", "kind"])
    rows = [
        [
            METHODS[row.family].title,
            str(row.epochs),
            ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in row.changed.items()),
            f"{100 * row.accuracy:.1f}",
            f"{100 * row.knn_accuracy:.1f}",
            f"{row.cpu_seconds:.0f}",
        ]
        for row in best.itertuples()
    ]
    head = ["row", "epochs", "settings", "probe, %", "kNN, %", "s of a core"]
    return tables.markdown_table(head, rows)


def benchmark(name: str, folder: str = "") -> str:
    """Render what a benchmark measured, and what follows from it."""
    written = files.read_json(RESULTS / (folder or name) / f"{name}.json")
    records = pd.DataFrame(written["records"])
    kind, options = {"loss": (loss, [10]), "step": (step, [])}[name]
    lines = [f"- {line}" for line in kind.claims(records)]
    return "\n".join([kind.render(records, *options), "", *lines, "", f"On {written['device']}."])


def books(*folders: str) -> list[bookkeeping.Book]:
    return [book(folder) for folder in folders]


@cache
def book(folder: str) -> bookkeeping.Book:
    return bookkeeping.read_book(RESULTS / folder)


def read(folder: str) -> pd.DataFrame:
    return tables.read_summaries(RESULTS / folder)


def timed(folder: str) -> pd.DataFrame:
    return costs.by_processor(read(folder))


def study(name: str) -> str:
    """Render what a study beside this script found: NAME.py renders NAME.csv."""
    return importlib.import_module(name).render()


TABLES = {
    "answer": lambda *folders: answer.answer_table(books(*folders)),
    "paper": lambda *folders: paper_table.beside_the_paper(books(*folders)),
    "quotes": lambda *folders: "\n".join(
        line for book in books(*folders) for line in answer.quotes(book)
    ),
    "changes": lambda old, new: changes.render_changes(*books(old, new)),
    "why": lambda *folders: answer.why(books(*folders)),
    "wrong_labels": lambda *folders: answer.wrong_labels(books(*folders)),
    "results": lambda folder: tables.render_table(tables.make_table(timed(folder))),
    "ledger": lambda folder: verdicts.render_ledger(*(book.ledger for book in books(folder))),
    "later_seeds": later_seeds,
    "ways": ways,
    "floors": lambda folder: report.floor_table(floor_gaps(read_logs(RESULTS / folder))),
    "varied": varied,
    "along": along,
    "tries": tries,
    "study": study,
    "people": people,
    "people_differences": people_differences,
    "benchmark": benchmark,
}


def rewritten(page: str) -> str:
    """Return a page with all its tables made anew; where there are no results yet, that is said."""

    def table(marked: re.Match) -> str:
        kind, *words = marked[2].split()
        try:
            made = TABLES[kind](*words)
        except FileNotFoundError:
            made = "*Not measured yet.*"
        return f"{marked[1]}\n\n{made}\n\n{marked[3]}"

    return MARKED.sub(table, page)


def pages() -> list[Path]:
    return [PROJECT / "README.md", *sorted(NOTEBOOKS.rglob("*.md"))]


def main() -> None:
    for path in pages():
        with files.atomic_write(path) as temporary:
            temporary.write_text(rewritten(path.read_text("utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
