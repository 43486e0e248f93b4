"""What every notebook needs: parameters that stop it with one line, and exercises that check themselves."""

from collections.abc import Callable, Iterable
from contextlib import contextmanager

import numpy as np
import torch

from genscl_lite._checks import require_choice, require_positive, require_whole

__all__ = [
    "UNSOLVED",
    "ParameterError",
    "check",
    "checked_parameters",
    "compare_prediction",
    "positive",
    "solved_or",
    "whole",
    "require_choice",
    "require_positive",
    "require_whole",
]

UNSOLVED = "not solved yet"
NAN = " (not a number comes from 0 / 0, 0 * inf or inf - inf)"


class ParameterError(ValueError):
    """A wrong parameter of a notebook. Jupyter shows it as one line, without a traceback."""

    def _render_traceback_(self) -> list[str]:
        return [f"{type(self).__name__}: {self}"]


@contextmanager
def checked_parameters():
    """Turn what the checks inside raise (a wrong value, a missing file) into a ``ParameterError``.

    >>> with checked_parameters():
    ...     require_positive("temperature", -1)
    Traceback (most recent call last):
    genscl_lessons.exercises.ParameterError: temperature: expected a number above 0, got -1
    """
    try:
        yield
    except (ValueError, FileNotFoundError) as error:
        raise ParameterError(str(error)) from None


def positive(**values: float) -> None:
    """Raise ValueError unless all values are numbers above 0.

    >>> positive(temperature=0.1, learning_rate=0)
    Traceback (most recent call last):
    ValueError: learning_rate: expected a number above 0, got 0
    """
    for name, value in values.items():
        require_positive(name, value)


def whole(least: int = 1, **values: int) -> None:
    """Raise ValueError unless all values are whole numbers of at least ``least``.

    >>> whole(steps=60, seeds=0)
    Traceback (most recent call last):
    ValueError: seeds: expected a whole number of at least 1, got 0
    """
    for name, value in values.items():
        require_whole(name, value, least)


CHANGES = "falls", "stays", "rises"


def compare_prediction(
    prediction: str, what: str, before: float, after: float, still: float, unit: str = "points"
) -> None:
    """Print what a changed dial did, beside the learner's prediction. Never stops the notebook.

    Args:
        prediction: "falls", "stays" or "rises"; anything else counts as none.
        what: the quantity that was predicted.
        before, after: its value at the default and at the learner's setting.
        still: changes up to this size count as "stays".
        unit: of the change.

    >>> compare_prediction("rises", "accuracy", 90, 84.5, still=1)
    accuracy: 90 before, 84.5 after (-5.5 points), so it falls. You said rises: what did you miss?
    >>> compare_prediction("stays", "accuracy", 90, 90.5, still=1)
    accuracy: 90 before, 90.5 after (+0.5 points), so it stays. You said so.
    >>> compare_prediction("", "accuracy", 90, 90, still=1)
    accuracy: no prediction yet. Write "falls", "stays" or "rises", turn the dial, and run the cell
    """
    if prediction not in CHANGES:
        choices = '"falls", "stays" or "rises"'
        print(f"{what}: no prediction yet. Write {choices}, turn the dial, and run the cell")
        return
    change = after - before
    outcome = CHANGES[1 + (change > still) - (change < -still)]
    verdict = (
        "You said so." if outcome == prediction else f"You said {prediction}: what did you miss?"
    )
    numbers = f"{before:.3g} before, {after:.3g} after ({change:+.2g} {unit}".rstrip() + ")"
    print(f"{what}: {numbers}, so it {outcome}. {verdict}")


