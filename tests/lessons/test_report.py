"""Notebooks 09 and 10 say what the runs say: other runs, other words; and what is uneven is told."""

import json
import re
import shutil

import IPython.display
import numpy as np
import pandas as pd
import pytest

from genscl_lessons import answer, bookkeeping, report, space
from genscl_lessons.exercises import ParameterError
from genscl_lessons.floor import floor_gaps, floor_verdict, read_logs
from genscl_lessons.verdicts import render_ledger
from genscl_lite.datasets import files
from genscl_lite.runs.claims import make_ledger, read_predictions
from genscl_lite.runs.paths import RESULTS
from genscl_lite.runs.statistics import bootstrap_interval, t_interval
from genscl_lite.runs.tables import read_summaries
from genscl_lite.train.methods import METHODS
from tests.lessons.test_notebooks import code_of, needed_cells, read, run, source, tags

BASE = {"dataset": "digits", "arch": "small", "epochs": 10, "seconds": 1.0, "labels_per_class": 10}


def frame(**accuracies):
    rows = [BASE | {"method": method, "seed": seed, "accuracy_last": value}
            for method, values in accuracies.items() for seed, value in enumerate(values)]  # fmt: skip
    return pd.DataFrame(rows)


NOISE = np.array([0.001, -0.001, 0.002, -0.002, 0.0, 0.001])


@pytest.fixture
def shown(monkeypatch):
    """What is shown as text, without a kernel."""
    texts = []
    for module in (report, IPython.display):
        monkeypatch.setattr(module, "display", lambda thing: texts.append(thing.data))
    return texts


@pytest.fixture(scope="module")
def digits_copy(tmp_path_factory):
    """A copy of the committed runs on digits, without what is large."""
    folder = tmp_path_factory.mktemp("results") / "digits"
    shutil.copytree(
        RESULTS / "digits", folder, ignore=shutil.ignore_patterns("embeddings.npz", "*.png")
    )
    return folder


def change(folder, method, new):
    """Give a row other accuracies: ``new`` of the seed."""
    for path in folder.glob(f"{method}/seed*/summary.json"):
        summary = files.read_json(path)
        files.write_json(path, summary | {"accuracy_last": new(summary["seed"])})


def cells_of_09(*wanted, results):
    """Return the cells of notebook 09 that hold one of the wanted texts, with the ones they need."""
    texts = [source(cell) for cell in code_of("09_reproduce_table")]
    [at] = [k for k, cell in enumerate(code_of("09_reproduce_table")) if "parameters" in tags(cell)]
    texts[at] += f"\nresults = {str(results)!r}"
    return needed_cells(
        texts, [k for k, text in enumerate(texts) if any(words in text for words in wanted)]
    )


def test_other_accuracies_other_words(digits_copy, shown, monkeypatch, tmp_path):
    """GenSCL + mix is put three points above SupCon, then three below: notebook 09 says one thing, then another."""
    folder = tmp_path / "digits"
    shutil.copytree(digits_copy, folder)
    supcon = read_summaries(folder).query("method == 'supcon'").set_index("seed").accuracy_last
    lines = []
    for sign in (1, -1):
        change(
            folder,
            "genscl_mix",
            lambda seed, sign=sign: supcon[seed] + sign * (0.03 + 0.0001 * (seed % 3)),
        )
        run(cells_of_09("answer_table(books)", results=folder), monkeypatch)
        lines += [line for text in shown for line in text.splitlines() if "mix its images" in line]
        shown.clear()
    assert "| **yes**: +3.0 (" in lines[0] and "| **no**: -3.0 (" in lines[1]


def test_an_accuracy_that_is_not_that_of_its_predictions_stops_the_notebook(
    digits_copy, monkeypatch, tmp_path
):
    folder = tmp_path / "digits"
    shutil.copytree(digits_copy, folder)
    check = "assert tuple(summary.columns) == tables.TABLE_COLUMNS"
    run(cells_of_09(check, results=folder), monkeypatch)
    change(folder, "supcon", lambda seed: 0.999)
    with pytest.raises(AssertionError):
        run(cells_of_09(check, results=folder), monkeypatch)


def test_the_committed_notebook_says_what_the_committed_runs_say():
    outputs = json.dumps(
        [cell.get("outputs") for cell in read("09_reproduce_table")], ensure_ascii=False
    )
    books = [bookkeeping.read_book(RESULTS / name) for name in ("cifar10_small", "digits")]
    said = [answer.answer_table(books), answer.why(books), answer.wrong_labels(books)]
    for line in "\n".join(said + [render_ledger(book.ledger) for book in books]).splitlines():
        assert json.dumps(line, ensure_ascii=False)[1:-1] in outputs, (
            f"execute notebook 09 again: {line}"
        )


