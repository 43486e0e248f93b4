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
    "ce_mix": {"method": "ce_mix", "ema": 0.9, "seed": 2},
    "simclr": {"method": "simclr", "seed": 1, "epochs": 2},
    "genscl_mix_kd": {"method": "genscl_mix_kd", "ce_weight": 0.3, "balanced": True},
    "genscl_mix_kd_queue": {"method": "genscl_mix_kd_queue", "views": 3, "queue_size": 50},
}
"""With seeds of which rounding decides nothing: for one in ten or so, weights disturbed by 1e-7 end 1e-4 apart, in one process."""


def teacher():
    torch.manual_seed(5)
    return Teacher(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))


def train_cases(out):
    device, images = processes.start_processes(), load_dataset("digits", labels_per_class=3)
    for name, changes in CASES.items():
        config = TrainConfig(**QUICK | {"learning_rate": 0.05} | changes)
        pretrain(
            config, images, out / name, device=device, teacher=teacher() if "kd" in name else None
        )


if __name__ == "__main__":
    train_cases(Path(sys.argv[1]))
