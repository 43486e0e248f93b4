import numpy as np
import pandas as pd
import pytest
from scipy import stats

from genscl_lessons.verdicts import render_ledger
from genscl_lite.runs.claims import (
    CLAIMS,
    claim_line,
    make_ledger,
    with_read_out,
)
from genscl_lite.runs.statistics import (
    bootstrap_interval,
    decided,
    holm,
    is_equivalent,
    p_value,
    pooled_error,
    pooled_interval,
    pooled_p_value,
    t_interval,
)

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


@pytest.mark.parametrize("pair", [(0.01, 0.01), (717 / 797 - 713 / 797, 648 / 797 - 644 / 797)])
def test_two_seeds_that_agree_by_chance_decide_nothing(pair):
    assert np.isnan(p_value(pair)) and not decided(t_interval(pair), p_value(pair))


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
        assert is_equivalent(t_interval(values, 0.9), margin) == (max(below, above) < 0.05)
    assert not is_equivalent(t_interval([0.0], 0.9), margin)


LIKE = np.random.default_rng(4).normal(0.8, 0.004, (5, 4)) + np.arange(5)[:, None] / 50


def test_the_pooled_error_is_that_of_least_squares():
    """Of accuracies against indicators of rows and of seeds."""
    seeds, rows = LIKE.shape
    seed, row = (part.ravel() for part in np.indices(LIKE.shape))
    columns = [row == r for r in range(rows)] + [seed == s for s in range(1, seeds)]
    design = np.stack(columns, axis=1).astype(float)
    _, [squares], rank, _ = np.linalg.lstsq(design, LIKE.ravel(), rcond=None)
    error = pooled_error(LIKE)
    assert error.freedom == LIKE.size - rank == 12
    assert error.deviation == pytest.approx((squares / 12) ** 0.5)
    differences = LIKE[:, 0] - LIKE[:, 1]
    interval = pooled_interval(differences, error)
    half = stats.t.ppf(0.975, 12) * error.deviation * (2 / 5) ** 0.5
    assert (interval.low, interval.high) == pytest.approx(
        (differences.mean() - half, differences.mean() + half)
    )
    at_the_end = pooled_p_value(differences - interval.low, error)
    assert at_the_end == pytest.approx(0.05)  # interval and p say the same


def test_errors_are_not_pooled_where_one_row_scatters_more_or_little_is_known():
    uneven = LIKE.copy()
    uneven[:, 0] += np.array([0.3, -0.3, 0.2, -0.3, 0.1])
    assert pooled_error(uneven) is None
    assert pooled_error(LIKE[:2]) is None and pooled_error(LIKE[:, :2]) is None
    assert pooled_error(np.full((5, 4), 0.5)) is None and pooled_error(LIKE[:0]) is None


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


NOISE = np.array([0.001, -0.001, 0.002, -0.002, 0.0])


def test_verdicts_follow_from_intervals():
    runs = runs_of(ce=0.70 + NOISE, supcon=0.72 + NOISE[::-1], genscl_mix=0.60 + 0 * NOISE, ce_mix=0.6 + 40 * NOISE,
                   genscl_mix_kd=0.8 + NOISE, genscl_mix_kd_queue=0.798 + NOISE / 2, genscl_kd=[0.9])  # fmt: skip
    ledger = make_ledger(runs).set_index("claim")
    assert len(ledger) == len(CLAIMS)
    verdicts = ledger.verdict
    assert verdicts["SupCon beats cross-entropy"] == "supported"
    assert verdicts["Mixing helps GenSCL"] == "contradicted"
    as_good = "GenSCL is as good as cross-entropy with the same mixing, or beats it"
    assert verdicts[as_good] == "undecided"
    assert (
        verdicts["A teacher helps GenSCL"] == "undecided"
        and ledger.seeds["A teacher helps GenSCL"] == 1
    )
    assert verdicts["Soft labels beat hard ones on the same blends"] == "untested"
    assert verdicts["Momentum and queue lose at most half a point"] == "supported"
    row = ledger.loc["SupCon beats cross-entropy"]
    assert row.published == pytest.approx(0.96 - 0.949) and row.difference == pytest.approx(0.02)
    text = render_ledger(ledger.reset_index())
    assert "| SupCon beats cross-entropy | exploratory | +1.1 | +2.0 (" in text
    assert "| untested |" in text and text.endswith("Of cifar10, 80 epochs, read-out sgd.")


