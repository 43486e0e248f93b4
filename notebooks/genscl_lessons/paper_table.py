"""The paper's own table beside ours."""

import pandas as pd

from genscl_lessons.bookkeeping import DATASETS, Book
from genscl_lessons.report import title
from genscl_lite.runs.paths import PUBLISHED
from genscl_lite.runs.tables import make_table, markdown_table, percent

BESIDE = ("ce", "ce_mix", "ce_mix_kd", "simclr", "supcon", "supcon_mix", "genscl_kd", "genscl_mix", "genscl_mix_kd")  # fmt: skip
"""Rows of the paper's table, and the three controls that it lacks."""
VERSIONS = "GenSCL v1", "GenSCL v2, abstract"
"""Of the paper, as ``published.csv`` names them."""


def beside_the_paper(books: list[Book], published: pd.DataFrame | None = None) -> str:
    """Render the paper's accuracies and ours, in percent, a column a data set.

    Version 1 has a table (ResNet-50). Of version 2 the abstract is known, which names no row: it has a line of its own.
    """
    published = pd.read_csv(PUBLISHED) if published is None else published
    theirs = published[published.source == VERSIONS[0]]
    names = list(theirs.dataset.unique())
    ours = [make_table(book.runs).set_index("method") for book in books]
    heads = [f"paper, {DATASETS[name]}" for name in names]
    heads += [f"here, {book.name}" for book in books]
    table = theirs.pivot(index="method", columns="dataset", values="published")
    rows = [
        [
            title(method),
            *(percent(table[name].get(method)) for name in names),
            *map(_mean, ours, [method] * len(ours)),
        ]
        for method in rows_of(books, published)
    ]
    second = published[published.source == VERSIONS[1]].set_index("dataset").published
    rows.append(["version 2, best of its abstract", *(percent(second.get(n)) for n in names), *[""] * len(ours)])  # fmt: skip
    note = f"On ImageNet, version 2's abstract has {percent(second['imagenet'])} (ResNet-50 with Momentum Contrast)."
    spread = "±: the standard deviation over seeds, no interval."
    return f"{markdown_table(['row', *heads], rows)}\n\n{spread} {note}"


def rows_of(books: list[Book], published: pd.DataFrame) -> list[str]:
    """Return the rows of ``BESIDE`` that the paper or any of the folders has."""
    known = set(published.method[published.source == VERSIONS[0]])
    return [row for row in BESIDE if row in known.union(*(book.runs.method for book in books))]


def _mean(table: pd.DataFrame, method: str) -> str:
    if method not in table.index:
        return ""
    row = table.loc[method]
    spread = percent(row.accuracy_sd)
    return percent(row.accuracy_mean) + (spread and f" ± {spread}")
