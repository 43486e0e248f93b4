"""What notebooks say of differences over seeds: sentences made from numbers, so that they follow the runs."""

from collections.abc import Sequence

import pandas as pd

from genscl_lite.runs.claims import conditions, points
from genscl_lite.runs.statistics import Interval, signed, t_interval
from genscl_lite.runs.tables import markdown_table

__all__ = ["difference", "render_ledger"]

MINUS = "−"


def difference(values: Sequence[float], unit: str = " points", digits: int = 1) -> str:
    """Return the mean of paired differences, one for each seed, its 95 % interval, and what that decides.

    >>> difference([1, 2, 3])
    '+2.0 points (95 % interval −0.5 to +4.5, 3 seeds), not distinguishable from 0'
    >>> difference([-0.31, -0.33], unit="", digits=2)
    '−0.32 (95 % interval −0.45 to −0.19, 2 seeds), below 0'
    >>> difference([-0.04, -0.05, -0.03])
    '−0.04 points (95 % interval −0.06 to −0.02, 3 seeds), below 0'
    """
    interval = t_interval(values)
    side = side_of_zero(interval)
    decided = f"{side} 0" if side else "not distinguishable from 0"
    return f"{_with_interval(interval, unit, digits)}, {decided}"


def side_of_zero(interval: Interval) -> str:
    """Return "above" or "below" if an interval leaves out zero; else, and for one seed, ""."""
    return "above" if interval.low > 0 else "below" if interval.high < 0 else ""


def render_ledger(ledger: pd.DataFrame) -> str:
    """Render the ledger as Markdown, differences in percentage points; columns that nothing is in are left out."""
    optional = {"pooled": "pooled error", "image": "with test images"}
    shown = {name: title for name, title in optional.items() if ledger[f"{name}_low"].notna().any()}
    rows = []
    for row in ledger.itertuples():
        interval = points(row.low, row.high)
        others = {
            "pooled": points(row.pooled_low, row.pooled_high),
            "image": points(row.image_low, row.image_high),
        }
        rows.append(
            [
                row.claim,
                row.kind,
                points(row.published),
                points(row.difference) + (interval and f" ({interval})"),
                *(others[name] for name in shown),
                str(row.seeds or ""),
                row.verdict,
            ]
        )
    header = ["claim", "kind", "paper", "here, 95 % interval", *shown.values(), "seeds", "verdict"]
    tested = ledger[ledger.seeds > 0]
    of = " and ".join(dict.fromkeys(map(conditions, tested.itertuples())))
    return markdown_table(header, rows) + (of and f"\n\nOf {of}.")


def _with_interval(interval: Interval, unit: str = " points", digits: int = 1) -> str:
    mean, low, high = (word.replace("-", MINUS) for word in signed(*interval[:3], digits=digits))
    if interval.count < 2:
        return f"{mean}{unit} (one seed, no interval)"
    return f"{mean}{unit} (95 % interval {low} to {high}, {interval.count} seeds)"
