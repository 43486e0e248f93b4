"""The claim that is no difference of accuracies: does the loss come down to its floor, the label entropy?"""

from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd

from genscl_lite.runs.statistics import t_interval
from genscl_lite.runs.tables import run_files
from genscl_lite.train.methods import METHODS

NATS_AT_FLOOR = 0.1
"""A loss this close to its floor has come down to it: shares asked for and given differ by about a tenth."""
FLOOR_CLAIM = "The loss of GenSCL with both comes down to its floor"
FLOOR_ROW = "genscl_mix_kd"
GAP_COLUMNS = (
    "method",
    "floor",
    "gap",
    "low",
    "high",
    "share",
    "share_low",
    "share_high",
    "seeds",
    "verdict",
)


def read_logs(folder: str | Path, methods: Collection[str] = METHODS) -> pd.DataFrame:
    """Read METHOD/seedN/log.csv of some methods into one frame, with ``method``, ``seed`` and ``measured``.

    ``measured`` is the accuracy on the test images on the way: a classifier's own, else that of neighbors.
    """
    logs = []
    for method, seed, path in run_files(folder, "log.csv"):
        if method in methods:
            log = pd.read_csv(path)
            measured = log.accuracy.astype(float).fillna(log.knn_accuracy.astype(float))
            logs.append(log.assign(measured=measured, method=method, seed=seed))
    none = pd.DataFrame(columns=["method", "seed", "measured"])
    return pd.concat(logs, ignore_index=True) if logs else none


def floor_gaps(logs: pd.DataFrame) -> pd.DataFrame:
    """Say for each row with a similarity loss how far above its floor the loss ends.

    A row a method, with ``GAP_COLUMNS``: ``floor`` and ``gap`` in the last epoch, in nats, the gap's 95 %
    interval of t over seeds, and a verdict: supported where the interval is below ``NATS_AT_FLOOR``,
    contradicted where it is above, undecided elsewhere and with one seed. ``share``, with its interval, is
    how much of the way from chance to the floor was gone: (chance - loss) / (chance - floor).

    Older logs have no ``chance``, and no share. Those of rows with a teacher name the sum of two entropies as
    the floor, which no latents reach: such a row has no numbers, and its verdict is "not comparable".
    """
    rows = []
    for method, own in logs.groupby("method", sort=False):
        if METHODS[method].classifies:
            continue
        last = own.loc[own.groupby("seed").epoch.idxmax()]
        chance = last.get("chance", pd.Series(np.nan, last.index))
        if METHODS[method].distils and chance.isna().any():
            rows.append((method, *[np.nan] * 7, len(last), "not comparable"))
            continue
        gap = t_interval(last.kl)
        share = t_interval(1 - last.kl / (chance - last.label_entropy))
        verdict = (
            "undecided"
            if np.isnan(gap.low) or gap.low <= NATS_AT_FLOOR <= gap.high
            else "supported"
            if gap.high < NATS_AT_FLOOR
            else "contradicted"
        )
        rows.append((method, last.label_entropy.mean(), *gap[:3], *share[:3], gap.count, verdict))
    return pd.DataFrame(rows, columns=list(GAP_COLUMNS))


def floor_verdict(gaps: pd.DataFrame) -> tuple[str, str]:
    """Return the verdict on ``FLOOR_CLAIM``, of ``FLOOR_ROW``, and where its loss ends; "" where none is known."""
    found = gaps[gaps.method == FLOOR_ROW]
    if found.empty:
        return "untested", ""
    [row] = found.itertuples()
    if np.isnan(row.gap):
        return row.verdict, ""
    bounds = f" ({row.low:.2f} to {row.high:.2f})" if row.seeds > 1 else ""
    way = "" if np.isnan(row.share) else f", {way_gone(row)} of the way from chance"
    return row.verdict, f"{row.gap:.2f} nats above it{bounds}{way}"


def way_gone(row) -> str:
    """Say how far from chance to its floor a row's loss came.

    >>> way_gone(pd.Series({"share": 0.871, "share_low": 0.86, "share_high": 0.88, "seeds": 3}))
    '87 % (86 to 88)'
    """
    bounds = f" ({100 * row.share_low:.0f} to {100 * row.share_high:.0f})" if row.seeds > 1 else ""
    return f"{100 * row.share:.0f} %{bounds}"
