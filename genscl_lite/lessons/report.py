"""A report on finished runs: what their files hold, and sentences that take their words from the numbers.

No sentence of notebooks 08 and 09 says by itself which row is better. It is written here, from a verdict of the
ledger or from an interval, so it changes when the runs do.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from IPython.display import Markdown, display

from genscl_lite.datasets import files
from genscl_lite.runs.claims import CONFIGURATION, POINT
from genscl_lite.runs.statistics import Interval, bootstrap_interval, is_equivalent, t_interval
from genscl_lite.train.methods import METHODS, TEACHERS, teacher_of

NATS_AT_FLOOR = 0.1
"""A loss this close to its floor has come down to it: shares asked for and given differ by about a tenth."""


def say(*sentences: str) -> None:
    """Show sentences as text of the notebook; empty ones are left out."""
    display(Markdown("\n".join(sentence for sentence in sentences if sentence)))


def title(method: str) -> str:
    return METHODS[method].title if method in METHODS else str(method)


def listed(names: list[str], last: str = "and") -> str:
    """Join names as a sentence does.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    *others, end = names
    return f"{', '.join(others)} {last} {end}" if others else end


# What the files hold

def read_logs(folder: str | Path) -> pd.DataFrame:
    """Read METHOD/seedN/log.csv below a folder into one frame, with ``method``, ``seed`` and ``measured``.

    ``measured`` is the accuracy on the test images on the way: a classifier's own, else that of neighbours.
    """
    logs = []
    for path in sorted(files.as_path(folder).glob("*/seed*/log.csv")):
        if path.parts[-3] in METHODS:
            log = pd.read_csv(path)
            log["measured"] = log.accuracy.astype(float).fillna(log.knn_accuracy.astype(float))
            logs.append(log.assign(method=path.parts[-3], seed=int(path.parts[-2].removeprefix("seed"))))
    return pd.concat(logs, ignore_index=True) if logs else pd.DataFrame(columns=["method", "seed", "epoch"])


def read_predictions(folder: str | Path) -> pd.DataFrame:
    """Read all predictions.npz below a folder: a row a run, with arrays ``right`` and ``confidence``."""
    rows = []
    for path in sorted(files.as_path(folder).glob("*/seed*/predictions.npz")):
        with np.load(path) as said:
            rows.append({"method": path.parts[-3], "seed": int(path.parts[-2].removeprefix("seed")),
                         "right": said["predicted"] == said["labels"],
                         "confidence": said["confidence_percent"] / 100})
    return pd.DataFrame(rows, columns=["method", "seed", "right", "confidence"])


def read_if_there(read, *arguments) -> pd.DataFrame:
    """Return what a reader of runs returns, or an empty frame where there are none."""
    try:
        return read(*arguments)
    except FileNotFoundError:
        return pd.DataFrame()


