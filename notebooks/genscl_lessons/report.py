"""A report on finished runs: what their files hold, and sentences that take their words from the numbers.

No sentence of notebooks 09 and 10 says by itself which row is better. It is written here and in ``answer``,
from a verdict of the ledger or from an interval, so it changes when the runs do.
"""

import base64
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd
from IPython.display import HTML, Markdown, display
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from genscl_lessons.costs import by_processor
from genscl_lessons.figures.confusion import class_shares, most_confused
from genscl_lessons.floor import FLOOR_CLAIM, FLOOR_ROW, floor_verdict, way_gone
from genscl_lessons.plots import small_png
from genscl_lessons.verdicts import side_of_zero
from genscl_lite.datasets import files
from genscl_lite.runs.claims import CONFIGURATION, POINT, points, with_read_out
from genscl_lite.runs.statistics import Interval, t_interval
from genscl_lite.runs.tables import markdown_table, read_summaries, run_files
from genscl_lite.train.methods import METHODS, TEACHERS, teacher_of


def say(*sentences: str) -> None:
    """Show sentences as text of the notebook, items (of "- ") as a list; empty ones are left out."""
    text = ""
    for sentence in filter(None, sentences):
        item, after = sentence.startswith("- "), text.rpartition("\n")[2].startswith("- ")
        text += ("\n" if item and after else "\n\n" if item or after else " ") + sentence
    display(Markdown(text.strip()))


def fold(figure: Figure, *sentences: str) -> None:
    """Show a picture and what to see in it, folded: the reader predicts first, then opens it."""
    png = base64.b64encode(small_png(figure)).decode()
    plt.close(figure)
    text = "".join(f"<p>{escape(line.removeprefix('- '))}</p>" for line in sentences if line)
    picture = f'<img src="data:image/png;base64,{png}">'
    display(HTML(f"<details><summary>What happens</summary>{picture}{text}</details>"))


def title(method: str) -> str:
    return METHODS[method].title if method in METHODS else str(method)


def counted(seeds: int) -> str:
    return "one seed" if seeds == 1 else f"{seeds} seeds"


