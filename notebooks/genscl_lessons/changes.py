"""Why verdicts changed from one recipe to another: by the read-out, the recipe, the length or the seeds."""

import pandas as pd

from genscl_lessons.bookkeeping import Book, by_neighbors
from genscl_lite.runs.claims import POINT, deciding_interval, make_ledger, points
from genscl_lite.runs.tables import markdown_table


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
    widths = [(x.high - x.low) / 2 / POINT for x in (one, other)]
    firmer = old.verdict == "undecided" and 0 < other.mean / one.mean < 1  # though smaller
    if firmer or one.low <= other.mean <= one.high and other.low <= one.mean <= other.high:
        return f"seeds: ± {widths[0]:.1f} then, ± {widths[1]:.1f} now"
    if old.epochs != new.epochs:
        named = f"recipe ({old.epochs} epochs then, {new.epochs} now)"
    else:
        named = "recipe"
    moved, parts = read_out + recipe, {"read-out": read_out, named: recipe}
    return " and ".join(name for name, part in parts.items() if part / moved > 1 / 3)


def render_changes(old: Book, new: Book) -> str:
    """Render ``changes`` as Markdown, in percentage points, of claims that both folders have runs of."""
    head = ["claim", old.setting, new.setting, "change by read-out", "by recipe", "why the verdict changed"]  # fmt: skip
    rows = []
    for row in changes(old, new).itertuples():
        if not (row.old.seeds and row.new.seeds):
            continue
        parts = [points(row.read_out), points(row.recipe)]
        rows.append([row.claim, said(row.old), said(row.new), *parts, row.reason])
    return markdown_table(head, rows)


def said(row) -> str:
    """Return the verdict of a ledger's row with its difference and interval, in percentage points."""
    if not row.seeds:
        return row.verdict
    difference, low, high, seeds = deciding_interval(row)
    interval = f" ({points(low, high)})" if seeds > 1 else ""
    return f"{row.verdict}: {points(difference)}{interval}"