@pytest.mark.parametrize("name", ["09_reproduce_table", "10_see_the_space"])
def test_no_written_sentence_ranks_rows(name):
    """Which row is ahead is said by code; text may ask, explain and quote the paper."""
    prose = "\n".join(source(cell) for cell in read(name) if cell["cell_type"] == "markdown")
    ranks = r"\b(beats?|better|worse|ahead of|outperforms?|more accurate|less accurate|most accurate|supported by)\b"
    for sentence in re.split(r"(?<=[.!?:])\s", prose):
        rows = re.findall(r"\b(SupCon|SimCLR|GenSCL|CE)\b", sentence)
        assert not (rows and re.search(ranks, sentence)) or sentence.endswith("?"), sentence


def test_on_which_side_of_zero_a_difference_lies_is_said_place_by_place():
    runs = frame(ce=0.9 + NOISE, supcon=0.92 + NOISE[::-1])
    both = pd.concat(
        [runs.assign(labels_per_class=5), frame(ce=0.9 + NOISE, supcon=0.9 + 9 * NOISE)]
    )
    line = report.along(both, "labels_per_class", "supcon", "ce")
    assert re.fullmatch(
        r"- SupCon minus CE: above zero at 5 \(\+2\.0, .+\); around zero at 10 \(.+\)\.", line
    )


def test_what_is_uneven_is_told():
    runs = frame(ce=[0.9] * 3, supcon=[0.9] * 2, genscl_mix=[0.8])
    lines = report.describe(runs, ("ce", "simclr"))
    assert lines[0].startswith(
        "Seeds are uneven: most rows have 3, but SupCon 2 and GenSCL + MixUp-CutMix 1."
    )
    assert lines[1].startswith("One seed for GenSCL + MixUp-CutMix:")
    assert lines[-1] == "No runs of SimCLR: claims about it stay untested."
    ledger = make_ledger(runs).set_index("claim")
    assert (
        ledger.seeds["SupCon beats cross-entropy"] == 2 and ledger.seeds["Mixing helps GenSCL"] == 1
    )
    longer = runs.assign(epochs=np.where(runs.method == "ce", 10, 20))
    assert (
        "Rows differ in epochs: 10 for CE; 20 for SupCon and GenSCL + MixUp-CutMix."
        in report.describe(longer)
    )
    even = frame(ce=[0.9] * 3, supcon=[0.9] * 3)
    assert report.describe(even.assign(read_out="converged")) == []
    [line] = report.describe(even)
    assert line.startswith("Classifiers are read by their own head")


@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": 20},
        {"arch": "large"},
        {"labels_per_class": 5},
        {"precision": "bfloat16"},
        {"read_out": "converged"},
    ],
)
def test_two_configurations_are_one_clear_sentence(changes):
    runs = pd.concat([frame(ce=[0.9] * 2), frame(ce=[0.9] * 2).assign(seed=[2, 3], **changes)])
    name = next(iter(changes))
    with pytest.raises(
        ValueError, match=f"runs of two configurations in one folder: ce has {name} "
    ):
        make_ledger(runs)
    with pytest.raises(ValueError, match="several data sets in one folder: digits, cifar10"):
        make_ledger(pd.concat([frame(ce=[0.9]), frame(supcon=[0.9]).assign(dataset="cifar10")]))


def test_the_notebook_says_it_in_one_line(digits_copy, monkeypatch, tmp_path):
    folder = tmp_path / "digits"
    shutil.copytree(digits_copy, folder)
    path = next(folder.glob("supcon/seed1/summary.json"))
    files.write_json(path, files.read_json(path) | {"epochs": 7})
    with pytest.raises(
        ParameterError, match="two configurations in one folder: supcon has epochs [0-9]+ and 7"
    ) as stopped:
        run(cells_of_09("with checked_parameters():", results=folder), monkeypatch)
    assert "\n" not in stopped.value._render_traceback_()[0]


def seed_of(path):
    return int(path.parent.name.removeprefix("seed"))


def test_the_bootstrap_is_that_of_the_stored_predictions(digits_copy):
    runs = read_summaries(digits_copy)
    ledger = make_ledger(runs, predictions=read_predictions(digits_copy)).set_index("claim")
    drawn = ledger.loc["SupCon beats cross-entropy"]
    right = [np.stack([(lambda said: said["predicted"] == said["labels"])(np.load(path))
                       for path in sorted(digits_copy.glob(f"{method}/seed*/predictions.npz"), key=seed_of)]) for method in ("supcon", "ce")]  # fmt: skip
    assert (drawn.image_low, drawn.image_high) == pytest.approx(bootstrap_interval(*right)[1:3])
    none = make_ledger(runs, predictions=read_predictions(digits_copy / "nowhere"))
    assert none.image_low.isna().all()


