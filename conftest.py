"""For all tests, doctests and notebooks: CPUs alone, one thread a process, slow files first."""

import os

import joblib
import pytest

os.environ["CUDA_VISIBLE_DEVICES"] = ""  # tests compare bit for bit; notebooks' kernels inherit it
for threads in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[threads] = "1"  # small networks, processes side by side; no result depends on cores

pytest_plugins = ["nbval.plugin"]  # after this, and not of its own accord

SLOWEST = (
    "10_see_the_space",
    "05_distillation",
    "test_launch",
    "test_own_images",
    "06_momentum_contrast",
    "07_the_loop",
    "08_train",
    "04_mixup_cutmix",
    "03_generalized_loss",
    "test_processes",
    "test_streaming",
    "test_loop",
    "test_train_notebook",
    "test_cifar",
    "test_trained",
)
"""Begun first, so that no process waits at the end for one of them."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    """No more processes than cores that may be used, which in a container are fewer than the machine's."""
    return joblib.cpu_count()


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.suffix == ".ipynb":
            item.add_marker("slow")
    place = {stem: number for number, stem in enumerate(SLOWEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(SLOWEST)))
