"""The kit's answer: what GenSCL is good for, the paper's table beside ours, and why verdicts changed.

Questions and verbs are written by hand; which of them is said, and every number, follows from the runs.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from genscl_lessons.report import difference_of, title, varied
from genscl_lite.datasets.files import as_path
from genscl_lite.runs.claims import (
    CLAIMS,
    POINT,
    deciding_interval,
    make_ledger,
    points,
    read_predictions,
    with_read_out,
)
from genscl_lite.runs.paths import PUBLISHED
from genscl_lite.runs.tables import make_table, markdown_table, read_summaries

QUESTIONS = {
    ("genscl_mix", "supcon"): "train on mixed images instead of whole ones, as SupCon does?",
    ("genscl_mix", "supcon_mix"): "keep the mixed label instead of its larger class?",
    ("genscl_mix", "ce_mix"): "take the place of cross-entropy on the same mixed images?",
    ("genscl_mix_kd_expert", "genscl_mix"): "learn from a teacher that knows more labels, too?",
}
"""What a reader asks of GenSCL, and the claim (better row, worse row) that answers it."""
ANSWERS = {
    "supported": "yes",
    "contradicted": "no",
    "as good": "no difference",
    "undecided": "open",
    "untested": "not tried",
}
READ_OUTS = {
    "converged": "one linear probe for all rows",
    "sgd": "the first read-out",
    "neighbors": "a vote of neighbors",
}
DATASETS = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "digits": "digits"}
BESIDE = ("ce", "ce_mix", "simclr", "supcon", "supcon_mix", "genscl_kd", "genscl_mix", "genscl_mix_kd")  # fmt: skip
"""Rows of the paper's table, and the two controls that it lacks."""


WRONG = 0.4
"""The share of wrong labels that is asked about. No claim: it was looked for afterwards, and is not corrected."""


class Book(NamedTuple):
    """Runs of a folder and what they say of each claim."""

    runs: pd.DataFrame
    ledger: pd.DataFrame
    noisy: pd.DataFrame = pd.DataFrame()
    """Runs beside it, trained with wrong labels."""

    @property
    def setting(self) -> str:
        """Say what was trained, for how long, and how it was read."""
        run = with_read_out(self.runs[self.runs.method != "expert"]).iloc[0]
        labels = f"{run.labels_per_class} labels a class" if run.labels_per_class else "all labels"
        name = DATASETS.get(run.dataset, run.dataset)
        return f"{name}, {labels}, {run.epochs} epochs, {READ_OUTS[run.read_out]}"

    def claim(self, better: str, worse: str):
        """Return the ledger's row about two rows of the table."""
        [row] = self.ledger[
            (self.ledger.better == better) & (self.ledger.worse == worse)
        ].itertuples()
        return row


def read_book(folder: str | Path) -> Book:
    """Read the runs below a folder, and hold the claims against them."""
    folder = as_path(folder)
    runs = read_summaries(folder)
    ledger = make_ledger(runs, predictions=read_predictions(folder))
    return Book(runs, ledger, varied(folder, "label_noise"))