def test_the_floor_is_reached_or_not():
    logs = pd.DataFrame([{"method": method, "seed": seed, "epoch": epoch, "kl": kl * (3 - epoch) + 0.001 * seed, "label_entropy": 2.0}
                         for method, kl in (("ce", 9), ("supcon", 0.01), ("genscl_mix", 0.5)) for seed in range(3) for epoch in (1, 2)])  # fmt: skip
    gaps = floor_gaps(logs).set_index("method")
    assert gaps.verdict.to_dict() == {"supcon": "supported", "genscl_mix": "contradicted"}
    assert gaps.gap["genscl_mix"] == pytest.approx(0.501) and gaps.low[
        "genscl_mix"
    ] == pytest.approx(t_interval([0.5, 0.501, 0.502]).low)
    table = report.floor_table(gaps.reset_index()).splitlines()
    assert table[2].startswith("| SupCon | 0.01 (") and table[2].endswith("| 3 | down to it |")
    assert table[3].startswith("| GenSCL + MixUp-CutMix | 0.50 (") and "above it" in table[3]
    assert floor_gaps(logs[logs.seed == 0]).verdict.tolist() == ["undecided"] * 2
    assert floor_verdict(gaps.reset_index()) == ("untested", "") and report.floor_line(
        gaps.reset_index()
    ).endswith("untested, there are no runs.")
    taught = logs.replace({"method": {"genscl_mix": "genscl_mix_kd"}})
    both, where = (
        floor_gaps(taught.assign(chance=4.0)),
        "0.50 nats above it (0.50 to 0.50), 75 % (75 to 75) of the way from chance",
    )
    assert floor_verdict(both) == ("contradicted", where)
    assert report.floor_line(both).endswith(f": contradicted. It ends {where}, 3 seeds.")
    old = floor_gaps(taught)  # logs without chance name a sum of two entropies
    assert "not comparable. The logs of these runs name" in report.floor_line(old)
    assert "\n\nGenSCL + MixUp-CutMix + KD: not comparable." in report.floor_table(old)


def test_the_floor_is_asked_only_where_it_can_be_reached():
    """Logs without chance name the sum of two entropies, for a row with a teacher."""
    rows = [{"method": method, "seed": seed, "epoch": 1, "label_entropy": 2.0, "kl": 0.5 + 0.02 * seed}
            for method in ("genscl_mix", "genscl_mix_kd") for seed in range(3)]  # fmt: skip
    old = floor_gaps(pd.DataFrame(rows)).set_index("method")
    assert old.verdict.to_dict() == {
        "genscl_mix": "contradicted",
        "genscl_mix_kd": "not comparable",
    }
    assert np.isnan(old.gap["genscl_mix_kd"]) and np.isnan(old.share["genscl_mix"])
    assert floor_verdict(old.reset_index()) == ("not comparable", "")
    new = floor_gaps(pd.DataFrame(rows).assign(chance=4.0))
    assert new.share.tolist() == pytest.approx([1 - 0.52 / 2] * 2)
    verdict, where = floor_verdict(new)
    assert verdict == "contradicted" and where.startswith(
        "0.52 nats above it (0.47 to 0.57), 74 % (72 to 76) of"
    )


def test_logs_of_all_seeds_are_read_in_the_order_of_rows(digits_copy):
    logs = read_logs(digits_copy)
    rows = list(logs.method.unique())
    assert rows == [method for method in METHODS if method in rows] and len(rows) > 5
    assert logs.groupby("method").measured.last().notna().all()


def test_variations_are_the_folder_and_those_beside_it(tmp_path):
    folders = {
        "small": 80,
        "small_epochs20": 20,
        "small_epochs160": 160,
        "smaller_epochs20": 1,
        "small_batch_size9": 2,
    }
    for folder, epochs in folders.items():
        for seed in range(2):
            about = {"method": "ce", "seed": seed, "epochs": epochs}
            files.write_json(tmp_path / folder / "ce" / f"seed{seed}" / "summary.json", about)
    (tmp_path / "small_epochs40").mkdir()  # begun, nothing finished
    assert report.read_varied(tmp_path / "small", "epochs").epochs.tolist() == [
        20,
        20,
        80,
        80,
        160,
        160,
    ]
    with pytest.raises(
        FileNotFoundError, match="no finished run there, and none beside it of another epochs"
    ):
        report.read_varied(tmp_path / "none", "epochs")


