"""Cases in which each value of an option meets each value of every other option at least once."""

from collections.abc import Iterable
from itertools import combinations, product


def pairwise(*options: Iterable) -> list[tuple]:
    """Choose cases among all combinations, the one with most new pairs first.

    >>> pairwise("ab", (1, 2), (True, False))
    [('a', 1, True), ('a', 2, False), ('b', 1, False), ('b', 2, True)]
    """
    rest = list(product(*map(list, options)))
    pairs = [set(combinations(enumerate(map(str, case)), 2)) for case in rest]
    missing, chosen = set().union(*pairs), []
    while missing:
        best = max(range(len(rest)), key=lambda k: len(pairs[k] & missing))
        missing -= pairs[best]
        chosen.append(rest[best])
    return chosen
