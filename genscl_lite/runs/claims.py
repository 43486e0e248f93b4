"""The ledger: what the paper claims, what it measured, and what runs of this kit say of it.

Three claims are primary: named before the runs of the second recipe (after those of the first), and corrected
among themselves alone. The others are exploratory, which is written beside them, and corrected among themselves.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from genscl_lite.runs.paths import PUBLISHED
from genscl_lite.runs.statistics import (
    Interval,
    PooledError,
    bootstrap_interval,
    decided,
    holm,
    is_equivalent,
    p_value,
    pooled_error,
    pooled_interval,
    pooled_p_value,
    signed,
    t_interval,
)
from genscl_lite.runs.tables import run_files

LEDGER_COLUMNS = (
    "claim",
    "kind",
    "better",
    "worse",
    "dataset",
    "arch",
    "labels_per_class",
    "epochs",
    "read_out",
    "published",
    "seeds",
    "difference",
    "low",
    "high",
    "pooled_low",
    "pooled_high",
    "image_low",
    "image_high",
    "p",
    "equivalent",
    "verdict",
)
CONFIGURATION = (
    "dataset",
    "arch",
    "epochs",
    "labels_per_class",
    "label_noise",
    "precision",
    "read_out",
)
POINT = 0.01
"""A percentage point of accuracy, which is a fraction."""
AS_GOOD = 0.5 * POINT
"""Rows that are nearer to each other are as good: about 2.5 % of the errors at an accuracy of 80 %.

