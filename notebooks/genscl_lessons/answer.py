"""The kit's answer: what GenSCL is good for and what not.

Questions and verbs are written by hand; which of them is said, and every number, follows from the runs.
"""

import pandas as pd

from genscl_lessons.bookkeeping import WAYS, Book, by_each_way, by_probe, by_search
from genscl_lessons.report import counted, difference_of, listed, title
from genscl_lessons.verdicts import side_of_zero
from genscl_lite.runs.claims import CLAIMS, POINT, deciding_interval, points, with_read_out
from genscl_lite.runs.statistics import Interval
from genscl_lite.runs.tables import markdown_table

QUESTIONS = {
    ("genscl_mix", "supcon"): "mix its images, which SupCon does not?",
    ("genscl_mix", "supcon_mix"): "keep the mixed label instead of its larger class?",
    ("genscl_mix", "ce_mix"): "take the place of cross-entropy on the same mixed images?",
    ("genscl_mix_kd_expert", "genscl_mix"): "learn from a teacher that knows more labels, too?",
    (
        "genscl_mix_kd_expert",
        "ce_mix_kd_expert",
    ): "take the place of cross-entropy with that teacher?",
}
"""What a reader asks of GenSCL, and the claim (better row, worse row) that answers it."""
ANSWERS = {
    "supported": "yes",
    "contradicted": "no",
    "as good": "no difference",
    "undecided": "open",
    "untested": "not tried",
}
RIVALS = "genscl_mix", "ce_mix"
"""The two rows that questions without a claim compare. Such answers were looked for afterwards and are not corrected."""
WRONG = 0.4
"""The share of wrong labels that the table asks about."""


def answer(row) -> str:
    """Return yes, no or what else a row of the ledger allows, with its numbers."""
    if row.verdict == "untested":
        return ANSWERS[row.verdict]
    word = ANSWERS[row.verdict]
    if row.verdict == "supported" and _only_as_good(row):
        word = "yes, as good"
    return f"**{word}**: {_with_bounds(deciding_interval(row))}"


def _only_as_good(row) -> bool:
    """Tell whether a claim with a margin is supported by its margin alone."""
    [claim] = [c for c in CLAIMS if (c.better, c.worse) == (row.better, row.worse)]
    return claim.margin > 0 and deciding_interval(row).low <= 0


def _bounds(row) -> str:
    """Write the interval that decides and, where its error is pooled, the one seed by seed; "" for one seed."""
    own, pooled = points(row.low, row.high), points(row.pooled_low, row.pooled_high)
    return f"{pooled}; seed by seed {own}" if pooled else own


def answer_table(books: list[Book]) -> str:
    """Render the questions with the answers of each folder of runs, in percentage points."""
    heads = [f"{book.setting} unless a line says otherwise, {_seeds(book)}" for book in books]
    rows = []
    for pair, question in QUESTIONS.items():
        [claim] = [c for c in CLAIMS if (c.better, c.worse) == pair]
        kind = "" if claim.primary else " (exploratory)"
        rows.append([f"... {question}{kind}", *(answer(book.claim(*pair)) for book in books)])
    search = "... take cross-entropy's place in a search for similar images? (not corrected)"
    rows[3:3] = [*_wrong_label_rows(books), [search, *map(_in_a_search, books)]]
    return markdown_table(["Should GenSCL ...", *heads], rows)


def _wrong_label_rows(books: list[Book]) -> list[list[str]]:
    """Answer by each of ``WAYS`` that any of the folders allows, a row a way; without runs, one row says so."""
    wrong = (
        f"... take cross-entropy's place where {100 * WRONG:.0f} % of the labels are wrong, read"
    )
    found = [by_each_way(_misled_runs(book, WRONG), *RIVALS) for book in books]
    ways = [way for way in WAYS if any(way in of_book for of_book in found)] or list(WAYS)[:1]
    return [
        [f"{wrong} {way}? (not corrected)", *(_counted_sign(of_book.get(way)) for of_book in found)]
        for way in ways
    ]


def _counted_sign(interval: Interval | None) -> str:
    return f"{_sign(interval)}, {counted(interval.count)}" if interval else ANSWERS["untested"]


def _misled_runs(book: Book, share: float) -> pd.DataFrame:
    return book.noisy[book.noisy.label_noise == share] if len(book.noisy) else book.noisy


def _in_a_search(book: Book) -> str:
    found = difference_of(by_search(book.runs), *RIVALS)
    return _sign(found) if found else ANSWERS["untested"]


def _sign(interval: Interval) -> str:
    word = {"above": "ahead", "below": "behind", "": "open"}[side_of_zero(interval)]
    return f"**{word}**: {_with_bounds(interval)}"


def why(books: list[Book]) -> str:
    """Say in four lines of Markdown what GenSCL is good for and what not; a line without runs is left out."""
    lines = _clean(books), _mixed(books), _taught(books), _misled(books)
    return "\n".join(f"- {line}" for line in lines if line)


