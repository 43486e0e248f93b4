"""Images and labels: digits (offline), CIFAR, folders of images, data sets of your own."""

from genscl_lite._checks import require_packages

PACKAGES = (
    "numpy",
    "torchvision",
    "pandas",
    "sklearn",
    "joblib",
    "filelock",
    "safetensors",
    "yaml",
    "timm",
)
require_packages("train", *PACKAGES)  # names what is missing before the imports below fail

from genscl_lite.datasets import builtin, folder  # noqa: F401, each registers its data sets
from genscl_lite.datasets.registry import (
    Dataset,
    check_dataset,
    dataset,
    few_labels,
    load_data,
    load_dataset,
)

__all__ = ["Dataset", "check_dataset", "dataset", "few_labels", "load_data", "load_dataset"]
