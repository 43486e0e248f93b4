import math
import sys

import pytest
import torch

from genscl_lite._checks import (
    check_labels,
    nearest,
    require_choice,
    require_packages,
    require_positive,
    require_whole,
)
from genscl_lite._rows import repeat_for_views


def test_the_nearest_choice_is_suggested():
    with pytest.raises(ValueError) as error:
        require_choice("method", "gensl", ["ce", "genscl"])
    assert str(error.value).startswith(
        "method: 'gensl' is unknown (did you mean 'genscl'?); expected"
    )
    require_choice("method", "ce", ["ce", "genscl"])
    assert nearest("zzz", ["ce", "genscl"]) == ""


@pytest.mark.parametrize("value", [0, -1.0, math.nan, math.inf, True, "1", None])
def test_only_positive_numbers_pass(value):
    with pytest.raises(ValueError, match="alpha: expected a number above 0, got "):
        require_positive("alpha", value)
    require_positive("alpha", 1e-9)
    for number in (1e-31, 1e31):
        with pytest.raises(
            ValueError, match="alpha: expected a number above 0, from 1e-30 to 1e30, got "
        ):
            require_positive("alpha", number)


@pytest.mark.parametrize("value", [1, 2.0, True, "3", None])
def test_only_whole_numbers_pass(value):
    with pytest.raises(ValueError, match="steps: expected a whole number of at least 2, got "):
        require_whole("steps", value, least=2)
    require_whole("steps", 2, least=2)


def test_missing_packages_are_named_in_one_line_and_nothing_is_imported():
    require_packages("train", "torch", "this")  # ``this`` prints a poem when it is imported
    assert "this" not in sys.modules
    with pytest.raises(ImportError) as error:
        require_packages("train", "torch", "no_such_package", "nor_this")
    assert (
        str(error.value)
        == f"{__name__} needs no_such_package, nor_this: pip install 'genscl-lite[train]'"
    )


def test_labels_of_views_stand_view_by_view():
    classes, each = torch.tensor([3, 4]), torch.tensor([[1, 2, 3], [4, 5, 6]])
    assert repeat_for_views(classes, 2, 3).tolist() == [3, 4, 3, 4, 3, 4]
    assert repeat_for_views(each, 2, 3).tolist() == [1, 4, 2, 5, 3, 6]


@pytest.mark.parametrize("classes", [2, 10, 100])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_sums_may_be_off_by_the_rounding_of_each_class(classes, dtype):
    """Rounded to two decimals, or by the type; half a label more is still an error."""
    y = torch.randn(500, classes, generator=torch.Generator().manual_seed(0)).softmax(1)
    check_labels("labels", ((y * 100).round() / 100 if classes < 100 else y).to(dtype))
    tolerance = min(0.1, 0.005 * classes)
    check_labels("labels", y.to(dtype) * (1 + 0.5 * tolerance))
    with pytest.raises(ValueError, match="labels: expected distributions, but row 7 sums to"):
        check_labels("labels", torch.cat([y[:7], y[7:] * (1.02 + tolerance)]).to(dtype))
    with pytest.raises(ValueError, match="labels: expected distributions, but row 7 sums to"):
        check_labels("labels", torch.cat([y[:7], y[7:] * (0.98 - tolerance)]).to(dtype))
