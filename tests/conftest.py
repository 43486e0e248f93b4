import dataclasses

import pytest
import torch

from genscl_lite.datasets import load_dataset
from genscl_lite.train.config import TrainConfig

torch.set_num_threads(1)  # small networks; and results do not depend on the number of cores

QUICK = {"labels_per_class": 3, "epochs": 3, "warmup_epochs": 1, "batch_size": 12, "queue_size": 20, "probe_epochs": 2,
         "eval_every": 2, "checkpoint_every": 1, "latent_dim": 16}  # fmt: skip
"""A run of a fraction of a second: 30 images, batches of 12, 12 and 6."""


@pytest.fixture(scope="session")
def digits():
    return load_dataset("digits", labels_per_class=3)


@pytest.fixture
def quick():
    def make(method="genscl_mix", **changes):
        return TrainConfig(**QUICK | {"method": method} | changes)

    return make


@pytest.fixture(scope="session")
def rgb(digits):
    """The digits as 32 x 32 colour images, for what CIFAR's configuration does."""

    def colour(images):
        return images.repeat(1, 3, 4, 4)

    return dataclasses.replace(digits, train_images=colour(digits.train_images), test_images=colour(digits.test_images)[:50],
                               test_labels=digits.test_labels[:50], mean=digits.mean * 3, std=digits.std * 3)
