"""Short checks whose messages name the argument, what was expected and what came."""

import difflib
import math
import numbers


def nearest(name: object, choices) -> str:
    """Return " (did you mean 'x'?)" for the choice most like ``name``, or nothing.

    >>> nearest("sup_con", ["ce", "supcon"])
    " (did you mean 'supcon'?)"
    """
    close = difflib.get_close_matches(str(name), list(choices), n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""


def require_choice(argument: str, value: object, choices) -> None:
    """Raise ValueError unless ``value`` is one of ``choices``, with the nearest one as a hint."""
    if value not in choices:
        raise ValueError(f"{argument}: {value!r} is unknown{nearest(value, choices)}; expected one of {', '.join(choices)}")


def require_positive(argument: str, value: float) -> None:
    """Raise ValueError unless ``value`` is a finite number above 0."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value) or value <= 0:
        raise ValueError(f"{argument}: expected a number above 0, got {value!r}")


def require_whole(argument: str, value: int, least: int = 1) -> None:
    """Raise ValueError unless ``value`` is a whole number of at least ``least``.

    >>> require_whole("steps", 2.5)
    Traceback (most recent call last):
    ValueError: steps: expected a whole number of at least 1, got 2.5
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise ValueError(f"{argument}: expected a whole number of at least {least}, got {value!r}")