def varied(runs: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the runs of those rows that were trained with more than one value of ``name``."""
    if name not in runs:
        return pd.DataFrame()
    several = runs.groupby("method")[name].nunique() > 1
    return runs[runs.method.isin(several.index[several])]


def whole_cost(runs: pd.DataFrame) -> pd.DataFrame:
    """Return for each row its seconds of training, those of its teacher's row, and the two together."""
    own = runs.groupby("method", sort=False).seconds.mean()
    teachers = {method: teacher_of(method, set(own.index)) for method in own.index}
    costs = pd.DataFrame({"own": own, "teacher": [own.get(teacher, np.nan) if teacher else 0.0
                                                  for teacher in teachers.values()]}, index=own.index)
    return costs.assign(whole=costs.own + costs.teacher)


def by_method(runs: pd.DataFrame, value: str) -> pd.DataFrame:
    """Return mean, low, high (95 %, of t) and count of a column for each row that has it."""
    found = {method: t_interval(own.dropna()) for method, own in runs.groupby("method", sort=False)[value]
             if own.notna().any()}
    return pd.DataFrame(found.values(), columns=Interval._fields, index=list(found))


def add_bootstrap(ledger: pd.DataFrame, predictions: pd.DataFrame, resamples: int = 1000) -> pd.DataFrame:
    """Add ``image_low`` and ``image_high``: each difference's interval over seeds and test images alike.

    It is NaN where no seed of both rows has predictions.
    """
    right = {(row.method, row.seed): row.right for row in predictions.itertuples()}
    bounds = []
    for row in ledger.itertuples():
        seeds = [seed for method, seed in right if method == row.better and (row.worse, seed) in right]
        pair = [np.array([right[method, seed] for seed in seeds]) for method in (row.better, row.worse)]
        bounds.append(bootstrap_interval(*pair, resamples=resamples)[1:3] if seeds else (np.nan, np.nan))
    lows, highs = zip(*bounds, strict=True)
    return ledger.assign(image_low=lows, image_high=highs)


def floor_gaps(logs: pd.DataFrame) -> pd.DataFrame:
    """Say for each row with a similarity loss whether the loss comes down to its floor, the label entropy.

    A row a method: ``floor`` and ``gap`` (nats, in the last epoch) with the gap's 95 % interval over seeds,
    ``first_gap`` (at the first measured epoch), ``seeds`` and a verdict: supported where the gap is below
    ``NATS_AT_FLOOR``, contradicted where it is above.
    """
    rows = []
    for method, own in logs.groupby("method", sort=False):
        if METHODS[method].head != "projection":
            continue
        last = own.loc[own.groupby("seed").epoch.idxmax()]
        gap = t_interval(last.kl)
        verdict = ("undecided" if np.isnan(gap.low) or gap.low <= NATS_AT_FLOOR <= gap.high
                   else "supported" if gap.high < NATS_AT_FLOOR else "contradicted")
        rows.append({"method": method, "floor": last.label_entropy.mean(), "gap": gap.mean, "low": gap.low,
                     "high": gap.high, "seeds": gap.count, "verdict": verdict})
    columns = ["method", "floor", "gap", "low", "high", "seeds", "verdict"]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.sort_values("method", key=lambda m: m.map(list(METHODS).index), ignore_index=True)


# Sentences

def describe(runs: pd.DataFrame, wanted: tuple[str, ...] = ()) -> list[str]:
    """Say in a line each what is uneven about a table of runs: seeds, single seeds, settings, missing rows."""
    lines, seeds = [], runs.groupby("method", sort=False).seed.nunique()
    if seeds.nunique() > 1:
        counts = listed([f"{title(m)} {n}" for m, n in seeds.items() if n != seeds.max()])
        lines.append(f"Seeds are uneven: most rows have {seeds.max()}, but {counts}. "
                     "A difference is taken over the seeds that both rows have.")
    if (seeds == 1).any():
        rows = "each row" if (seeds == 1).all() else listed([title(m) for m in seeds.index[seeds == 1]])
        lines.append(f"One seed for {rows}: no interval can be given, so nothing is decided.")
    rows = runs[~runs.method.isin(TEACHERS)]
    for name in (name for name in CONFIGURATION if name in runs and rows[name].nunique() > 1):
        values = rows.groupby(name).method.unique()
        lines.append(f"Rows differ in {name}: " + "; ".join(
            f"{value} for {listed(list(map(title, methods)))}" for value, methods in values.items()) + ".")
    missing = [title(method) for method in wanted if method not in seeds.index]
    if missing:
        lines.append(f"No runs of {listed(missing)}: claims about "
                     f"{'it' if len(missing) == 1 else 'them'} stay untested.")
    return lines


def points(low: float, high: float) -> str:
    return f"{low / POINT:+.1f} to {high / POINT:+.1f}"


def claim_line(row) -> str:
    """Say in one line, as an item of a list, what the ledger's row says."""
    if row.verdict == "untested":
        return f"- **{row.claim}**: untested, there are no runs."
    if pd.isna(row.low):
        return (f"- **{row.claim}**: undecided. One seed says {row.difference / POINT:+.1f} points, "
                "and a single seed has no interval.")
    reading = {
        "supported": "supported", "contradicted": "contradicted",
        "as good": "not shown, but both rows are as good as each other, within half a point",
        "undecided": "undecided",
    }[row.verdict]
    return (f"- **{row.claim}**: {reading}. {row.difference / POINT:+.1f} points "
            f"({points(row.low, row.high)}, {row.seeds} seeds).")


def claim_lines(ledger: pd.DataFrame) -> list[str]:
    return [claim_line(row) for row in ledger.itertuples()]


def tally(ledger: pd.DataFrame) -> str:
    """Say how many claims have which verdict."""
    counts = ledger.verdict.value_counts(sort=False)
    words = [f"{count} {verdict}" for verdict, count in counts.items()]
    return f"Of {len(ledger)} claims, on {ledger.dataset.iloc[0]}: {listed(words)}."


def compare(
    runs: pd.DataFrame, first: str, second: str, value: str = "accuracy_last",
    words: tuple[str, str] = ("more accurate", "less accurate"), unit: float = POINT, unit_name: str = "points",
    digits: int = 1,
) -> str:
    """Say how two rows differ in a column, seed by seed, in the words that the 95 % interval allows.

    ``words`` are of a higher and of a lower value. Only accuracies have "as good", within half a point. Returns
    "" where a row is missing or has no such number.
    """
    if value not in runs or not {first, second} <= set(runs.method):
        return ""
    table = runs.pivot_table(index="seed", columns="method", values=value, aggfunc="mean")
    if not {first, second} <= set(table):
        return ""
    difference = (table[first] - table[second]).dropna() / unit
    interval, names = t_interval(difference), (title(first), title(second))
    if not interval.count:
        return ""
    mean = f"{interval.mean:+.{digits}f} {unit_name}"
    if interval.count == 1:
        return f"{names[0]} against {names[1]}: {mean} in a single seed, which decides nothing."
    bounds = f"{mean}, interval {interval.low:+.{digits}f} to {interval.high:+.{digits}f}"
    if interval.low > 0 or interval.high < 0:
        word = words[0] if interval.low > 0 else words[1]
        return f"{names[0]} is {word} than {names[1]} ({bounds})."
    if value.startswith("accuracy") and is_equivalent(difference * unit):
        return f"{names[0]} is as good as {names[1]}, within half a point ({bounds})."
    return f"{names[0]} and {names[1]} are not shown to differ ({bounds})."


def order(runs: pd.DataFrame, value: str, unit: float = POINT, least: bool = False, digits: int = 1) -> str:
    """Name the rows with the highest (or least) and the other extreme mean of a column, with their intervals."""
    if value not in runs or not runs[value].notna().any():
        return ""
    means = by_method(runs, value).sort_values("mean", ascending=least)
    best, worst = means.iloc[0], means.iloc[-1]
    return (f"{title(means.index[0])} has the {'least' if least else 'highest'} mean, "
            f"{_with_interval(best, unit, digits)}; {title(means.index[-1])} the "
            f"{'highest' if least else 'least'}, {_with_interval(worst, unit, digits)}.")


def _with_interval(row, unit: float = POINT, digits: int = 1) -> str:
    mean = f"{row['mean'] / unit:.{digits}f}"
    if pd.isna(row.low):
        return f"{mean} (one seed)"
    return f"{mean} ({row.low / unit:.{digits}f} to {row.high / unit:.{digits}f})"