Settled before the runs of the second recipe, whose ledger it decides.
"""


@dataclass(frozen=True)
class Claim:
    """Row ``better`` is more accurate than row ``worse``; with a ``margin``, at most so much less."""

    text: str
    better: str
    worse: str
    margin: float = 0.0
    primary: bool = False

    @property
    def kind(self) -> str:
        return "primary" if self.primary else "exploratory"


CLAIMS = (
    Claim("Mixing helps GenSCL", "genscl_mix", "supcon", primary=True),
    Claim(
        "Soft labels beat hard ones on the same blends", "genscl_mix", "supcon_mix", primary=True
    ),
    Claim(
        "GenSCL is as good as cross-entropy with the same mixing, or beats it",
        "genscl_mix",
        "ce_mix",
        margin=AS_GOOD,
        primary=True,
    ),
    Claim("SupCon beats cross-entropy", "supcon", "ce"),
    Claim("A teacher helps GenSCL", "genscl_kd", "supcon"),
    Claim("Both help more than mixing alone", "genscl_mix_kd", "genscl_mix"),
    Claim("Both help more than a teacher alone", "genscl_mix_kd", "genscl_kd"),
    Claim(
        "GenSCL beats cross-entropy with the same mixing and teacher", "genscl_mix_kd", "ce_mix_kd"
    ),
    Claim("An expert teacher helps GenSCL with mixing", "genscl_mix_kd_expert", "genscl_mix"),
    Claim(
        "GenSCL beats cross-entropy with the same mixing and expert teacher",
        "genscl_mix_kd_expert",
        "ce_mix_kd_expert",
    ),
    Claim(
        "Momentum and queue lose at most half a point",
        "genscl_mix_kd_queue",
        "genscl_mix_kd",
        margin=AS_GOOD,
    ),
    Claim("Momentum helps the queue", "genscl_mix_kd_queue", "genscl_mix_kd_queue_m0"),
)
POOLED_ROWS = list(
    dict.fromkeys(row for claim in CLAIMS if claim.primary for row in (claim.better, claim.worse))
)
"""Rows over which the error of the primary claims is pooled: those that they name."""


def read_predictions(folder: str | Path) -> pd.DataFrame:
    """Read all predictions.npz below a folder: a row a run, with arrays ``right`` and ``confidence``."""
    rows = []
    for method, seed, path in run_files(folder, "predictions.npz"):
        with np.load(path) as stored:
            right = stored["predicted"] == stored["labels"]
            rows.append((method, seed, right, stored["confidence_percent"] / 100))
    return pd.DataFrame(rows, columns=["method", "seed", "right", "confidence"])


def with_read_out(runs: pd.DataFrame) -> pd.DataFrame:
    """Say of each run how its features were read: "converged" or, also if it does not say so, "sgd".

    Runs of the first recipe do not say it. Their classifiers were read by their own head, latents by SGD.
    """
    known = runs.read_out if "read_out" in runs else pd.Series(None, runs.index, dtype=object)
    return runs.assign(read_out=known.fillna("sgd"))


def check_configurations(runs: pd.DataFrame) -> None:
    """Raise ValueError if seeds of a row differ in ``CONFIGURATION``, or rows in data set or read-out."""
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
    if "read_out" in runs and runs.read_out.nunique() > 1:
        rows = runs.groupby("read_out").method.unique()
        found = "; ".join(f"{name}: {', '.join(methods)}" for name, methods in rows.items())
        raise ValueError(f"rows that were read in two ways cannot be compared ({found})")


def make_ledger(runs: pd.DataFrame, predictions: pd.DataFrame | None = None) -> pd.DataFrame:
    """Hold each claim against the runs of one table: a row a claim, with ``LEDGER_COLUMNS``.

    Differences are accuracies of the same seed, as fractions. ``low`` and ``high`` are the 95 % interval of t;
    ``pooled_low`` and ``pooled_high``, of primary claims, that by the error of all rows that they name, where
    ``pooled_error`` allows it; ``image_low`` and ``image_high`` a bootstrap over seeds and test images.
    ``p`` is corrected by Holm within each kind of claim.

    A claim is supported or contradicted if its interval (the pooled one, where there is one) and p agree. It
    is "as good" if it is neither, has no margin, and both rows are as good within half a point. Wherever that
    or a margin is at stake, the test images must agree too. Else it is undecided; untested without a seed.

    Args:
        runs: of ``read_summaries``.
        predictions: of ``read_predictions``; without them no test images are drawn anew.

    Raises:
        ValueError: the runs are of two configurations, or were read in two ways.
    """
    runs = with_read_out(runs)
    check_configurations(runs)
    published = pd.read_csv(PUBLISHED)
    about = {name: _all_of(runs[name]) for name in ("dataset", "arch", "read_out")}
    accuracy = runs.pivot_table(index="seed", columns="method", values="accuracy_last")
    theirs = published[(published.dataset == about["dataset"]) & (published.arch == "resnet50")]
    theirs = theirs.set_index("method").published
    error = pooled_error(accuracy.reindex(columns=POOLED_ROWS).dropna().to_numpy())
    rows = []
    for claim in CLAIMS:
        pair = accuracy.reindex(columns=[claim.better, claim.worse]).dropna()
        both = runs[runs.method.isin([claim.better, claim.worse])]
        differences = (pair[claim.better] - pair[claim.worse]).to_numpy()
        rows.append(
            {
                "claim": claim.text,
                "kind": claim.kind,
                "better": claim.better,
                "worse": claim.worse,
                **about,
                **{
                    name: _all_of(both[name])
                    for name in ("labels_per_class", "epochs")
                    if name in both
                },
                "published": theirs.get(claim.better, np.nan) - theirs.get(claim.worse, np.nan),
                **_measured(claim, differences, error if claim.primary else None),
                **_of_images(claim, predictions),
            }
        )
    ledger = pd.DataFrame(rows)
    ledger["p"] = ledger.groupby("kind").p.transform(holm)
    ledger["equivalent"] &= ledger.pop("images_agree")
    ledger["verdict"] = [
        verdict(row, claim.margin) for row, claim in zip(ledger.itertuples(), CLAIMS, strict=True)
    ]
    return ledger.reindex(columns=LEDGER_COLUMNS)


def _all_of(values: pd.Series) -> str:
    """Write all values that there are, smallest first: "80", or "80, 160"."""
    return ", ".join(map(str, sorted(values.unique())))


def _measured(claim: Claim, differences: np.ndarray, error: PooledError | None) -> dict:
    """Return what seeds say: intervals, p before its correction, and whether both rows are as good."""
    own = t_interval(differences)
    found = {"seeds": own.count, "difference": own.mean, "low": own.low, "high": own.high}
    if error and own.count:
        pooled = pooled_interval(differences, error)
        p = pooled_p_value(differences + claim.margin, error)
        narrow = pooled_interval(differences, error, 0.9)
    else:
        pooled, p = Interval(np.nan, np.nan, np.nan, 0), p_value(differences + claim.margin)
        narrow = t_interval(differences, 0.9)
    bounds = {"pooled_low": pooled.low, "pooled_high": pooled.high}
    return found | bounds | {"p": p, "equivalent": is_equivalent(narrow, AS_GOOD)}


def _of_images(claim: Claim, predictions: pd.DataFrame | None) -> dict:
    """Return the interval over seeds and test images, and whether it, too, calls both rows as good."""
    none = {"image_low": np.nan, "image_high": np.nan, "images_agree": True}
    if predictions is None:
        return none
    right = {(row.method, row.seed): row.right for row in predictions.itertuples()}
    seeds = [seed for row, seed in right if row == claim.better and (claim.worse, seed) in right]
    if not seeds:
        return none
    pair = [np.array([right[row, seed] for seed in seeds]) for row in (claim.better, claim.worse)]
    _, low, high, _ = bootstrap_interval(*pair)
    agree = is_equivalent(bootstrap_interval(*pair, level=0.9), AS_GOOD)
    return {"image_low": low, "image_high": high, "images_agree": agree}


def verdict(row, margin: float = 0.0) -> str:
    """Return the word that a row's intervals and corrected p allow."""
    if not row.seeds:
        return "untested"
    side = decided(deciding_interval(row), row.p, margin)
    if side > 0 and margin and row.image_low <= -margin:  # other images might say otherwise
        return "undecided"
    if side:
        return "supported" if side > 0 else "contradicted"
    return "as good" if row.equivalent and not margin else "undecided"