def check(
    solution: Callable,
    cases: Iterable[tuple],
    expected: Callable,
    why: str,
    tolerance: float = 1e-5,
) -> None:
    """Print whether a learner's function does what it must, and why it must. Never stops the notebook.

    Args:
        solution: the learner's function. While it raises NotImplementedError, the exercise is not solved.
        cases: arguments to try, a tuple for each call.
        expected: takes the same arguments and returns what must come out: a number, a tensor, an array, or a
            tuple of them.
        why: the reason, one sentence, printed with the verdict.
        tolerance: largest difference allowed.

    >>> def double(x):
    ...     raise NotImplementedError
    >>> check(double, [(1,), (2,)], lambda x: x + x, "twice is once more")
    double: not solved yet
    >>> check(lambda x: x**2, [(2,), (3,)], lambda x: x + x, "twice is once more")
    <lambda>: not yet. Case 2 of 2 gives 9, expected 6. Why: twice is once more
    >>> check(lambda x: x**2, [(np.array([2, 3]),)], lambda x: x + x, "twice is once more")
    <lambda>: not yet. Case 1 of 1 gives 9 at [1], expected 6. Why: twice is once more
    >>> check(lambda x: 2 * x, [(2,), (3,)], lambda x: x + x, "twice is once more")
    <lambda>: correct on 2 cases. Why: twice is once more
    """
    cases = list(cases)
    name = solution.__name__
    for number, case in enumerate(cases, 1):
        not_yet = f"{name}: not yet. Case {number} of {len(cases)}"
        try:
            answer = solution(*case)
        except NotImplementedError:
            print(f"{name}: {UNSOLVED}")
            return
        except Exception as error:  # whatever a learner's code does, the notebook goes on
            print(f"{not_yet} raises {type(error).__name__}: {error}. Why: {why}")
            return
        solved = expected(*case)
        if not _equal(answer, solved, tolerance):
            print(f"{not_yet} gives {_difference(answer, solved, tolerance)}. Why: {why}")
            return
    print(f"{name}: correct on {len(cases)} case{'s' if len(cases) > 1 else ''}. Why: {why}")


def solved_or(solution: Callable, reference: Callable, example_arguments: tuple) -> Callable:
    """Return a learner's function for the rest of the notebook, or ``reference`` while it does not run.

    Whether its values are right is for ``check`` to say.

    Args:
        solution: the learner's function.
        reference: takes the same arguments and is right.
        example_arguments: of one call; ``solution`` is tried with them.

    >>> def double(x):
    ...     raise NotImplementedError
    >>> solved_or(double, lambda x: 2 * x, (3,))(4)
    double: below, the kit's own function takes its place, for yours is not solved yet
    8
    >>> solved_or(lambda x: x + x, lambda x: 2 * x, (3,))("ab")
    'abab'
    """
    try:
        solution(*example_arguments)
    except NotImplementedError:
        fault = ""
    except Exception as error:  # whatever a learner's code does, the notebook goes on
        fault = f"raises {type(error).__name__}: {error}; "
    else:
        return solution
    instead = "below, the kit's own function takes its place, for yours is"
    print(f"{solution.__name__}: {fault}{instead} {UNSOLVED}")
    return reference


def _equal(answer: object, expected: object, tolerance: float) -> bool:
    if isinstance(expected, tuple):
        parts = isinstance(answer, tuple) and len(answer) == len(expected)
        return parts and all(
            _equal(*pair, tolerance) for pair in zip(answer, expected, strict=True)
        )
    try:
        answer, expected = _array(answer), _array(expected)
    except (TypeError, ValueError):
        return False
    return answer.shape == expected.shape and np.allclose(answer, expected, rtol=0, atol=tolerance)


def _difference(answer: object, expected: object, tolerance: float) -> str:
    """Say what came out and what must; of arrays of one shape, the first entry that differs."""
    if isinstance(expected, tuple):
        if not isinstance(answer, tuple) or len(answer) != len(expected):
            return f"{_short(answer)}, expected {_short(expected)}"
        pairs = list(zip(answer, expected, strict=True))
        part = next(k for k, pair in enumerate(pairs) if not _equal(*pair, tolerance))
        return f"in part {part + 1} of {len(pairs)} {_difference(*pairs[part], tolerance)}"
    try:
        given, right = _array(answer), _array(expected)
    except (TypeError, ValueError):
        given, right = np.empty(0), np.empty(1)
    if given.shape != right.shape:
        return f"{_short(answer)}, expected {_short(expected)}"
    if given.ndim == 0:
        return f"{_short(answer)}, expected {_short(expected)}" + NAN * bool(np.isnan(given))
    place = tuple(np.argwhere(~np.isclose(given, right, rtol=0, atol=tolerance))[0].tolist())
    cause = NAN * bool(np.isnan(given[place]))
    return f"{given[place]:.4g} at {list(place)}, expected {right[place]:.4g}{cause}"


def _array(value: object) -> np.ndarray:
    if value is None:  # NumPy would take it for NaN
        raise TypeError("no answer")
    return np.asarray(
        value.detach().cpu() if isinstance(value, torch.Tensor) else value, dtype=np.float64
    )


def _short(value: object) -> str:
    if isinstance(value, tuple):
        return f"({'; '.join(map(_short, value))})"
    try:
        numbers = _array(value)
    except (TypeError, ValueError):
        return repr(value)
    if numbers.ndim == 0:
        return f"{numbers:.4g}"
    return f"values of shape {numbers.shape}" + (
        f", first {numbers.flat[0]:.4g}" if numbers.size else ""
    )
