"""For all tests, doctests and notebooks: CPUs alone, one thread a process, slow files first."""

import os

import pytest

os.environ["CUDA_VISIBLE_DEVICES"] = ""  # tests compare bit for bit, on CPUs; notebooks' kernels inherit this
for threads in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[threads] = "1"  # processes run side by side; and results do not depend on cores

SLOWEST = (
    "test_launch", "test_own_images", "09_see_the_space", "05_distillation", "06_momentum_contrast",
    "07_train", "test_processes",
)
"""Begun first, so that no process waits at the end for one of them."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    """No more processes than cores that may be used, which in a container are fewer than the machine's."""
    from genscl_lite.datasets.cores import usable_cores

    return usable_cores()


def pytest_collection_modifyitems(items):
    place = {stem: number for number, stem in enumerate(SLOWEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(SLOWEST)))