def deciding_interval(row) -> Interval:
    """Return the interval that the verdict goes by: the pooled one if there is one."""
    bounds = (row.low, row.high) if pd.isna(row.pooled_low) else (row.pooled_low, row.pooled_high)
    return Interval(row.difference, *bounds, row.seeds)


def points(*fractions: float) -> str:
    """Write a fraction, or the two ends of an interval, in percentage points; "" for NaN.

    >>> points(0.012), points(-0.003, 0.017), points(0.0003, 0.007), points(float("nan"))
    ('+1.2', '-0.3 to +1.7', '+0.03 to +0.70', '')
    """
    if any(map(pd.isna, fractions)):
        return ""
    return " to ".join(signed(*(fraction / POINT for fraction in fractions)))


def conditions(row) -> str:
    """Say of what runs a verdict is."""
    labels = "" if pd.isna(row.labels_per_class) else f", {labels_said(row.labels_per_class)}"
    return f"{row.dataset}{labels}, {row.epochs} epochs, read-out {row.read_out}"


def labels_said(labels_per_class: int | str) -> str:
    """Say how many labels a run had: 0 stands for all.

    >>> labels_said(500), labels_said(0)
    ('500 labels a class', 'all labels')
    """
    return "all labels" if str(labels_per_class) == "0" else f"{labels_per_class} labels a class"


def claim_line(row) -> str:
    """Say in one line, as an item of a list, what the ledger's row says."""
    claim = f"- **{row.claim}** ({row.kind})"
    if row.verdict == "untested":
        return f"{claim}: untested, there are no runs."
    if pd.isna(row.low):
        return (
            f"{claim}: undecided. One seed says {points(row.difference)} points, "
            f"and a single seed has no interval ({conditions(row)})."
        )
    found = row.verdict
    if found == "as good":
        found = "not shown, but both rows are as good as each other, within half a point"
    pooled = points(row.pooled_low, row.pooled_high)
    return (
        f"{claim}: {found}. {points(row.difference)} points ({points(row.low, row.high)}"
        f"{pooled and f', pooled {pooled}'}; {row.seeds} seeds, {conditions(row)})."
    )


def verdict_lines(runs: pd.DataFrame, predictions: pd.DataFrame | None = None) -> list[str]:
    """Say of each claim that runs test what they say of it; [] if they test none."""
    ledger = make_ledger(runs, predictions=predictions)
    return [claim_line(row) for row in ledger[ledger.verdict != "untested"].itertuples()]
