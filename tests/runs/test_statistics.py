import numpy as np
import pandas as pd
import pytest
from scipy import stats

from genscl_lite.runs.claims import CLAIMS, make_ledger, render_ledger
from genscl_lite.runs.statistics import bootstrap_interval, holm, is_equivalent, p_value, t_interval

DIFFERENCES = [0.021, 0.008, 0.013, -0.002, 0.017]


@pytest.mark.parametrize("level", [0.9, 0.95])
def test_intervals_and_p_are_scipys(level):
    expected = stats.ttest_1samp(DIFFERENCES, 0)
    bounds = expected.confidence_interval(level)
    assert t_interval(DIFFERENCES, level) == pytest.approx(
        (np.mean(DIFFERENCES), bounds.low, bounds.high, 5)
    )
    assert p_value(DIFFERENCES) == pytest.approx(expected.pvalue)
    assert t_interval(DIFFERENCES).low > 0 > t_interval(DIFFERENCES[:3] + [-0.02]).low


def test_one_seed_has_no_interval_and_no_p():
    interval = t_interval([0.02])
    assert interval.mean == 0.02 and np.isnan([interval.low, interval.high, p_value([0.02])]).all()
    assert p_value([0.0, 0.0]) == 1 and p_value([0.01, 0.01]) == 0


def test_holm_by_its_definition():
    p = [0.03, np.nan, 0.001, 0.02, 0.5]
    expected, so_far = {}, 0.0
    for rank, (value, place) in enumerate(sorted((v, i) for i, v in enumerate(p) if v == v)):
        so_far = max(so_far, min(1, value * (4 - rank)))
        expected[place] = so_far
    corrected = holm(p)
    assert np.isnan(corrected[1]) and all(
        corrected[i] == pytest.approx(v) for i, v in expected.items()
    )
    assert holm([]).size == 0


def test_equivalence_is_two_one_sided_tests():
    for shift, margin in ((0.0, 0.005), (0.004, 0.005), (0.0, 0.001)):
        values = shift + np.array([-0.001, 0.001, 0.0005, -0.0005, 0.0])
        below = stats.ttest_1samp(values, -margin, alternative="greater").pvalue
        above = stats.ttest_1samp(values, margin, alternative="less").pvalue
        assert is_equivalent(values, margin) == (max(below, above) < 0.05)
    assert not is_equivalent([0.0])


def test_the_bootstrap_covers_images_as_the_normal_approximation_says():
    rng = np.random.default_rng(0)
    right, others = rng.random((1, 4000)) < 0.8, rng.random((1, 4000)) < 0.75
    interval = bootstrap_interval(right, others)
    difference = right.astype(float) - others
    half = 1.96 * difference.std() / 4000**0.5
    assert interval.mean == pytest.approx(difference.mean(), abs=1e-6)
    assert (interval.mean - interval.low, interval.high - interval.mean) == pytest.approx(
        (half, half), rel=0.1
    )
    seeds = np.stack([right[0], others[0]])  # seeds that disagree widen it
    wide = bootstrap_interval(seeds, others.repeat(2, 0))
    assert wide.high - wide.low > 1.5 * (interval.high - interval.low)


def runs_of(**accuracies):
    rows = [{"method": method, "seed": seed, "accuracy_last": accuracy, "dataset": "cifar10", "arch": "small",
             "epochs": 80} for method, values in accuracies.items() for seed, accuracy in enumerate(values)]  # fmt: skip
    return pd.DataFrame(rows)


def test_verdicts_follow_from_intervals():
    noise = np.array([0.001, -0.001, 0.002, -0.002, 0.0])
    runs = runs_of(ce=0.70 + noise, supcon=0.72 + noise[::-1], genscl_mix=0.60 + 0 * noise, ce_mix=0.6 + 40 * noise,
                   genscl_mix_kd=0.8 + noise, genscl_mix_kd_queue=0.798 + noise / 2, genscl_kd=[0.9])  # fmt: skip
    ledger = make_ledger(runs).set_index("claim")
    assert len(ledger) == len(CLAIMS)
    verdicts = ledger.verdict
    assert verdicts["SupCon beats cross-entropy"] == "supported"
    assert verdicts["Mixing helps GenSCL"] == "contradicted"
    assert verdicts["GenSCL beats cross-entropy with the same mixing"] == "undecided"
    assert (
        verdicts["A teacher helps GenSCL"] == "undecided"
        and ledger.seeds["A teacher helps GenSCL"] == 1
    )
    assert verdicts["Soft labels beat hard ones on the same blends"] == "untested"
    assert verdicts["Momentum and queue lose at most half a point"] == "supported"
    row = ledger.loc["SupCon beats cross-entropy"]
    assert row.published == pytest.approx(0.96 - 0.949) and row.difference == pytest.approx(0.02)
    text = render_ledger(ledger.reset_index())
    assert "| SupCon beats cross-entropy | +1.1 | +2.0 (" in text and "| untested |" in text


def test_many_claims_ask_for_more_than_one_interval():
    """An interval just above 0 is not enough among ten claims."""
    just = np.array([0.002, 0.012, 0.006, 0.009, 0.003])
    base = np.full(5, 0.7)
    alone = (
        make_ledger(runs_of(ce=base, supcon=base + just))
        .set_index("claim")
        .loc["SupCon beats cross-entropy"]
    )
    assert alone.low > 0 and alone.verdict == "supported"
    others = {"genscl_mix": base + 0.01 * np.arange(5), "ce_mix": base - 0.02 * np.arange(5)[::-1],
              "genscl_kd": base + 0.03 * np.array([1, -1, 1, -1, 1])}  # fmt: skip
    among = make_ledger(runs_of(ce=base, supcon=base + just, **others)).set_index("claim")
    assert among.loc["SupCon beats cross-entropy"].verdict == "undecided"