def by_neighbors(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the same runs, read by a vote of nearest neighbors, which old and new runs have in common."""
    runs = runs.dropna(subset="knn_accuracy")
    return runs.assign(accuracy_last=runs.knn_accuracy, read_out="neighbors")


def by_own_head(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the same runs, classifiers read by the head that they were trained with."""
    own = runs.accuracy_last if "head_accuracy" not in runs else runs.head_accuracy
    return runs.assign(accuracy_last=own.fillna(runs.accuracy_last))


# What GenSCL is good for


def answer(row) -> str:
    """Return yes, no or what else a row of the ledger allows, with its numbers."""
    word = f"**{ANSWERS[row.verdict]}**"
    if row.verdict == "untested":
        return ANSWERS[row.verdict]
    difference, low, high, seeds = deciding_interval(row)
    if row.verdict == "supported" and _margin(row) and low <= 0:
        word = "**yes, as good**"
    return f"{word}: {difference / POINT:+.1f} ({points(low, high) if seeds > 1 else 'one seed'})"


def _claim(better: str, worse: str):
    [claim] = [c for c in CLAIMS if (c.better, c.worse) == (better, worse)]
    return claim


def _margin(row) -> float:
    return _claim(row.better, row.worse).margin


def _kind(better: str, worse: str) -> str:
    return "" if _claim(better, worse).primary else " (exploratory)"


def answer_table(books: list[Book]) -> str:
    """Render the questions with the answers of each folder of runs, in percentage points."""
    heads = [f"{book.setting}, {_seeds(book)}" for book in books]
    rows = [
        [f"... {question}{_kind(*pair)}", *(answer(book.claim(*pair)) for book in books)]
        for pair, question in QUESTIONS.items()
    ]
    if any(len(book.noisy) for book in books):
        asked = (
            f"... take its place where {100 * WRONG:.0f} % of the labels are wrong? (exploratory)"
        )
        rows.insert(3, [asked, *map(_with_wrong_labels, books)])
    return markdown_table(["Should GenSCL ...", *heads], rows)


def _with_wrong_labels(book: Book) -> str:
    """Answer by one probe for both rows and, since that is what one would use, against the classifier's own head."""
    if book.noisy.empty:
        return ANSWERS["untested"]
    noisy = book.noisy[book.noisy.label_noise == WRONG]
    said = [
        _sign(difference_of(runs, "genscl_mix", "ce_mix")) for runs in (noisy, by_own_head(noisy))
    ]
    return "; against its own head ".join(said) if all(said) else ANSWERS["untested"]


def _sign(found) -> str:
    if not found:
        return ""
    mean, low, high, seeds = found[0]
    word = "yes" if low > 0 else "no" if high < 0 else "open"
    return f"**{word}**: {mean / POINT:+.1f} ({points(low, high) if seeds > 1 else 'one seed'})"


def _seeds(book: Book) -> str:
    counts = book.ledger.seeds[book.ledger.seeds > 0]
    if counts.empty:
        return "no seed"
    least, most = int(counts.min()), int(counts.max())
    return (
        f"{least} to {most} seeds" if least < most else "one seed" if most == 1 else f"{most} seeds"
    )


def quotes(book: Book) -> list[str]:
    """Say of each primary claim one sentence that can be quoted: difference, interval, seeds and setting."""
    lines = []
    for row in book.ledger[(book.ledger.kind == "primary") & (book.ledger.seeds > 0)].itertuples():
        difference, low, high, seeds = deciding_interval(row)
        if seeds == 1:
            verb, interval = "was", "one seed, which decides nothing"
        else:
            verb, interval = "is", f"95 % interval {points(low, high)}; {seeds} seeds"
        size = f"{abs(difference) / POINT:.1f} points {'more' if difference > 0 else 'less'} accurate than"
        if abs(difference) < POINT / 20:
            size = "as accurate, to a tenth of a point, as"
        if row.verdict == "as good" or (row.verdict == "supported" and _margin(row) and low <= 0):
            said = f"is as accurate as {title(row.worse)}, within half a point"
        elif row.verdict == "undecided" and seeds > 1:
            said = f"cannot be told apart from {title(row.worse)}"
        else:
            said = f"{verb} {size} {title(row.worse)}"
        number = "" if size in said else f"{difference / POINT:+.1f} points, "
        lines.append(f"- {title(row.better)} {said} ({number}{interval}; {book.setting}).")
    return lines


# The paper's table


def beside_the_paper(books: list[Book], published: pd.DataFrame | None = None) -> str:
    """Render the paper's accuracies (ResNet-50) and ours, in percent, a column a data set."""
    published = pd.read_csv(PUBLISHED) if published is None else published
    theirs = published[published.arch == "resnet50"]
    ours = [make_table(book.runs).set_index("method") for book in books]
    heads = [f"paper, {DATASETS[name]}" for name in theirs.dataset.unique()]
    heads += [f"here, {book.setting.partition(', ')[0]}" for book in books]
    rows = []
    for method in rows_of(books, published):
        cells = [_published(theirs, name, method) for name in theirs.dataset.unique()]
        rows.append([title(method), *cells, *(_mean(table, method) for table in ours)])
    return markdown_table(["row", *heads], rows)


def rows_of(books: list[Book], published: pd.DataFrame) -> list[str]:
    """Return the rows of ``BESIDE`` that the paper or any of the folders has."""
    known = set(published[published.arch == "resnet50"].method)
    return [row for row in BESIDE if row in known.union(*(book.runs.method for book in books))]


def _published(theirs: pd.DataFrame, dataset: str, method: str) -> str:
    found = theirs[(theirs.dataset == dataset) & (theirs.method == method)]
    if found.empty:
        return ""
    [row] = found.itertuples()
    second = "" if pd.isna(row.second_version) else f"; v2: {100 * row.second_version:.1f}"
    return f"{100 * row.published:.1f}{second}"


def _mean(table: pd.DataFrame, method: str) -> str:
    if method not in table.index:
        return ""
    row = table.loc[method]
    return f"{100 * row.accuracy_mean:.1f}" + (
        "" if pd.isna(row.accuracy_sd) else f" ± {100 * row.accuracy_sd:.1f}"
    )


# Why verdicts changed


def changes(old: Book, new: Book) -> pd.DataFrame:
    """Hold the verdicts of two folders beside each other, and split each difference's change in two.

    Old and new runs also store how a vote of nearest neighbors reads them. So of the change, what the vote sees
    too is the recipe's (with the length, if that differs); the rest, before and after, is the read-out's.

    Returns:
        A row a claim: ``claim``, ``old`` and ``new`` (rows of the ledgers), ``read_out`` and ``recipe`` (fractions),
        ``reason`` ("" where the verdict is the same).
    """
    rows = []
    near = [make_ledger(by_neighbors(book.runs)) for book in (old, new)]
    books = (old.ledger, new.ledger, *near)
    for row in zip(*(book.itertuples() for book in books), strict=True):
        before, after, before_near, after_near = (one.difference for one in row)
        recipe = after_near - before_near
        read_out = (before_near - before) + (after - after_near)
        reason = _reason(row[0], row[1], read_out, recipe)
        rows.append((row[0].claim, row[0], row[1], read_out, recipe, reason))
    return pd.DataFrame(rows, columns=["claim", "old", "new", "read_out", "recipe", "reason"])


def _reason(old, new, read_out: float, recipe: float) -> str:
    if old.verdict == new.verdict:
        return ""
    if not (old.seeds and new.seeds):
        return "no runs of both rows by " + ("this recipe" if old.seeds else "the first recipe")
    if 1 in (old.seeds, new.seeds):
        return "a single seed decides nothing"
    one, other = deciding_interval(old), deciding_interval(new)
    if one.low <= other.mean <= one.high and other.low <= one.mean <= other.high:
        widths = [(x.high - x.low) / 2 / POINT for x in (one, other)]
        return f"seeds: ± {widths[0]:.1f} then, ± {widths[1]:.1f} now"
    if old.epochs != new.epochs:
        named = f"recipe ({old.epochs:.0f} epochs then, {new.epochs:.0f} now)"
    else:
        named = "recipe"
    moved, parts = read_out + recipe, {"read-out": read_out, named: recipe}
    return " and ".join(name for name, part in parts.items() if part / moved > 1 / 3)


def render_changes(old: Book, new: Book) -> str:
    """Render ``changes`` as Markdown, in percentage points."""
    head = ["claim", old.setting, new.setting, "change by read-out", "by recipe", "why the verdict changed"]  # fmt: skip
    rows = []
    for row in changes(old, new).itertuples():
        parts = ["" if np.isnan(x) else f"{x / POINT:+.1f}" for x in (row.read_out, row.recipe)]
        rows.append([row.claim, said(row.old), said(row.new), *parts, row.reason])
    return markdown_table(head, rows)


def said(row) -> str:
    """Return the verdict of a ledger's row with its difference and interval, in percentage points."""
    if not row.seeds:
        return row.verdict
    difference, low, high, seeds = deciding_interval(row)
    interval = f" ({points(low, high)})" if seeds > 1 else ""
    return f"{row.verdict}: {difference / POINT:+.1f}{interval}"
