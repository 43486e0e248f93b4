"""Numbers and sentences of lesson 10: what becomes of blends, over all seeds that say it."""

from pathlib import Path

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar

from genscl_lessons.report import between, by_method, difference_of, listed, title
from genscl_lite.datasets import files
from genscl_lite.runs.statistics import signed
from genscl_lite.runs.tables import read_summaries
from genscl_lite.train.blends import blend_measures
from genscl_lite.train.methods import METHODS

MEASURES = {
    "blend_kl": ("KL from the labels, nats", "nearer to the labels", "farther from them"),
    "blend_share_gap": ("distance of shares", "nearer to the labels", "farther from them"),
    "blend_correlation": (
        "correlation of entropies",
        "following the labels less",
        "following them more",
    ),
}
"""Of each number of a run on blends: its name, and the words for a difference below zero and above it."""


def temperature_of(method: str, config: dict) -> float | None:
    """Return the temperature of a row's latents; None for a classifier, whose outputs are logits."""
    return None if METHODS[method].classifies else config["temperature"]


def suited_temperature(
    arrays: dict[str, np.ndarray], temperature: float | None
) -> tuple[float, float]:
    """Return the temperature at which a run is nearest to the labels on blends, and its KL there in nats.

    It divides cosines of latents, or a classifier's logits (``temperature`` None).
    """

    def kl(log_t: float) -> float:
        return blend_measures(*tempered(arrays, temperature, float(np.exp(log_t))))["blend_kl"]

    found = minimize_scalar(kl, bounds=(np.log(0.01), np.log(10)), options={"xatol": 1e-3})
    return float(np.exp(found.x)), float(found.fun)


def tempered(
    arrays: dict[str, np.ndarray], temperature: float | None, new: float
) -> tuple[dict[str, np.ndarray], float | None]:
    """Return the two arguments of ``blend_similarity`` for a run at a new temperature.

    It divides cosines of latents, or a classifier's logits (``temperature`` None).
    """
    if temperature is None:
        return arrays | {"mixed_latents": arrays["mixed_latents"] / new}, None
    return arrays, new


def place_line(folder: str | Path, methods: list[str], seed: int) -> str:
    """Say which place a seed has among all seeds of some rows, by accuracy: "" if there is one seed alone."""
    runs = read_summaries(folder)
    places = []
    for method in methods:
        own = runs[runs.method == method].set_index("seed").accuracy_last
        if len(own) > 1 and seed in own.index:
            place = 1 + int((own > own[seed]).sum())
            places.append(f"{title(method)} {place} of {len(own)}")
    return f"By accuracy, the place of this seed among all: {'; '.join(places)}." if places else ""


def read_blends(folder: str | Path) -> pd.DataFrame:
    """Return method, seed and ``MEASURES`` of all runs below a folder that say them.

    Runs that were made before summaries said them are measured here, where their embeddings are kept.
    """
    folder, rows = files.as_path(folder), []
    for run in read_summaries(folder).to_dict("records"):
        own = folder / run["method"] / f"seed{run['seed']}"
        measures = {name: run.get(name, np.nan) for name in MEASURES}
        if all(pd.isna(value) for value in measures.values()) and (own / "embeddings.npz").exists():
            temperature = temperature_of(run["method"], files.read_json(own / "config.json"))
            with np.load(own / "embeddings.npz") as arrays:
                measures = blend_measures(dict(arrays), temperature)
        rows.append({"method": run["method"], "seed": run["seed"]} | measures)
    frame = pd.DataFrame(rows).astype(dict.fromkeys(MEASURES, float))
    return frame[frame.blend_kl.notna()].reset_index(drop=True)


def blend_lines(blends: pd.DataFrame, measure: str, general: str, others: list[str]) -> list[str]:
    """Say how far a row's number lies from those of others, seed by seed, in the interval's words."""
    lines = []
    for other in others:
        if interval := difference_of(blends, general, other, measure):
            _, below, above = MEASURES[measure]
            side = (
                "one seed, which decides nothing"
                if interval.count == 1
                else below
                if interval.high < 0
                else above
                if interval.low > 0
                else "not shown to differ"
            )
            mean, low, high = signed(*interval[:3], digits=2)
            bounds = f" ({low} to {high})" * (interval.count > 1)
            lines.append(f"- {title(general)} minus {title(other)}: {mean}{bounds}: {side}.")
    return lines


def seeds_line(blends: pd.DataFrame) -> str:
    """Say of how many seeds the numbers are."""
    seeds = blends.groupby("method").seed.nunique()
    if seeds.max() == 1:
        return "These runs say it for one seed a row: a difference of two rows may be luck."
    return f"Means over {between(seeds)} seeds a row, with 95 % intervals of the mean."


def ends_line(values: dict[str, float], what: str, digits: int = 2) -> str:
    """Name the row with the lowest and the row with the highest of some values of single runs."""
    low, high = min(values, key=values.get), max(values, key=values.get)
    return (
        f"The lowest {what} is that of {title(low)} ({values[low]:.{digits}f}), the highest that of "
        f"{title(high)} ({values[high]:.{digits}f})."
    )


def fading_line(before: dict[str, float], after: dict[str, float]) -> str:
    """Say which traits a linear model reads less well behind the head, by a fifth or more, and which not."""
    fade = [name for name in before if after[name] < 0.8 * before[name]]
    stay = [name for name in before if name not in fade]

    def said(names: list[str]) -> str:
        return listed(
            [f"{name} ({before[name]:.2f} before, {after[name]:.2f} after)" for name in names]
        )

    parts = (
        ["Behind the head " + said(fade) + (" fade" if len(fade) > 1 else " fades")] if fade else []
    )
    parts += [said(stay) + (" stay" if len(stay) > 1 else " stays")] if stay else []
    return "; ".join(parts) + "."


def mean_lines(blends: pd.DataFrame, measure: str, methods: list[str]) -> list[str]:
    """Say the mean of a number for some rows, with its interval."""
    lines, means = [], by_method(blends, measure)
    for method in methods:
        if method in means.index:
            row = means.loc[method]
            bounds = "one seed" if np.isnan(row.low) else f"{row.low:.2f} to {row.high:.2f}"
            lines.append(f"- {title(method)}: {row['mean']:.2f} ({bounds})")
    return lines
