"""For all tests, doctests and notebooks: CPUs alone, one thread a process, a notebook's cells together."""

import os

os.environ["CUDA_VISIBLE_DEVICES"] = ""  # tests compare bit for bit, on CPUs; notebooks' kernels inherit this
os.environ["OMP_NUM_THREADS"] = "1"  # processes run side by side; and results do not depend on cores

import pytest

SLOWEST = (
    "test_launch", "test_own_images", "09_see_the_space", "05_distillation", "06_momentum_contrast",
    "07_train", "test_processes",
)
"""Begun first, so that no process waits at the end for one of them."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.suffix == ".ipynb":
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
    place = {stem: number for number, stem in enumerate(SLOWEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(SLOWEST)))