def test_three_claims_are_primary_and_corrected_among_themselves():
    """An interval just above 0 is enough for a primary claim, and not for one of many others."""
    assert [claim.primary for claim in CLAIMS] == [True] * 3 + [False] * (len(CLAIMS) - 3)
    just, base = np.array([0.002, 0.012, 0.006, 0.009, 0.003]), np.full(5, 0.7)
    uneven = {"ce": base + 0.01 * np.arange(5), "genscl_kd": base + 0.03 * np.array([1, -1, 1, -1, 1]),
              "genscl_mix_kd": base - 0.02 * np.arange(5)[::-1]}  # fmt: skip
    runs = runs_of(
        supcon=base, genscl_mix=base + just, genscl_mix_kd_expert=base + 2 * just, **uneven
    )
    ledger = make_ledger(runs).set_index("claim")
    assert (
        ledger.verdict["Mixing helps GenSCL"] == "supported"
    )  # the only primary one that is tested
    again = ledger.loc["An expert teacher helps GenSCL with mixing"]  # by the same differences
    assert again.low > 0 and again.verdict == "undecided"
    tested = ((ledger.kind == "exploratory") & (ledger.seeds > 1)).sum()
    assert again.p == pytest.approx(tested * ledger.p["Mixing helps GenSCL"]) and tested > 3
    assert "(primary): supported" in claim_line(ledger.reset_index().iloc[0])


def test_primary_claims_go_by_the_pooled_error_where_rows_scatter_alike():
    supcon, supcon_mix, genscl_mix, ce_mix = LIKE.T + np.array([[0], [-0.05], [0.003], [-0.05]])
    rows = {"supcon": supcon, "supcon_mix": supcon_mix, "ce_mix": ce_mix}
    alike = make_ledger(runs_of(genscl_mix=genscl_mix, **rows)).iloc[0]
    assert alike.low < 0 < alike.pooled_low and alike.verdict == "supported"
    rows["ce_mix"] = ce_mix + np.array([0.3, -0.3, 0.2, -0.3, 0.1])
    uneven = make_ledger(runs_of(genscl_mix=genscl_mix, **rows)).iloc[0]
    assert np.isnan(uneven.pooled_low) and uneven.verdict == "undecided"


def said(draw=0.0, **accuracies):
    """Predictions of 1,000 images; a share ``draw`` of them is right or wrong by chance."""
    rng, rows = np.random.default_rng(0), []
    for method, values in accuracies.items():
        for seed, accuracy in enumerate(values):
            right = np.arange(1000) < 1000 * accuracy
            by_chance = rng.random(1000) < draw
            right = np.where(by_chance, rng.random(1000) < accuracy, right)
            rows.append({"method": method, "seed": seed, "right": right})
    return pd.DataFrame(rows)


def test_as_good_is_said_only_if_other_test_images_would_say_so_too():
    rows = {"genscl_mix": 0.7 + NOISE, "ce_mix": 0.699 + NOISE[::-1], "ce": 0.7 + NOISE, "supcon": 0.7 + NOISE[::-1]}  # fmt: skip
    words = {}
    for draw in (0.0, 0.9):
        ledger = make_ledger(runs_of(**rows), predictions=said(draw, **rows)).set_index("claim")
        words[draw] = ledger.verdict[["SupCon beats cross-entropy", CLAIMS[2].text]].tolist()
        assert (ledger.image_low[CLAIMS[2].text] < -0.005) == (draw > 0)
    assert words == {0.0: ["as good", "supported"], 0.9: ["undecided", "undecided"]}


def test_two_read_outs_are_refused_by_name():
    old, new = runs_of(ce=[0.7], supcon=[0.7]), runs_of(ce=[0.8], supcon=[0.8])
    new = new.assign(read_out="converged", seed=1)
    assert with_read_out(pd.concat([old, new])).read_out.tolist() == ["sgd"] * 2 + ["converged"] * 2
    with pytest.raises(ValueError, match="ce has read_out sgd and converged"):
        make_ledger(pd.concat([old, new]))
    with pytest.raises(ValueError, match=r"two ways .*\(converged: supcon; sgd: ce\)"):
        make_ledger(pd.concat([old[old.method == "ce"], new[new.method == "supcon"]]))
    assert make_ledger(new).read_out.unique().tolist() == ["converged"]
