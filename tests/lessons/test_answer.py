"""The answer: words and numbers follow from the runs, and so does the reason why a verdict changed."""

import numpy as np
import pandas as pd
import pytest

from genscl_lessons import answer, bookkeeping, changes, paper_table
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
    return bookkeeping.Book(runs, make_ledger(runs))


ROWS = {"supcon": 0.78, "supcon_mix": 0.78, "genscl_mix": 0.8, "ce_mix": 0.7995}


def test_a_question_is_answered_by_its_verdict_with_numbers():
    one, other = book(**ROWS), book(**ROWS | {"genscl_mix": 0.77})
    lines = [
        line.strip("| ").split(" | ") for line in answer.answer_table([one, other]).splitlines()
    ]
    assert (
        lines[0][1]
        == "CIFAR-10, 500 labels a class, 80 epochs, one linear probe unless a line says otherwise, 5 seeds"
    )
    assert [line[1].partition(":")[0] for line in lines[2:]] == [
        "**yes**",
        "**yes**",
        "**yes, as good**",
        *["not tried"] * 4,
    ]
    assert [line[2].partition(":")[0] for line in lines[2:]] == [
        "**no**",
        "**no**",
        "**no**",
        *["not tried"] * 4,
    ]
    assert lines[2][1].startswith("**yes**: +2.0 (+1.")


def test_wrong_labels_are_asked_about_where_there_are_runs_with_them():
    clean, noisy = book(**ROWS), book(**ROWS | {"ce_mix": 0.7})
    noisy = clean._replace(noisy=noisy.runs.assign(label_noise=answer.WRONG))
    probe, head, *_ = wrong_label_lines([clean, noisy])
    assert (
        "wrong, read by the same probe? (not corrected) | not tried | **ahead**: +10.0 (+9."
        in probe
    )
    assert (
        probe.endswith("), 5 seeds |")
        and "read by GenSCL's probe against CE's own head? (not corrected)" in head
        and "**ahead**" in head
    )
    heads = np.where(noisy.noisy.method == "ce_mix", 0.9, np.nan)
    _, head, *_ = wrong_label_lines(
        [clean, noisy._replace(noisy=noisy.noisy.assign(head_accuracy=heads))]
    )
    assert "| not tried | **behind**: -10." in head


def wrong_label_lines(books) -> list[str]:
    lines = answer.answer_table(books).splitlines()
    return [line for line in lines if "40 % of the labels are wrong" in line]


def test_why_says_where_something_speaks_for_it_and_where_not():
    behind = answer.why([book(**ROWS | {"ce_mix": 0.9})])
    assert "GenSCL is behind it: -10.0 points on CIFAR-10 (-10." in behind
    none = answer.why([book(**ROWS)])
    assert none.startswith(
        "- **Clean labels: no reason to replace cross-entropy.** In no comparison here is it shown to be more"
    )
    taught = answer.why([book(**ROWS | {"genscl_mix_kd_expert": 0.82})])
    assert "It brings GenSCL +2.0 points on CIFAR-10 (" in taught and "was not tried" in taught
    for rival, kind in ((0.85, "it helps, and is no reason to replace"), (0.81, "a reason")):
        rows = ROWS | {"genscl_mix_kd_expert": 0.82, "ce_mix_kd_expert": rival}
        taught = answer.why([book(**rows)])
        assert f"A teacher that knows more labels: {kind}" in taught
        gain, left = 100 * (rival - ROWS["ce_mix"]), 100 * (0.82 - rival)
        assert f"it brings cross-entropy on mixed images {gain:+.1f} (" in taught
        assert f"both with it, is {left:+.1f} (" in taught
    ahead = answer.why([book(**ROWS | {"ce_mix": 0.78})])
    assert "On CIFAR-10 it is more accurate than cross-entropy" in ahead
    mixed = answer.why([book(**ROWS | {"supcon": 0.7, "supcon_mix": 0.8})])
    assert "ahead of SupCon without: +" in mixed
    assert (
        "Even if each keeps only its larger label, mixed images bring +10.0 on CIFAR-10 (+9."
        in mixed
    )
    assert "Whether the mixed label adds to that: no difference on CIFAR-10." in mixed
    soft = answer.why([book(**ROWS | {"supcon": 0.7, "supcon_mix": 0.71})])
    assert "The mixed label, instead of its larger class, brings +" in soft
    assert "its larger label, mixed images" not in answer.why(
        [book(**ROWS | {"supcon": 0.7, "supcon_mix": 0.7})]
    )
    clean = book(**ROWS)
    wrong, other = (
        clean._replace(
            noisy=book(**ROWS | {"ce_mix": ce_mix}).runs.assign(label_noise=answer.WRONG)
        )
        for ce_mix in (0.7, 0.9)
    )
    other = other._replace(runs=other.runs.assign(dataset="digits"))
    said = answer.why([other, wrong])
    assert (
        "ahead by 0 of 3 on digits with 40 % wrong (-10.0 to -10.0 points) and "
        "3 of 3 on CIFAR-10 with 40 % wrong (+10.0 to +10.0 points), behind by 3."
    ) in said
    assert "Wrong labels: it depends on" in said
    assert "Wrong labels: a reason.**" in answer.why([wrong])
    assert "are wrong" not in answer.why([other])
    assert "The mixed label is a part of it in 2 of 2 cases: " in said

    def controlled(supcon_mix):
        runs = book(**ROWS | {"ce_mix": 0.7, "supcon_mix": supcon_mix}).runs
        return wrong._replace(noisy=runs.assign(label_noise=answer.WRONG))

    hard = answer.why([controlled(0.81)])
    assert "The mixed label is not shown to be why: GenSCL minus SupCon on the same images" in hard
    digits = other._replace(noisy=controlled(0.75).noisy)
    soft = answer.why([controlled(0.81), digits])
    assert "The mixed label is a part of it in 1 of 2 cases: " in soft
    alone = wrong._replace(noisy=wrong.noisy[wrong.noisy.method != "supcon_mix"])
    assert "The mixed label is" not in answer.why([alone])
    assert "each with its larger class, is -1.0 to +5.0 points, however" in soft


