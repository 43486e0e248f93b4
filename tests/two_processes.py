"""``python -m tests.train.two_processes FOLDER``: some runs, for test_processes.py to start under torchrun."""

import sys
from pathlib import Path

import torch
from torch import nn

from genscl_lite.datasets import load_dataset
from genscl_lite.distillation import Teacher
from genscl_lite.train import processes
from genscl_lite.train.config import TrainConfig
from genscl_lite.train.loop import pretrain
from tests.conftest import QUICK

CASES = {
    "ce_mix": {"method": "ce_mix", "ema": 0.9},
    "simclr": {"method": "simclr"},
    "genscl_mix_kd": {"method": "genscl_mix_kd", "ce_weight": 0.3, "balanced": True},
    "genscl_mix_kd_queue": {"method": "genscl_mix_kd_queue", "views": 3, "queue_size": 50},
}


def smooth_encoder():
    """An encoder whose gradient has no jumps, so that rounding stays what it is at every seed.

    With ReLU, 1e-7 can decide on which side of 0 an activation lies, and weights are 1e-3 apart a step later.
    """
    torch.manual_seed(6)
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1, bias=False),
        nn.BatchNorm2d(32),
        nn.GELU(),
        nn.Conv2d(32, 64, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(64),
        nn.GELU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


def teacher():
    torch.manual_seed(5)
    return Teacher(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))


def train_cases(out):
    device, images = processes.start_processes(), load_dataset("digits", labels_per_class=3)
    for name, changes in CASES.items():
        config = TrainConfig(**QUICK | {"learning_rate": 0.05, "arch": "custom"} | changes)
        taught = {"teacher": teacher()} if "kd" in name else {}
        pretrain(config, images, out / name, device=device, encoder=smooth_encoder(), **taught)


if __name__ == "__main__":
    train_cases(Path(sys.argv[1]))
