"""A data set of one's own: registered by name, or named by module and function."""

import sys
import types
from dataclasses import replace

import pytest
import torch

from genscl_lite.datasets import dataset, load_data, load_dataset
from genscl_lite.datasets.registry import LOADERS
from genscl_lite.train.config import TrainConfig
from genscl_lite.train.loop import pretrain


def zeros_and_ones(root, config):
    """The digits 0 and 1 alone."""
    digits = load_dataset("digits")
    train, test = digits.train_labels < 2, digits.test_labels < 2
    return replace(
        digits,
        train_images=digits.train_images[train],
        train_labels=digits.train_labels[train],
        test_images=digits.test_images[test],
        test_labels=digits.test_labels[test],
        class_names=("0", "1"),
    )


@pytest.fixture(params=["registered", "module:function"])
def name(request, monkeypatch):
    if request.param == "registered":
        dataset("zeros_and_ones")(zeros_and_ones)
        yield "zeros_and_ones"
        del LOADERS["zeros_and_ones"]
    else:
        module = types.ModuleType("my_data")
        module.load, module.nothing = zeros_and_ones, lambda root, config: None
        monkeypatch.setitem(sys.modules, "my_data", module)
        yield "my_data:load"


def test_it_is_loaded_and_trained_on(name, quick):
    config = quick("supcon", dataset=name)
    images = load_data(config)
    assert images.name == name and images.train_labels.bincount().tolist() == [3, 3]
    run = pretrain(config, images)
    assert run.epoch == config.epochs and torch.isfinite(torch.tensor(run.log[-1]["loss"]))


@pytest.mark.parametrize(
    "wrong, message",
    [
        (
            "digit",
            "dataset: 'digit' is unknown .did you mean 'digits'..; expected one of digits, cifar10, cifar100, folder, custom, module:function",
        ),
        ("no such module:load", "dataset: 'no such module:load' is unknown"),
        (
            "no_such_module:load",
            "dataset: 'no_such_module:load': module 'no_such_module' cannot be imported: No module named",
        ),
        (
            "json:load_images",
            "dataset: 'json:load_images': module 'json' has no function 'load_images'",
        ),
    ],
)
def test_what_is_not_there_is_said_before_any_work(wrong, message):
    with pytest.raises(ValueError, match=f"^{message}[^\n]*$"):
        load_data(TrainConfig(dataset=wrong))


def test_a_function_that_returns_something_else_is_named(monkeypatch):
    module = types.ModuleType("my_data")
    module.nothing = lambda root, config: None
    monkeypatch.setitem(sys.modules, "my_data", module)
    with pytest.raises(
        ValueError, match="dataset: my_data:nothing returned NoneType, expected a Dataset"
    ):
        load_data(TrainConfig(dataset="my_data:nothing"))


def test_a_data_set_without_a_file_is_given_from_python():
    with pytest.raises(
        ValueError, match="dataset: 'custom' is a Dataset of your own; it cannot be loaded by name"
    ):
        load_data(TrainConfig(dataset="custom"))
