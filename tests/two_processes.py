"""``python -m tests.two_processes FOLDER PRESET``: some runs, for test_two_processes.py to start under torchrun."""

import os
import signal
import sys
from functools import partial
from pathlib import Path

import torch
from torch import nn

from genscl_lite.datasets import load_dataset
from genscl_lite.distillation import Teacher
from genscl_lite.runs.train import main
from genscl_lite.train import processes
from genscl_lite.train.config import TrainConfig
from genscl_lite.train.loop import pretrain
from tests.conftest import QUICK

KILLED, KILLED_AFTER = "supcon", 2
"""The first case loses a process after so many epochs, when those before are saved."""
CASES = {
    KILLED: {"method": "supcon", "epochs": 4},
    "ce_mix": {"method": "ce_mix", "ema": 0.9},
    "simclr": {"method": "simclr"},
    "genscl_mix_kd": {"method": "genscl_mix_kd", "ce_weight": 0.3, "balanced": True},
    "genscl_mix_kd_queue": {"method": "genscl_mix_kd_queue", "views": 3, "queue_size": 50},
}
FROM_FILES = "--only", "supcon", "-p", "epochs=2", "-p", "eval_every=2", "-p", "resident=never"


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


def tell_start(case, run, seconds):
    line = f"process {processes.rank()}: {case} goes on after epoch {run.epoch}\n"
    print(line, end="", flush=True)  # in one piece, as the other process prints too


def kill_second_process(run):
    """Once: what torchrun starts afterwards lives on."""
    first = os.environ.get("TORCHELASTIC_RESTART_COUNT") == "0"
    if first and processes.rank() == 1 and run.epoch == KILLED_AFTER:
        os.kill(os.getpid(), signal.SIGKILL)


def train_cases(out):
    device, images = processes.start_processes(), load_dataset("digits", labels_per_class=3)
    for case, changes in CASES.items():
        pretrain(
            TrainConfig(**QUICK | {"learning_rate": 0.05, "arch": "custom"} | changes),
            images,
            out / case,
            device=device,
            encoder=smooth_encoder(),
            teacher=teacher() if "kd" in case else None,
            on_start=partial(tell_start, case),
            on_epoch=kill_second_process if case == KILLED else None,
        )


def train_all(out, preset):
    """The cases, then a row of a preset from image files, as ``genscl train`` does it."""
    train_cases(out)
    return main([preset, *FROM_FILES, "--out", str(out / "files")])


if __name__ == "__main__":
    sys.exit(train_all(Path(sys.argv[1]), sys.argv[2]))
