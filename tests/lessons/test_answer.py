"""The answer: words and numbers follow from the runs, and so does the reason why a verdict changed."""

import numpy as np
import pandas as pd
import pytest

from genscl_lessons import answer
from genscl_lite.runs.claims import make_ledger
from genscl_lite.runs.paths import PUBLISHED, RESULTS

NOISE = np.array([0.001, -0.001, 0.002, -0.002, 0.0])


def book(near=None, noise=NOISE, read_out="converged", epochs=80, **accuracies):
    """Make runs of a few rows; a vote of neighbors reads them at ``near``, else as they are."""
    rows = [{"method": method, "seed": seed, "dataset": "cifar10", "arch": "small", "epochs": epochs, "seconds": 1.0,
             "labels_per_class": 500, "read_out": read_out, "accuracy_last": accuracy + x,
             "knn_accuracy": (near or {}).get(method, accuracy) + x}
            for place, (method, accuracy) in enumerate(accuracies.items())
            for seed, x in enumerate(np.roll(noise, place))]  # fmt: skip
    runs = pd.DataFrame(rows)
    return answer.Book(runs, make_ledger(runs))


ROWS = {"supcon": 0.78, "supcon_mix": 0.78, "genscl_mix": 0.8, "ce_mix": 0.7995}


def test_a_question_is_answered_by_its_verdict_with_numbers():
    one, other = book(**ROWS), book(**ROWS | {"genscl_mix": 0.77})
    lines = [
        line.strip("| ").split(" | ") for line in answer.answer_table([one, other]).splitlines()
    ]
    assert (
        lines[0][1]
        == "CIFAR-10, 500 labels a class, 80 epochs, one linear probe for all rows, 5 seeds"
    )
    assert [line[1].partition(":")[0] for line in lines[2:]] == [
        "**yes**",
        "**yes**",
        "**yes, as good**",
        "not tried",
    ]
    assert [line[2].partition(":")[0] for line in lines[2:]] == [
        "**no**",
        "**no**",
        "**no**",
        "not tried",
    ]
    assert lines[2][1].startswith("**yes**: +2.0 (+1.")


def test_wrong_labels_are_asked_about_where_there_are_runs_with_them():
    clean, noisy = book(**ROWS), book(**ROWS | {"ce_mix": 0.7})
    noisy = clean._replace(noisy=noisy.runs.assign(label_noise=answer.WRONG))
    lines = answer.answer_table([clean, noisy]).splitlines()
    [line] = [line for line in lines if "40 % of the labels are wrong" in line]
    assert line.strip("| ").split(" | ")[1] == "not tried" and "| **yes**: +10.0 (+9." in line
    assert "against its own head **yes**" in line
    by_head = noisy.noisy.assign(
        head_accuracy=np.where(noisy.noisy.method == "ce_mix", 0.9, np.nan)
    )
    assert "against its own head **no**: -10." in answer.answer_table(
        [clean, noisy._replace(noisy=by_head)]
    )


def test_a_quoted_sentence_has_interval_seeds_length_and_read_out():
    first, _, third = answer.quotes(book(**ROWS))
    assert first.startswith(
        "- GenSCL + MixUp-CutMix is 2.0 points more accurate than SupCon (95 % interval +1."
    )
    assert first.endswith(
        "; 5 seeds; CIFAR-10, 500 labels a class, 80 epochs, one linear probe for all rows)."
    )
    assert "is as accurate as CE + MixUp-CutMix, within half a point (+0.1 points, 95 %" in third
    open_one = answer.quotes(book(noise=20 * NOISE, **ROWS))[0]
    assert "cannot be told apart from SupCon (+2.0 points, 95 % interval -" in open_one
    alone = answer.quotes(book(noise=[0.0], **ROWS))[0]
    assert "was 2.0 points more accurate than SupCon (one seed, which decides nothing; " in alone


def test_the_paper_stands_beside_our_rows_with_both_its_versions():
    published = pd.read_csv(PUBLISHED)
    table = answer.beside_the_paper([book(**ROWS)], published).splitlines()
    assert "| SupCon | 96.0 | 76.5 | 78.0 ± 0.2 |" in table
    assert "| GenSCL + MixUp-CutMix + KD | 97.6; v2: 98.2 | 84.7; v2: 87.0 |  |" in table
    assert any(line.startswith("| CE + MixUp-CutMix |  |  | 80.0") for line in table)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        # the vote of neighbors saw no change: the read-out's
        (book(near=ROWS, read_out="sgd", **ROWS | {"genscl_mix": 0.76}), book(**ROWS), "read-out"),
        (book(**ROWS | {"genscl_mix": 0.76}), book(**ROWS), "recipe"),
        (book(epochs=200, **ROWS | {"genscl_mix": 0.76}), book(**ROWS), "recipe (200 epochs then, 80 now)"),
        (book(noise=20 * NOISE, **ROWS), book(**ROWS), "seeds: ± "),
        (book(**ROWS), book(noise=[0.0], **ROWS), "a single seed decides nothing"),
        (book(**ROWS), book(**{"supcon": 0.7}), "no runs of both rows by this recipe"),
        (book(**ROWS), book(**ROWS), ""),
    ],
)  # fmt: skip
def test_a_changed_verdict_has_a_reason(old, new, reason):
    row = answer.changes(old, new).iloc[0]
    assert row.reason.startswith(reason) and bool(row.reason) == bool(reason)
    if not np.isnan(row.recipe):
        moved = row.new.difference - row.old.difference
        assert row.recipe + row.read_out == pytest.approx(moved, abs=1e-9)


def test_the_first_recipe_is_kept_beside_each_data_set():
    for name in ("digits", "cifar10_small"):
        old = answer.read_book(RESULTS / f"{name}_sgd")
        assert old.ledger.read_out.unique().tolist() == ["sgd"]
        assert old.runs.knn_accuracy.notna().all()