def _clean(books: list[Book]) -> str:
    ahead = [
        book.name
        for book in books
        if (row := book.claim(*RIVALS)).verdict == "supported" and not _only_as_good(row)
    ]
    rival = "more accurate than cross-entropy on the same mixed images"
    if ahead:
        return f"**Clean labels: a reason.** On {listed(ahead)} it is {rival}."
    behind = _differences(books, *RIVALS, "contradicted")
    if behind:
        found = f"{listed(behind)}{_still_open(books, *RIVALS)}"
        return f"**Clean labels: no reason to replace cross-entropy.** On the same mixed images GenSCL is behind it: {found}."
    return f"**Clean labels: no reason to replace cross-entropy.** In no comparison here is it shown to be {rival}."


def _mixed(books: list[Book]) -> str:
    gains = _differences(books, "genscl_mix", "supcon")
    if not gains:
        return ""
    return (
        f"**Mixed images in a contrastive loss: a reason.** GenSCL with them is ahead of SupCon without: {listed(gains)}"
        f"{_still_open(books, 'genscl_mix', 'supcon')}. {_image_and_label(books)}"
    )


def _image_and_label(books: list[Book]) -> str:
    """Say what mixed images bring without their mixed label, and what that adds."""
    images = []
    for book in books:
        found = difference_of(book.runs, "supcon_mix", "supcon")
        if found and found.low > 0:
            mean, low, high, _ = found
            images.append(f"{points(mean)} on {book.name} ({points(low, high)}, exploratory)")
    said = (
        f"Even if each keeps only its larger label, mixed images bring {listed(images)}. "
        if images
        else ""
    )
    soft = _differences(books, "genscl_mix", "supcon_mix")
    rows = [(book.name, book.claim("genscl_mix", "supcon_mix")) for book in books]
    others = "; ".join(
        f"{ANSWERS[row.verdict]} on {name}"
        for name, row in rows
        if row.seeds and row.verdict != "supported"
    )
    if soft:
        elsewhere = f"; {others}" if others else ""
        return (
            f"{said}The mixed label, instead of its larger class, brings {listed(soft)}{elsewhere}."
        )
    return f"{said}Whether the mixed label adds to that: {others}."


def _taught(books: list[Book]) -> str:
    """Say what a teacher that knows more brings GenSCL, and whether it brings cross-entropy as much."""
    gains = _differences(books, "genscl_mix_kd_expert", "genscl_mix")
    if not gains:
        return ""
    rivals, sides = [], set()
    for book in books:
        gain = difference_of(book.runs, "ce_mix_kd_expert", "ce_mix")
        left = difference_of(book.runs, "genscl_mix_kd_expert", "ce_mix_kd_expert")
        if gain and left:
            sides.add(side_of_zero(left))
            rivals.append(
                f"on {book.name} it brings cross-entropy on mixed images {_with_bounds(gain)}, and GenSCL minus "
                f"cross-entropy, both with it, is {_with_bounds(left)}"
            )
    if not rivals:
        kind, said = "it helps GenSCL", "Whether it helps cross-entropy as much was not tried."
    else:
        kind = (
            "a reason"
            if sides == {"above"}
            else "it helps, and is no reason to replace cross-entropy"
        )
        said = f"The control: {'; '.join(rivals)} (exploratory)."
    return f"**A teacher that knows more labels: {kind}.** It brings GenSCL {listed(gains)}. {said}"


def _still_open(books: list[Book], better: str, worse: str) -> str:
    """Name the places where a claim is undecided, as the end of a sentence; "" for none."""
    others = [book.name for book in books if book.claim(better, worse).verdict == "undecided"]
    return f"; on {listed(others)} that is open" if others else ""


def _differences(
    books: list[Book], better: str, worse: str, verdict: str = "supported"
) -> list[str]:
    """Name the places where a claim has a verdict, with the points of difference there."""
    rows = [(book.name, book.claim(better, worse)) for book in books]
    return [
        f"{points(mean)} points on {name} ({points(low, high)})"
        for name, row in rows
        if row.verdict == verdict
        for mean, low, high, _ in [deciding_interval(row)]
    ]


def _misled(books: list[Book]) -> str:
    """Say by how many ``WAYS`` it is ahead at each share of wrong labels, and by how many behind."""
    cases = _wrong_cases(books, *RIVALS)
    sides = [side_of_zero(own) for *_, ways in cases for own in ways]
    if "above" not in sides:
        return ""
    ahead = listed(
        [
            f"{sum('above' == side_of_zero(own) for own in ways)} of {len(ways)} on {name} with {100 * share:.0f} % wrong "
            f"({_range_of(ways)} points)"
            for share, name, ways in cases
        ]
    )
    kind = "a reason" if set(sides) == {"above"} else "it depends on how features are read"
    return (
        f"**Wrong labels: {kind}.** Of the read-outs of the same runs, against cross-entropy on the same mixed images, GenSCL "
        f"is ahead by {ahead}, behind by {sides.count('below') or 'none'}. "
        f"{_misled_softly(books)}Exploratory, not corrected; *How it is measured* has the table."
    )


