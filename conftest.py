"""For all tests, doctests and notebooks: CPUs alone, one thread a process, slow files first."""

import os

import joblib
import pytest

os.environ["CUDA_VISIBLE_DEVICES"] = ""  # tests compare bit for bit; notebooks' kernels inherit it
for threads in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[threads] = "1"  # small networks, processes side by side; no result depends on cores

pytest_plugins = ["nbval.plugin"]  # after this, and not of its own accord

SLOWEST = (
    "test_launch",
    "05_distillation",
    "test_two_processes",
    "test_studies",
    "10_see_the_space",
    "06_momentum_contrast",
    "04_mixup_cutmix",
    "test_own_images",
    "08_train",
    "07_the_loop",
    "test_memory",
    "test_recipes",
    "test_package",
    "test_cifar",
    "test_trained",
    "test_loop",
    "test_streaming",
    "03_generalized_loss",
    "01_binary_supcon",
    "02_label_similarity",
    "09_reproduce_table",
    "test_train_notebook",
    "test_teachers",
    "test_fine_tuning",
)
"""Files begun first, the slowest at the front, so that no process waits at the end for one of them."""


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
