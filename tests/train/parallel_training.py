"""Run by torchrun in tests/train/test_processes.py: the runs of a folder, in as many processes as there are."""

import sys
from pathlib import Path

import torch
from torch import nn

from genscl_lite.datasets import load_dataset
from genscl_lite.distillation import Teacher
from genscl_lite.train.config import TrainConfig
from genscl_lite.train.loop import pretrain
from genscl_lite.train.processes import start_processes
from tests.conftest import QUICK

CASES = {
    "ce_mix": {"method": "ce_mix", "ema": 0.9, "seed": 1},
    "simclr": {"method": "simclr", "seed": 4, "epochs": 2},
    "genscl_mix_kd": {"method": "genscl_mix_kd", "ce_weight": 0.3, "balanced": True},
    "genscl_mix_kd_queue": {"method": "genscl_mix_kd_queue", "views": 3, "queue_size": 50},
}


def teacher() -> Teacher:
    torch.manual_seed(5)
    return Teacher(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))


def train(out: Path, device: torch.device) -> None:
    images = load_dataset("digits", labels_per_class=3)
    for name, changes in CASES.items():
        config = TrainConfig(**QUICK | {"learning_rate": 0.05} | changes)
        pretrain(config, images, out / name, device=device, teacher=teacher() if "kd" in name else None)


if __name__ == "__main__":
    torch.set_num_threads(1)
    train(Path(sys.argv[1]), start_processes())
