"""Runs of a fraction of a second and their images. The kit is imported where it is used: pytest's first process only
waits for those that test, and should start them at once."""

import dataclasses

import pytest

QUICK = {"labels_per_class": 3, "epochs": 3, "warmup_epochs": 1, "batch_size": 12, "queue_size": 20, "probe_epochs": 2,
         "eval_every": 2, "checkpoint_every": 1, "latent_dim": 16, "precision": "float32", "optimizer": "sgd",
         "learning_rate": 0.2, "decay_1d": True}  # fmt: skip
"""A run of a fraction of a second: 30 images, three batches of 12, and no types to be compared before them."""


@pytest.fixture(scope="session")
def digits():
    """The digits with three labels a class, and of the 797 test images 150."""
    from genscl_lite.datasets import load_dataset

    whole = load_dataset("digits", labels_per_class=3)
    return dataclasses.replace(
        whole, test_images=whole.test_images[:150], test_labels=whole.test_labels[:150]
    )


@pytest.fixture
def quick():
    from genscl_lite.train.config import TrainConfig

    def make(method="genscl_mix", **changes):
        return TrainConfig(**QUICK | {"method": method} | changes)

    return make


@pytest.fixture(scope="session")
def rgb(digits):
    """The digits as 32 x 32 color images, for what CIFAR's configuration does."""

    def color(images):
        return images.repeat(1, 3, 4, 4)

    return dataclasses.replace(
        digits,
        train_images=color(digits.train_images),
        test_images=color(digits.test_images)[:50],
        test_labels=digits.test_labels[:50],
        mean=digits.mean * 3,
        std=digits.std * 3,
    )
