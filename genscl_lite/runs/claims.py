"""The ledger: what the paper claims, what it measured, and what runs of this kit say of it."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from genscl_lite.runs.paths import PUBLISHED
from genscl_lite.runs.statistics import decided, holm, is_equivalent, p_value, t_interval

LEDGER_COLUMNS = (
    "claim",
    "better",
    "worse",
    "dataset",
    "arch",
    "epochs",
    "published",
    "seeds",
    "difference",
    "low",
    "high",
    "p",
    "equivalent",
    "verdict",
)
VERDICTS = ("supported", "contradicted", "as good", "undecided", "untested")
CONFIGURATION = ("dataset", "arch", "epochs", "labels_per_class", "label_noise", "precision")
POINT = 0.01
"""A percentage point of accuracy, which is a fraction."""


@dataclass(frozen=True)
class Claim:
    """Row ``better`` is more accurate than row ``worse``; with a ``margin``, at most so much less."""

    text: str
    better: str
    worse: str
    margin: float = 0.0


CLAIMS = (
    Claim("SupCon beats cross-entropy", "supcon", "ce"),
    Claim("Mixing helps GenSCL", "genscl_mix", "supcon"),
    Claim("A teacher helps GenSCL", "genscl_kd", "supcon"),
    Claim("Both help more than mixing alone", "genscl_mix_kd", "genscl_mix"),
    Claim("Both help more than a teacher alone", "genscl_mix_kd", "genscl_kd"),
    Claim("GenSCL beats cross-entropy with the same mixing", "genscl_mix", "ce_mix"),
    Claim(
        "GenSCL beats cross-entropy with the same mixing and teacher", "genscl_mix_kd", "ce_mix_kd"
    ),
    Claim("Soft labels beat hard ones on the same blends", "genscl_mix", "supcon_mix"),
    Claim("An expert teacher helps GenSCL with mixing", "genscl_mix_kd_expert", "genscl_mix"),
    Claim(
        "Momentum and queue lose at most half a point",
        "genscl_mix_kd_queue",
        "genscl_mix_kd",
        margin=0.5 * POINT,
    ),
    Claim("Momentum helps the queue", "genscl_mix_kd_queue", "genscl_mix_kd_queue_m0"),
)


def check_configurations(runs: pd.DataFrame) -> None:
    """Raise ValueError if seeds of one row, or the rows' data sets, differ: a mean of both says nothing."""
    for name in (name for name in CONFIGURATION if name in runs):
        for method, values in runs.groupby("method")[name].unique().items():
            if len(values) > 1:
                found = " and ".join(map(str, values))
                raise ValueError(
                    f"runs of two configurations in one folder: {method} has {name} {found}"
                )
    if runs.dataset.nunique() > 1:
        raise ValueError(
            f"runs of several data sets in one folder: {', '.join(runs.dataset.unique())}"
        )


def make_ledger(runs: pd.DataFrame, published: pd.DataFrame | None = None) -> pd.DataFrame:
    """Hold each claim against the runs of one table (of ``read_summaries``): a row a claim.

    Differences are accuracies of the same seed, fractions; ``published`` is the paper's with ResNet-50, where
    it gives both rows. The interval is that of t at 95 %; ``p`` is corrected by Holm for all claims tested.
    ``equivalent``: both rows are as good within half a point, by a test of its own that is not corrected.
    ``verdict``: supported or contradicted if interval and p agree, else as good if equivalent,
    else undecided; untested if no seed has both rows.

    Raises:
        ValueError: the runs are of two configurations.
    """
    check_configurations(runs)
    published = pd.read_csv(PUBLISHED) if published is None else published
    about = {name: ", ".join(map(str, runs[name].unique())) for name in ("dataset", "arch")}
    accuracy = runs.pivot_table(index="seed", columns="method", values="accuracy_last")
    theirs = published[(published.dataset == about["dataset"]) & (published.arch == "resnet50")]
    theirs = theirs.set_index("method").published
    rows, tested = [], []
    for claim in CLAIMS:
        pair = accuracy.reindex(columns=[claim.better, claim.worse]).dropna()
        differences = pair[claim.better] - pair[claim.worse]
        interval = t_interval(differences)
        tested.append(p_value(differences + claim.margin))
        rows.append(
            {
                "claim": claim.text,
                "better": claim.better,
                "worse": claim.worse,
                **about,
                "epochs": runs[runs.method.isin([claim.better, claim.worse])].epochs.max(),
                "published": theirs.get(claim.better, np.nan) - theirs.get(claim.worse, np.nan),
                "seeds": interval.count,
                "difference": interval.mean,
                "low": interval.low,
                "high": interval.high,
                "equivalent": is_equivalent(differences, 0.5 * POINT),
            }
        )
    ledger = pd.DataFrame(rows).assign(p=holm(tested))
    ledger["verdict"] = [
        verdict(row, claim.margin) for row, claim in zip(ledger.itertuples(), CLAIMS, strict=True)
    ]
    return ledger[list(LEDGER_COLUMNS)]


def verdict(row, margin: float = 0.0) -> str:
    """Return the word that a row's interval and corrected p allow."""
    if not row.seeds:
        return "untested"
    side = decided(row, row.p, margin)
    if side:
        return "supported" if side > 0 else "contradicted"
    return "as good" if row.equivalent else "undecided"


def points(low: float, high: float) -> str:
    """Write an interval of fractions in percentage points."""
    return f"{low / POINT:+.1f} to {high / POINT:+.1f}"


def claim_line(row) -> str:
    """Say in one line, as an item of a list, what the ledger's row says."""
    if row.verdict == "untested":
        return f"- **{row.claim}**: untested, there are no runs."
    if pd.isna(row.low):
        return (
            f"- **{row.claim}**: undecided. One seed says {row.difference / POINT:+.1f} points, "
            "and a single seed has no interval."
        )
    as_good = "not shown, but both rows are as good as each other, within half a point"
    return (
        f"- **{row.claim}**: {as_good if row.verdict == 'as good' else row.verdict}. "
        f"{row.difference / POINT:+.1f} points ({points(row.low, row.high)}, {row.seeds} seeds)."
    )


def verdict_lines(runs: pd.DataFrame) -> list[str]:
    """Say of each claim that runs test what they say of it; [] if they test none."""
    ledger = make_ledger(runs)
    return [claim_line(row) for row in ledger[ledger.verdict != "untested"].itertuples()]


def render_ledger(ledger: pd.DataFrame) -> str:
    """Render the ledger as Markdown, differences in percentage points."""
    images = "image_low" in ledger
    header = (
        "| claim | paper | here, 95 % interval |"
        + " with test images |" * images
        + " seeds | verdict |"
    )
    lines = [header, "|---" * (5 + images) + "|"]

    def bounds(low: float, high: float) -> str:
        return "" if pd.isna(low) else points(low, high)

    for row in ledger.itertuples():
        paper = "" if pd.isna(row.published) else f"{row.published / POINT:+.1f}"
        here = "" if pd.isna(row.difference) else f"{row.difference / POINT:+.1f}"
        here += f" ({bounds(row.low, row.high)})" * (not pd.isna(row.low))
        drawn = f" {bounds(row.image_low, row.image_high)} |" if images else ""
        lines.append(
            f"| {row.claim} | {paper} | {here} |{drawn} {row.seeds or ''} | {row.verdict} |"
        )
    return "\n".join(lines)
