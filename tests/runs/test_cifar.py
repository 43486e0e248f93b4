"""The whole way on real photographs: 500 images of CIFAR-10 and a small network, from teacher to probe."""

import dataclasses

import pytest

from genscl_lite.datasets import load_dataset
from genscl_lite.runs.finish import finish_run
from genscl_lite.train.config import TrainConfig
from genscl_lite.train.loop import pretrain


@pytest.fixture(scope="module")
def cifar(cifar10_root):
    images = load_dataset("cifar10", cifar10_root, labels_per_class=50)
    return dataclasses.replace(
        images, test_images=images.test_images[:500], test_labels=images.test_labels[:500]
    )


def test_teacher_student_and_probe_learn_from_photographs(cifar, tmp_path):
    recipe = {
        "dataset": "cifar10",
        "labels_per_class": 50,
        "arch": "resnet_small",
        "augmentation": "crop_jitter",
        "seed": 1,
        "epochs": 2,
        "warmup_epochs": 1,
        "batch_size": 50,
        "queue_size": 200,
        "mix_per_image": False,
        "probe_epochs": 3,
        "probe_augmentation": "crop",
        "eval_every": 2,
        "ema": 0.9,
    }
    for method, views in (("teacher", 1), ("genscl_mix_kd_queue", 2)):
        folder, teacher = (
            tmp_path / method / "seed1",
            "" if method == "teacher" else str(tmp_path / "teacher"),
        )
        config = TrainConfig(method=method, views=views, teacher=teacher, **recipe)
        summary = finish_run(pretrain(config, cifar, folder, device="cpu"), cifar, folder)
        assert summary["accuracy_last"] > 0.15  # of ten classes
