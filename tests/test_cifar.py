"""The whole way on real photographs: 1,000 images of CIFAR-10 and a small network, from teacher to probe."""

import dataclasses

import pytest
import torch

from genscl_lite.config import TrainConfig
from genscl_lite.data import load_dataset
from genscl_lite.results import finish_run
from genscl_lite.training import pretrain


@pytest.fixture(scope="module")
def cifar():
    try:
        images = load_dataset("cifar10", labels_per_class=100)
    except FileNotFoundError as missing:
        pytest.skip(str(missing))
    return dataclasses.replace(images, test_images=images.test_images[:1000], test_labels=images.test_labels[:1000])


def test_teacher_student_and_probe_learn_from_photographs(cifar, tmp_path):
    recipe = {"dataset": "cifar10", "labels_per_class": 100, "arch": "resnet_small", "augmentation": "crop_jitter", "epochs": 4,
              "warmup_epochs": 1, "batch_size": 100, "queue_size": 400, "mix_per_image": False, "probe_epochs": 5,
              "probe_augmentation": "crop", "precision": "bfloat16", "eval_every": 4, "ema": 0.9, "seed": 1}  # fmt: skip
    device = torch.device("cpu")
    for method in ("teacher", "genscl_mix_kd", "genscl_mix_kd_queue"):
        folder = tmp_path / method / "seed1"
        config = TrainConfig(method=method, teacher="" if method == "teacher" else str(tmp_path / "teacher"), **recipe)
        summary = finish_run(pretrain(config, cifar, folder, device=device), cifar, folder)
        assert summary["accuracy_last"] > 0.15  # of ten classes