def _misled_softly(books: list[Book]) -> str:
    """Say whether it is the mixed label that helps where labels are wrong; "" where the control has no runs."""
    cases = [ways for *_, ways in _wrong_cases(books, "genscl_mix", "supcon_mix")]
    if not cases:
        return ""
    ahead = sum("above" in map(side_of_zero, ways) for ways in cases)
    shown = (
        f"is a part of it in {ahead} of {len(cases)} cases" if ahead else "is not shown to be why"
    )
    return (
        f"The mixed label {shown}: GenSCL minus SupCon on the same images, each with its larger class, is "
        f"{_range_of(sum(cases, []))} points, however features are read. "
    )


def _wrong_cases(
    books: list[Book], first: str, second: str
) -> list[tuple[float, str, list[Interval]]]:
    """Return shares of wrong labels, smallest first, with a data set and what ``by_each_way`` finds there, if anything."""
    cases = [
        (share, book.name, list(by_each_way(runs, first, second).values()))
        for book in books
        if len(book.noisy)
        for share, runs in book.noisy.groupby("label_noise")
        if share
    ]
    return sorted((case for case in cases if case[-1]), key=lambda case: case[0])


def _range_of(intervals: list[Interval]) -> str:
    means = [interval.mean for interval in intervals]
    return points(min(means), max(means))


def wrong_labels(books: list[Book]) -> str:
    """Render GenSCL + mixing minus other rows where labels are wrong, in points, a way to read them a column."""
    rows = []
    for book in books:
        old = with_read_out(book.runs).read_out.iloc[0] == "sgd"
        name = f"{book.name}, first recipe" if old else book.name
        for share, runs in book.noisy.groupby("label_noise") if len(book.noisy) else ():
            for other in ("ce_mix", "supcon_mix", "supcon"):
                found = by_each_way(runs, "genscl_mix", other)
                if share and found:
                    rows.append([name, f"{100 * share:.0f} %", title(other), *way_cells(found)])
    if not rows:
        return "No runs with wrong labels."
    return markdown_table(["data set", "wrong", "minus", *WAYS, "seeds"], rows)


def way_cells(found: dict[str, Interval]) -> list[str]:
    """Write what ``by_each_way`` found, a cell for each of ``WAYS``, and the seeds of the way that has most."""
    cells = [_with_bounds(found[way]) if way in found else "" for way in WAYS]
    return [*cells, str(max(interval.count for interval in found.values()))]


def _with_bounds(interval: Interval) -> str:
    return f"{points(interval.mean)} ({points(interval.low, interval.high) or 'one seed'})"


def lost(book: Book, share: float, method: str, way=by_probe) -> float:
    """Return the points that a row loses to wrong labels, over the seeds that have both, read in one way."""
    runs = way(book.noisy[book.noisy.method == method])
    table = runs.pivot_table(index="seed", columns="label_noise", values="accuracy_last")
    return float((table[0.0] - table[share]).dropna().mean() / POINT)


def _seeds(book: Book) -> str:
    counts = book.ledger.seeds[book.ledger.seeds > 0]
    if counts.empty:
        return "no seed"
    least, most = int(counts.min()), int(counts.max())
    return f"{least} to {most} seeds" if least < most else counted(most)


def quotes(book: Book) -> list[str]:
    """Say of each primary claim one sentence that can be quoted: difference, interval, seeds and setting."""
    lines = []
    for row in book.ledger[(book.ledger.kind == "primary") & (book.ledger.seeds > 0)].itertuples():
        difference, seeds = row.difference, row.seeds
        if seeds == 1:
            verb, interval = "was", "one seed, which decides nothing"
        else:
            verb, interval = "is", f"95 % interval {_bounds(row)}; {seeds} seeds"
        size = f"{abs(difference) / POINT:.1f} points {'more' if difference > 0 else 'less'} accurate than"
        if abs(difference) < POINT / 20:
            size = "as accurate, to a tenth of a point, as"
        if row.verdict == "as good" or (row.verdict == "supported" and _only_as_good(row)):
            said = f"is as accurate as {title(row.worse)}, within half a point"
        elif row.verdict == "undecided" and seeds > 1:
            said = f"cannot be told apart from {title(row.worse)}"
        else:
            said = f"{verb} {size} {title(row.worse)}"
        number = "" if size in said else f"{points(difference)} points, "
        lines.append(f"- {title(row.better)} {said} ({number}{interval}; {book.setting}).")
    return lines