def test_other_labels_and_wrong_labels_are_found_beside_the_folder(tmp_path):
    for name, value in (("runs", 0.0), ("runs_label_noise0.2", 0.2), ("runs_label_noisex", 9)):
        for method in ("ce", "supcon") if value < 0.1 else ("ce",):
            about = (
                BASE
                | {"method": method, "seed": 0, "accuracy_last": 0.9}
                | ({"label_noise": value} if value else {})
            )
            files.write_json(tmp_path / name / method / "seed0" / "summary.json", about)
    noisy = report.varied(tmp_path / "runs", "label_noise")
    assert noisy.label_noise.tolist() == [0, 0.2] and set(noisy.method) == {"ce"}
    assert report.varied(tmp_path / "runs", "epochs").empty


def test_costs_hold_the_teacher():
    runs = frame(
        ce=[0.9] * 2, ce_mix=[0.91] * 2, genscl_kd=[0.89] * 2, genscl_mix_kd_expert=[0.95] * 2
    )
    costs = report.whole_cost(runs.assign(seconds=[2, 2, 4, 4, 8, 8, 8, 8]))
    assert costs.whole["genscl_kd"] == 12 and np.isnan(
        costs.whole["genscl_mix_kd_expert"]
    )  # its expert is not there
    lines = report.cost_lines(runs.assign(seconds=[2, 2, 4, 4, 8, 8, 8, 8]))
    assert lines == ["- GenSCL + KD: 6.0 times the seconds of CE, of which 33 % are its teacher's."]
    beside_other_work = runs.assign(seconds=99, cpu_seconds=[2, 2, 4, 4, 8, 8, 8, 8])
    assert report.whole_cost(beside_other_work).whole["genscl_kd"] == 12
    on_a_gpu = beside_other_work.assign(peak_memory_bytes=1.0)
    assert report.whole_cost(on_a_gpu).whole["genscl_kd"] == 198


def test_confusions_are_summed_over_runs_and_the_worst_are_named():
    runs = frame(ce=[0.9, 0.8], supcon=[0.9])
    runs["confusion"] = [[[8, 2], [0, 10]], [[6, 4], [1, 9]], None]
    runs["by_class"] = [{"cat": 0, "dog": 0}, {"cat": 0, "dog": 0}, None]
    counts, names = report.confusions(runs, "ce")
    assert counts.tolist() == [[14, 6], [1, 19]]
    line = report.confusion_line("CE", counts, names, most=2)
    assert line == "- CE takes most often cat for dog (30 %) and dog for cat (5 %)."
    assert report.confusions(runs, "supcon") is None
    three = ["cat", "dog", "owl"]  # of the last there is no image
    line = report.confusion_line("CE", np.array([[8, 2, 0], [0, 9, 0], [0, 0, 0]]), three)
    assert line == "- CE takes most often cat for dog (20 %)."
    assert report.confusion_line("CE", np.eye(3), three) == ""


def test_text_is_sentences_and_lists(shown):
    report.say("One.", "", "Two.", "- a", "- b", "Three.")
    assert shown == ["One. Two.\n\n- a\n- b\n\nThree."]


def test_blends_are_read_from_summaries_or_measured():
    blends = space.read_blends(RESULTS / "digits")
    kept = {path.parts[-3] for path in (RESULTS / "digits").glob("*/seed0/embeddings.npz")}
    assert set(blends[blends.seed == 0].method) >= kept and (blends.blend_kl > 0).all()
    made = pd.DataFrame([{"method": m, "seed": s, "blend_kl": v + 0.01 * s * (m == "ce_mix"), "blend_share_gap": 0.1, "blend_correlation": v / 9}
                         for m, v in (("genscl_mix", 0.7), ("supcon", 3.5), ("ce_mix", 0.69)) for s in range(3)])  # fmt: skip
    near, same = space.blend_lines(made, "blend_kl", "genscl_mix", ["supcon", "ce_mix"])
    assert near.endswith("nearer to the labels.") and same.endswith("not shown to differ.")
    assert (
        "decides nothing"
        in space.blend_lines(made[made.seed == 0], "blend_kl", "genscl_mix", ["supcon"])[0]
    )
    assert space.blend_lines(made, "blend_kl", "genscl_mix", ["simclr"]) == []
    assert "one seed" in space.seeds_line(
        made[made.seed == 0]
    ) and "over 3 seeds" in space.seeds_line(made)


def test_what_fades_is_said_by_the_numbers():
    line = space.fading_line({"class": 0.9, "ink": 0.4}, {"class": 0.91, "ink": 0.1})
    assert (
        line
        == "Behind the head ink (0.40 before, 0.10 after) fades; class (0.90 before, 0.91 after) stays."
    )
