"""Notebook 08: any row by one word, seven parameters, and what ends a run. Notebook 07: a learner's own loss."""

import ast
import re

import pytest

from genscl_lite.train.methods import METHODS, TEACHERS
from tests.conftest import QUICK
from tests.lessons.test_notebooks import code_of, needed_cells, run, source, tags

PARAMETERS = {
    "preset": "str",
    "method": "str",
    "overrides": "dict",
    "seeds": "int",
    "out": "str",
    "data_root": "str",
    "max_seconds": "float",
}
SHORT = QUICK | {"min_accuracy": 0.0}


def cells_with(name="08_train", **changes):
    """Return a notebook's code with parameters as papermill injects them."""
    texts = []
    for cell in code_of(name):
        texts.append(source(cell))
        if "parameters" in tags(cell):
            texts.append("\n".join(f"{name} = {value!r}" for name, value in changes.items()))
    return texts


def index_of(texts, *words):
    [found] = [k for k, text in enumerate(texts) if all(word in text for word in words)]
    return found


def train(monkeypatch, **changes):
    """Run what trains and what looks at the accuracy; return what is printed."""
    texts = cells_with(**changes)
    words = (
        "it learns from a teacher",
        "for teacher in teachers:\n    for",
        "watch, summaries",
        "mean >=",
    )
    return run(needed_cells(texts, [index_of(texts, word) for word in words]), monkeypatch)


def test_its_parameters_are_seven_typed_lines_that_papermill_can_read():
    [cell] = [cell for cell in code_of("08_train") if "parameters" in tags(cell)]
    lines = source(cell).splitlines()
    found = [ast.parse(line).body[0] for line in lines]
    assert {node.target.id: node.annotation.id for node in found} == PARAMETERS
    for line, node in zip(lines, found, strict=True):
        assert "  # " in line and type(ast.literal_eval(node.value)).__name__ == node.annotation.id


@pytest.mark.slow
@pytest.mark.parametrize("row", [name for name in METHODS if name not in TEACHERS])
def test_any_row_is_one_word(row, monkeypatch, tmp_path):
    """A row with KD has its teacher trained first, beside it; and its accuracy passes."""
    printed = train(monkeypatch, method=row, overrides=SHORT, out=str(tmp_path))
    teacher = ("expert" if METHODS[row].expert else "ce_mix") if METHODS[row].distils else None
    assert {path.name for path in tmp_path.iterdir()} == {row, teacher} - {None}
    assert (tmp_path / row / "seed0" / "summary.json").exists()
    assert ("it learns from a teacher" in printed) == bool(teacher)
    assert not teacher or f"teacher: {METHODS[teacher].title}, seed 0: accuracy" in printed
    assert "seed 0: 3 epochs in float32, about" in printed


@pytest.mark.parametrize(
    "changes, error",
    [
        ({"min_accuracy": 0.99}, "AssertionError: mean accuracy 0.*expected at least 0.99"),
        ({"epochs": 100_000, "eval_every": 100_000}, "OutOfTime: saved .* of 100000 epochs"),
        ({"learning_rate": 1.0e30, "warmup_epochs": 0}, "ValueError: loss: not finite in epoch"),
        ({"epochz": 3}, ".*ParameterError: overrides: 'epochz' is no parameter .did you mean"),
    ],
)
def test_what_ends_a_run_is_raised(changes, error, monkeypatch, tmp_path):
    """So papermill sees it, and `genscl reproduce`."""
    seconds = 0.2 if changes.get("epochs") else 0.0
    with pytest.raises(Exception, match=".") as raised:
        train(
            monkeypatch,
            method="ce",
            overrides=SHORT | changes,
            out=str(tmp_path / "ce"),
            max_seconds=seconds,
        )
    said = raised.exconly().rpartition("genscl_lite.train.loop.")[2]
    assert re.match(error, said), said
    assert "epochz" not in changes or not list(tmp_path.iterdir())


def test_seeds_are_those_of_the_preset_if_none_are_asked_for(monkeypatch):
    texts = cells_with(method="supcon", seeds=0)
    printed = run(needed_cells(texts, [index_of(texts, "it learns from a teacher")]), monkeypatch)
    assert "SupCon on digits, 5 seed(s), 80 epochs" in printed


def test_the_loop_by_hand_is_that_of_the_kit(monkeypatch):
    texts = cells_with("07_the_loop")
    printed = run(needed_cells(texts, [index_of(texts, "by_hand = train_by_hand(")]), monkeypatch)
    assert printed.endswith("the same\n") and "not the same" not in printed


def test_a_wrong_loss_of_a_learner_stops_nothing(monkeypatch):
    texts = cells_with("07_the_loop", epochs=6, seeds=2)
    own = index_of(texts, "def my_loss(")
    texts[own] = texts[own].replace("raise NotImplementedError", "return 0 * z.sum() / 0")
    used = [index_of(texts, "by_hand = train_by_hand("), index_of(texts, "def train_row(")]
    printed = run(needed_cells(texts, [own, own + 1, *used]), monkeypatch)
    assert "my_loss: not yet. Case 1 of 3 gives nan" in printed
    assert "not the same: look at exercise 1 and at my_loss" in printed
    assert "my_loss does not train: loss: not finite in epoch 1, step 1 of 2" in printed
