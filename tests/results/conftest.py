"""The studies beside the results find what they share; CIFAR's place is taken by digits of its size."""

import dataclasses
import importlib

import pytest
import yaml

from genscl_lite.runs.paths import RESULTS
from tests.conftest import QUICK
from tests.scripts import load_script

RECIPE = {
    "dataset": "cifar10",
    "arch": "whitened_small",
    "optimizer": "muon",
    "learning_rate": 0.1,
    "warmup_share": 0.1,
    "augmentation": "shift",
    "decay_1d": False,
    "momentum": 0.99,
}


@pytest.fixture
def study(monkeypatch):
    """Load a script of data/results by its name."""
    monkeypatch.syspath_prepend(str(RESULTS))
    return lambda name: load_script(RESULTS / f"{name}.py")


@pytest.fixture
def recipe(tmp_path):
    """Write a preset of the recipe for runs of a few steps; return its path."""
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(QUICK | RECIPE))
    return str(path)


@pytest.fixture
def photographs(rgb, monkeypatch, study):
    """Digits of CIFAR's size and name take its place."""
    studies = importlib.import_module("studies")
    data = dataclasses.replace(rgb, name="cifar10")
    monkeypatch.setattr(studies, "validation_split", lambda *_, **__: data)
    return data
