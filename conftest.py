"""For all tests, doctests and notebooks: CPUs alone, one thread a process, slow files first."""

import gc
import os
import runpy
import sys
from pathlib import Path

import pytest

os.environ["CUDA_VISIBLE_DEVICES"] = (
    ""  # tests compare bit for bit, on CPUs; notebooks' kernels inherit this
)
for threads in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[threads] = (
        "1"  # small networks, processes side by side; and results do not depend on cores
    )

sys.modules["rfc3987_syntax"] = None  # jsonschema does without it; it takes seconds to load
pytest_plugins = ["nbval.plugin"]  # so after this, and not of its own accord

SLOWEST = (
    "09_see_the_space",
    "05_distillation",
    "test_launch",
    "test_own_images",
    "06_momentum_contrast",
    "07_train",
    "04_mixup_cutmix",
    "03_generalized_loss",
    "test_streaming",
    "test_loop",
    "test_train_notebook",
    "test_processes",
    "test_cifar",
    "test_trained",
)
"""Begun first, so that no process waits at the end for one of them."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    """No more processes than cores that may be used, which in a container are fewer than the machine's."""
    cores = Path(__file__).parent / "genscl_lite/datasets/cores.py"  # without the package: seconds
    return runpy.run_path(str(cores))["usable_cores"]()


def pytest_collection_modifyitems(items):
    place = {stem: number for number, stem in enumerate(SLOWEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(SLOWEST)))


def pytest_collection_finish():
    """In each process that tests, before it does."""
    from tests.kernels import fork_all

    gc.collect()
    gc.freeze()  # torch and thousands of tests stay; the collector need not look at them again and again
    gc.set_threshold(100_000, 20, 100)
    fork_all()