def listed(names: list[str]) -> str:
    """Join names as a sentence does.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    *others, end = names
    return f"{', '.join(others)} and {end}" if others else end


COMPARED = ("ce_mix", "ce"), ("genscl_mix", "supcon"), ("genscl_mix", "ce_mix")
"""Pairs of rows that are compared at each value of a setting: what mixing changes for either loss, and both with it."""


# What the files hold


def read_varied(folder: str | Path, name: str) -> pd.DataFrame:
    """Read the runs in ``folder`` and those of ``--vary name=...``, in FOLDER_nameVALUE beside it.

    Sorted by the column ``name``. FileNotFoundError: there are none.
    """
    folder = files.as_path(folder)
    folders = [folder, *folder.parent.glob(f"{folder.name}_{name}[0-9]*")]
    runs = [read_summaries(path) for path in folders if run_files(path, "summary.json")]
    if not runs:
        raise FileNotFoundError(
            f"{folder}: no finished run there, and none beside it of another {name}"
        )
    return pd.concat(runs).sort_values(name, kind="stable", ignore_index=True)


def varied(folder: str | Path, name: str) -> pd.DataFrame:
    """Return the runs of a folder and of FOLDER_nameVALUE beside it, of rows that have several values."""
    try:
        runs = read_varied(folder, name)
    except (FileNotFoundError, KeyError):  # no runs, or none that know the parameter
        return pd.DataFrame()
    several = runs.groupby("method")[name].nunique() > 1
    return runs[runs.method.isin(several.index[several])]


def whole_cost(runs: pd.DataFrame) -> pd.DataFrame:
    """Return for each row its seconds of training, those of its teacher's row, and the two together.

    Seconds are those of ``by_processor``.
    """
    own = by_processor(runs).groupby("method", sort=False).seconds.mean()
    teachers = {method: teacher_of(method, set(own.index)) for method in own.index}
    costs = pd.DataFrame(
        {
            "own": own,
            "teacher": [
                own.get(teacher, np.nan) if teacher else 0.0 for teacher in teachers.values()
            ],
        },
        index=own.index,
    )
    return costs.assign(whole=costs.own + costs.teacher)


def by_method(runs: pd.DataFrame, value: str) -> pd.DataFrame:
    """Return mean, low, high (95 %, of t) and count of a column for each row that has it."""
    found = {
        method: t_interval(own.dropna())
        for method, own in runs.groupby("method", sort=False)[value]
        if own.notna().any()
    }
    return pd.DataFrame(found.values(), columns=Interval._fields, index=list(found))


# Sentences


def describe(runs: pd.DataFrame, wanted: tuple[str, ...] = ()) -> list[str]:
    """Say in a line each what is uneven about a table: seeds, single seeds, settings, missing rows."""
    lines, seeds = [], runs.groupby("method", sort=False).seed.nunique()
    if seeds.nunique() > 1:
        counts = listed([f"{title(m)} {n}" for m, n in seeds.items() if n != seeds.max()])
        lines.append(
            f"Seeds are uneven: most rows have {seeds.max()}, but {counts}. "
            "A difference is taken over the seeds that both rows have."
        )
    if (seeds == 1).any():
        rows = (
            "each row"
            if (seeds == 1).all()
            else listed([title(m) for m in seeds.index[seeds == 1]])
        )
        lines.append(f"One seed for {rows}: no interval can be given, so nothing is decided.")
    rows = with_read_out(runs[~runs.method.isin(TEACHERS)])
    if (rows.read_out == "sgd").any():
        lines.append(
            "Classifiers are read by their own head, latents by a probe that SGD trains and that may not have "
            "converged: part of a difference between the two kinds is the read-out's."
        )
    for name in (name for name in CONFIGURATION if name in rows and rows[name].nunique() > 1):
        values = rows.groupby(name).method.unique()
        lines.append(
            f"Rows differ in {name}: "
            + "; ".join(
                f"{value} for {listed(list(map(title, methods)))}"
                for value, methods in values.items()
            )
            + "."
        )
    missing = [title(method) for method in wanted if method not in seeds.index]
    if missing:
        lines.append(
            f"No runs of {listed(missing)}: claims about "
            f"{'it' if len(missing) == 1 else 'them'} stay untested."
        )
    return lines


def between(counts: pd.Series) -> str:
    return f"{counts.min()}" if counts.nunique() == 1 else f"{counts.min()} to {counts.max()}"


def difference_of(
    runs: pd.DataFrame, first: str, second: str, value: str = "accuracy_last"
) -> Interval | None:
    """Return the interval of first - second, seed by seed; None without a seed."""
    if value not in runs or not {first, second} <= set(runs.method):
        return None
    table = runs.pivot_table(index="seed", columns="method", values=value, aggfunc="mean")
    difference = table.get(first, pd.Series(dtype=float)) - table.get(
        second, pd.Series(dtype=float)
    )
    interval = t_interval(difference.dropna())
    return interval if interval.count else None


def where_it_lies(interval: Interval) -> str:
    """Say on which side of zero an interval lies: no verdict, for one of many intervals is not corrected."""
    if interval.count == 1:
        return "one seed alone"
    return f"{side_of_zero(interval) or 'around'} zero"


def along(
    runs: pd.DataFrame, name: str, first: str, second: str, value: str = "accuracy_last"
) -> str:
    """Say at which values of ``name`` the difference of two rows lies above zero, below or around it."""
    said: dict[str, list[str]] = {}
    for place, own in runs.groupby(name):
        if interval := difference_of(own, first, second, value):
            numbers = points(interval.mean)
            if interval.count > 1:
                numbers += f", {points(interval.low, interval.high)}"
            said.setdefault(where_it_lies(interval), []).append(f"{place:g} ({numbers})")
    parts = [f"{word} at {listed(places)}" for word, places in said.items()]
    return f"- {title(first)} minus {title(second)}: {'; '.join(parts)}." if parts else ""


def spread_line(runs: pd.DataFrame) -> str:
    """Say how far seeds of a row lie apart (standard deviation): the steadiest and the least steady row."""
    spread = runs.groupby("method").accuracy_last.std().dropna().sort_values() / POINT
    if len(spread) < 2:
        return ""
    return (
        f"From seed to seed, {title(spread.index[0])} varies least (standard deviation "
        f"{spread.iloc[0]:.1f} points), {title(spread.index[-1])} most ({spread.iloc[-1]:.1f} points)."
    )


def cost_lines(runs: pd.DataFrame) -> list[str]:
    """Say what rows with a teacher cost."""
    costs = whole_cost(runs)
    costs = costs[~costs.index.isin(TEACHERS) & costs.whole.notna()]
    return [
        f"- {title(method)}: {row.whole / costs.whole['ce']:.1f} times the seconds of {title('ce')}, of "
        f"which {100 * row.teacher / row.whole:.0f} % are its teacher's."
        for method, row in costs.iterrows()
        if row.teacher > 0 and "ce" in costs.index
    ]


OLD_FLOOR = (
    "The logs of these runs name the sum of two entropies, the labels' and the teacher's, as the floor, and no "
    "latents reach that: label and teacher together are one target, with a floor of its own."
)


def floor_line(gaps: pd.DataFrame) -> str:
    """Say as an item what the runs say of ``FLOOR_CLAIM``."""
    verdict, gap = floor_verdict(gaps)
    if verdict == "untested":
        return f"- **{FLOOR_CLAIM}**: untested, there are no runs."
    if not gap:
        return f"- **{FLOOR_CLAIM}**: {verdict}. {OLD_FLOOR}"
    seeds = gaps.set_index("method").seeds[FLOOR_ROW]
    return f"- **{FLOOR_CLAIM}**: {verdict}. It ends {gap}, {counted(seeds)}."


def floor_table(gaps: pd.DataFrame) -> str:
    """Render where each row's loss ends between chance and its floor, and whether that is down to the floor."""
    words = {"supported": "down to it", "contradicted": "above it", "undecided": "open"}
    rows = [
        [
            title(row.method),
            f"{row.gap:.2f}" + (f" ({row.low:.2f} to {row.high:.2f})" if row.seeds > 1 else ""),
            "" if pd.isna(row.share) else way_gone(row),
            str(row.seeds),
            words[row.verdict],
        ]
        for row in gaps[gaps.gap.notna()].itertuples()
    ]
    head = ["row", "nats above its floor", "of the way from chance", "seeds", "the loss ends"]
    old = [title(row.method) for row in gaps[gaps.gap.isna()].itertuples()]
    note = f"\n\n{listed(old)}: not comparable. {OLD_FLOOR}" if old else ""
    return markdown_table(head, rows) + note


def confusions(runs: pd.DataFrame, method: str) -> tuple[np.ndarray, list[str]] | None:
    """Return a row's confusions, (true, said) counts over all its runs that hold them, and names of classes."""
    own = runs[runs.method == method]
    own = own[own.confusion.notna()] if "confusion" in own else own[:0]
    if own.empty:
        return None
    return np.sum(own.confusion.tolist(), axis=0), list(own.by_class.iloc[0])


def confusion_line(row: str, counts: np.ndarray, names: list[str], most: int = 3) -> str:
    """Name the classes that a row takes for another most often, in percent of the images of each; "" for none."""
    shares = class_shares(counts)
    parts = [
        f"{names[true]} for {names[said]} ({100 * shares[true, said]:.0f} %)"
        for true, said in most_confused(shares, most)
    ]
    return f"- {row} takes most often {listed(parts)}." if parts else ""
