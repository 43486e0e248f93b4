import pandas as pd
import pytest

from genscl_lessons.verdicts import difference, of_ledger
from genscl_lite.runs.claims import make_ledger


def runs(supcon, mixed):
    rows = [("supcon", supcon), ("genscl_mix", mixed)]
    return pd.DataFrame(
        [
            {
                "method": method,
                "seed": seed,
                "accuracy_last": accuracy,
                "dataset": "d",
                "arch": "a",
                "epochs": 1,
            }
            for method, accuracies in rows
            for seed, accuracy in enumerate(accuracies)
        ]
    )


@pytest.mark.parametrize(
    "values, decided",
    [
        ([1, 1.1, 0.9], "above 0"),
        ([-1, -1.1, -0.9], "below 0"),
        ([-1, 1, 0], "not distinguishable from 0"),
        ([2], "one seed, no interval), not distinguishable from 0"),
    ],
)
def test_a_difference_is_decided_by_its_interval(values, decided):
    assert difference(values).endswith(decided)


@pytest.mark.parametrize(
    "mixed, said",
    [
        ([0.91, 0.92, 0.93, 0.925], ["+1.0 points", "4 seeds", "**supported**"]),
        ([0.89, 0.90, 0.91, 0.905], ["−1.0 points", "**contradicted**"]),
        ([0.88, 0.95, 0.90, 0.93], ["95 % interval −", "**undecided**"]),
        ([0.91], ["one seed, no interval", "**undecided**"]),
    ],
)
def test_the_ledger_is_quoted_with_its_verdict(mixed, said):
    supcon = [0.90, 0.91, 0.92, 0.9151][: len(mixed)]
    sentence = of_ledger(make_ledger(runs(supcon, mixed)), "genscl_mix", "supcon")
    assert sentence.startswith('"Mixing helps GenSCL"')
    assert all(part in sentence for part in said), sentence


def test_a_claim_without_runs_is_said_to_be_untested():
    ledger = make_ledger(runs([0.9], [0.9]))
    assert of_ledger(ledger, "genscl_kd", "supcon").endswith("no seed has both rows, **untested**")
