"""Notebook 07: any row by one word, and what a run of the table leaves out."""

import re

import pytest

from genscl_lite.train.methods import METHODS, TEACHERS
from tests.conftest import QUICK
from tests.lessons.test_notebooks import code_of, needed_cells, run, source, tags

SHORT = QUICK | {"min_accuracy": 0.0, "by_method": {"expert": {"epochs": 1, "warmup_epochs": 0}}}
PARAMETERS = "\n".join(f"{name} = {value!r}" for name, value in SHORT.items())


def cells_with(row, **changes):
    """Return the notebook's code with short runs, as papermill injects parameters, and the row chosen by hand."""
    texts, cells = [], code_of("07_train")
    for cell in cells:
        text = source(cell)
        assert not text.startswith("preset = ") or "\nrow = method" in text
        texts.append(
            text.replace("row = method", f"row = {row!r}") if text.startswith("preset = ") else text
        )
        if "parameters" in tags(cell):
            texts.append(
                "\n".join([PARAMETERS, *(f"{name} = {value!r}" for name, value in changes.items())])
            )
    return texts


def index_of(texts, *words):
    [found] = [k for k, text in enumerate(texts) if all(word in text for word in words)]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("row", [name for name in METHODS if name not in TEACHERS])
def test_any_row_is_one_word(row, monkeypatch, tmp_path):
    """A row with KD has its teacher trained first, beside it; and its accuracy passes."""
    texts = cells_with(row, out=str(tmp_path / row), seeds=1)
    last = [
        index_of(texts, "it learns from a teacher"),
        index_of(texts, "watch = live_curve()"),
        index_of(texts, "floor_of_row("),
    ]
    printed = run(needed_cells(texts, last), monkeypatch)
    teacher = ("expert" if METHODS[row].expert else "ce_mix") if METHODS[row].distils else None
    folders = {path.name for path in tmp_path.iterdir()}
    assert (
        folders == {row, teacher} - {None} and (tmp_path / row / "seed0" / "summary.json").exists()
    )
    assert ("it learns from a teacher" in printed) == bool(teacher)
    assert not teacher or f"teacher: {METHODS[teacher].title}, seed 0: accuracy" in printed


@pytest.mark.parametrize(
    "changes, error",
    [
        ({"min_accuracy": 0.99}, "AssertionError: mean accuracy 0.*expected at least 0.99"),
        (
            {"epochs": 100_000, "eval_every": 100_000, "max_seconds": 0.2},
            "OutOfTime: saved .* of 100000 epochs",
        ),
        ({"learning_rate": 1.0e30, "warmup_epochs": 0}, "ValueError: loss: not finite in epoch"),
    ],
)
def test_what_ends_a_run_is_raised(changes, error, monkeypatch, tmp_path):
    """So papermill sees it, and `genscl reproduce`."""
    texts = cells_with("ce", out=str(tmp_path / "ce"), **changes)
    with pytest.raises(Exception, match=".") as raised:
        run(
            needed_cells(
                texts, [index_of(texts, "watch = live_curve()"), index_of(texts, "floor_of_row(")]
            ),
            monkeypatch,
        )
    assert re.match(error, raised.exconly().rpartition("genscl_lite.train.loop.")[2]), (
        raised.exconly()
    )


def test_simclr_has_a_lower_floor():
    names = {}
    exec(next(source(cell) for cell in code_of("07_train") if "parameters" in tags(cell)), names)
    assert names["by_method"]["simclr"]["min_accuracy"] < names["min_accuracy"]


def test_a_preset_is_one_word(monkeypatch, tmp_path):
    texts = [
        text.replace('preset = ""', 'preset = "digits"')
        for text in cells_with("supcon", out=str(tmp_path))
    ]
    printed = run(needed_cells(texts, [index_of(texts, "it learns from a teacher")]), monkeypatch)
    assert "SupCon on digits, 5 seed(s), 200 epochs" in printed


def test_a_wrong_loss_of_a_learner_stops_nothing(monkeypatch):
    texts = cells_with("genscl_mix")
    exercise = index_of(texts, "def gen_loss(", "NotImplementedError")
    texts[exercise] = "def gen_loss(z, y, tau):\n    return 0 * z.sum() / 0"
    used = index_of(texts, "my_loss = solved_or(")
    texts[used] = texts[used].replace("epochs=40", "epochs=6")
    printed = run(needed_cells(texts, [exercise, exercise + 1, used]), monkeypatch)
    assert "gen_loss: not yet. Case 1 of 3 gives nan" in printed
    assert "gen_loss does not train: loss: not finite in epoch 1, step 1 of 2" in printed
