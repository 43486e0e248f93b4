"""Run by tests/faults.sh: a run that is killed 20 times at random moments and goes on; status 0 if its end is right."""

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
from torch import nn

from genscl_lite.datasets import load_dataset
from genscl_lite.distillation import Teacher
from genscl_lite.train import run_folder
from genscl_lite.train.config import TrainConfig
from genscl_lite.train.loop import pretrain

KILLS, EPOCHS = 20, 150


def train(folder: str | None = None):
    torch.manual_seed(0)
    teacher = Teacher(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
    config = TrainConfig(
        "genscl_mix_kd_queue",
        labels_per_class=3,
        epochs=EPOCHS,
        batch_size=12,
        queue_size=50,
        ema=0.99,
        eval_every=EPOCHS,
        checkpoint_every=1,
    )
    return pretrain(config, load_dataset("digits", labels_per_class=3), folder, teacher=teacher)


def main(folder: Path) -> int:
    torch.set_num_threads(1)
    started = time.perf_counter()
    whole = train()
    seconds, kills, moments = time.perf_counter() - started, 0, random.Random(0)
    while kills < KILLS:
        child = os.fork()
        if not child:
            train(str(folder))
            os._exit(0)
        time.sleep(moments.uniform(0, 2 * seconds / KILLS))
        os.kill(child, signal.SIGKILL)
        if os.waitpid(child, 0)[1] == 0:
            print(f"  finished after {kills} kills, before all were done")
            break
        kills += 1
        checkpoint = folder / "checkpoint.pt"
        epoch = (
            run_folder.read_checkpoint(checkpoint)["progress"]["epoch"]
            if checkpoint.exists()
            else 0
        )
        print(f"  kill {kills}: {epoch} of {EPOCHS} epochs are saved")
    resumed = train(str(folder))
    states = [
        [
            value
            for part in ("model", "key_encoder", "average", "queue")
            for value in run.parts[part].state_dict().values()
            if isinstance(value, torch.Tensor)
        ]
        for run in (whole, resumed)
    ]
    same = [torch.equal(*pair) for pair in zip(*states, strict=True)]
    print(f"  {sum(same)} of {len(same)} tensors of models, average and queue are the same")
    return (
        0
        if all(same)
        and len(same) > 100
        and torch.equal(whole.generator.get_state(), resumed.generator.get_state())
        else 1
    )


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
