import re

import numpy as np
import pytest
import torch

from genscl_lessons.exercises import (
    UNSOLVED,
    ParameterError,
    check,
    checked_parameters,
    solved_or,
)


@pytest.mark.parametrize(
    "answer, verdict",
    [
        (np.ones(3), "correct on 1 case"),
        (torch.ones(3, requires_grad=True), "correct on 1 case"),
        ([1, 1, 1], "correct on 1 case"),
        (
            np.ones(4),
            r"not yet. Case 1 of 1 gives values of shape \(4,\), first 1, "
            r"expected values of shape \(3,\), first 1",
        ),
        (np.zeros(0), "gives values of shape"),
        (None, "gives None"),
        ("x", "gives 'x'"),
        (np.array([1, 1, 2]), r"gives 2 at \[2\], expected 1"),
        (
            np.array([1, np.nan, 1]),
            r"gives nan at \[1\], expected 1 \(not a number comes from 0 / 0",
        ),
    ],
)
def test_answers_of_any_kind_get_a_verdict(answer, verdict, capsys):
    must = np.ones(3)
    must.flags.writeable = False
    check(lambda _: answer, [(0,)], lambda _: must, why="it is so")
    assert re.search(verdict, capsys.readouterr().out)


def test_an_error_in_an_answer_is_told_and_stops_nothing(capsys):
    check(lambda x: 1 / x, [(0,)], lambda x: 0, why="it is so")
    assert "raises ZeroDivisionError" in capsys.readouterr().out


@pytest.mark.parametrize("error", [ValueError, FileNotFoundError])
def test_a_wrong_parameter_is_one_line(error):
    with pytest.raises(ParameterError, match="too small") as raised, checked_parameters():
        raise error("epochs: too small")
    assert raised.value._render_traceback_() == ["ParameterError: epochs: too small"]


@pytest.mark.parametrize("error", [NotImplementedError, ZeroDivisionError("no contrasts")])
def test_what_does_not_run_is_replaced_and_told_in_one_line(error, capsys):
    def loss(z):
        raise error

    assert solved_or(loss, abs, (1,)) is abs
    [line] = capsys.readouterr().out.splitlines()
    assert line.startswith("loss: ") and line.endswith(UNSOLVED)
    assert ("no contrasts" in line) == (error is not NotImplementedError)


def test_what_runs_is_used_without_a_word(capsys):
    assert solved_or(abs, max, (1,)) is abs and capsys.readouterr().out == ""


def test_a_pair_of_answers_is_compared_part_by_part(capsys):
    def expected(x):
        return torch.ones(2), torch.zeros(3)

    for answer in (expected(0), (torch.ones(2), torch.ones(3)), (torch.ones(2),), torch.ones(2)):
        check(lambda x, answer=answer: answer, [(0,)], expected, why="it is so")
    verdicts = capsys.readouterr().out.splitlines()
    assert ["correct" in verdict for verdict in verdicts] == [True, False, False, False]
    assert "Case 1 of 1 gives in part 2 of 2 1 at [0], expected 0." in verdicts[1]
    assert "gives (values of shape (2,), first 1), expected (values of shape (2,)" in verdicts[2]