def test_a_search_is_asked_about_where_it_was_measured():
    clean = book(**ROWS)
    runs = clean.runs.assign(mean_average_precision=clean.runs.accuracy_last.rsub(1))
    lines = answer.answer_table([clean._replace(runs=runs), clean]).splitlines()
    [line] = [line for line in lines if "in a search for similar images" in line]
    assert "| **open**: -0.1 (" in line and line.endswith("| not tried |")


def test_wrong_labels_are_read_in_several_ways_side_by_side():
    clean, noisy = book(near=ROWS, **ROWS), book(near=ROWS, **ROWS | {"ce_mix": 0.7})
    runs = noisy.runs.assign(head_accuracy=np.where(noisy.runs.method == "ce_mix", 0.75, np.nan))
    both = [clean.runs.assign(label_noise=0.0), runs.assign(label_noise=0.4)]
    wrong = clean._replace(noisy=pd.concat(both))
    first, _, second = answer.wrong_labels([clean, wrong]).splitlines()[2:]
    cells = first.strip("| ").split(" | ")
    assert cells[:3] == ["CIFAR-10", "40 %", "CE + MixUp-CutMix"] and cells[-1] == "5"
    assert [cell[:5] for cell in cells[3:6]] == ["+10.0", "+5.0 ", "+0.1 "]
    assert "| 40 % | SupCon | +2.0 (" in second
    assert answer.wrong_labels([clean]) == "No runs with wrong labels."
    old = wrong._replace(runs=wrong.runs.assign(read_out="sgd"), noisy=wrong.noisy.assign(read_out="sgd"))  # fmt: skip
    assert "CIFAR-10, first recipe | 40 % | CE + MixUp-CutMix |  | +5.0" in answer.wrong_labels(
        [old]
    )


def test_what_wrong_labels_cost_is_taken_over_seeds_that_have_both():
    clean, noisy = book(**ROWS).runs, book(**ROWS | {"ce_mix": 0.7}).runs
    both = pd.concat(
        [clean.assign(label_noise=0.0), noisy[noisy.seed == 0].assign(label_noise=0.4)]
    )
    found = answer.lost(bookkeeping.Book(clean, None, both), 0.4, "ce_mix")
    assert found == pytest.approx(100 * (ROWS["ce_mix"] - 0.7))


def test_a_quoted_sentence_has_interval_seeds_length_and_read_out():
    first, _, third = answer.quotes(book(**ROWS))
    assert first.startswith(
        "- GenSCL + MixUp-CutMix is 2.0 points more accurate than SupCon (95 % interval +1."
    )
    assert first.endswith("; 5 seeds; CIFAR-10, 500 labels a class, 80 epochs, one linear probe).")
    assert "is as accurate as CE + MixUp-CutMix, within half a point (+0.1 points, 95 %" in third
    open_one = answer.quotes(book(noise=20 * NOISE, **ROWS))[0]
    assert "cannot be told apart from SupCon (+2.0 points, 95 % interval -" in open_one
    alone = answer.quotes(book(noise=[0.0], **ROWS))[0]
    assert "was 2.0 points more accurate than SupCon (one seed, which decides nothing; " in alone


def test_the_paper_stands_beside_our_rows_with_both_its_versions():
    published = pd.read_csv(PUBLISHED)
    table = paper_table.beside_the_paper([book(**ROWS)], published).splitlines()
    assert "| SupCon | 96.0 | 76.5 | 78.0 ± 0.2 |" in table
    assert "| GenSCL + MixUp-CutMix + KD | 97.6 | 84.7 |  |" in table
    assert "| version 2, best of its abstract | 98.2 | 87.0 |  |" in table
    spread = "±: the standard deviation over seeds, no interval. "
    assert table[-1].startswith(f"{spread}On ImageNet, version 2's abstract has 77.3 ")
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
    row = changes.changes(old, new).iloc[0]
    assert row.reason.startswith(reason) and bool(row.reason) == bool(reason)
    if not np.isnan(row.recipe):
        moved = row.new.difference - row.old.difference
        assert row.recipe + row.read_out == pytest.approx(moved, abs=1e-9)


def test_the_first_recipe_is_kept_beside_each_data_set():
    for name in ("digits", "cifar10_small"):
        old = bookkeeping.read_book(RESULTS / f"{name}_sgd")
        assert old.ledger.read_out.unique().tolist() == ["sgd"]
        assert old.runs.knn_accuracy.notna().all()
