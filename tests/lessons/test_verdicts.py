import pytest

from genscl_lessons.verdicts import difference


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
