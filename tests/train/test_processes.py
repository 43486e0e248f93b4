import os
import signal
import subprocess
import time

import pandas as pd
import pytest
import torch
import yaml
from torch import nn

from genscl_lite.train import processes, run_folder
from genscl_lite.train.loop import pretrain
from tests.conftest import QUICK
from tests.processes import finish, start_two
from tests.train.two_processes import CASES, train_cases


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The same runs in one process and in two."""
    out = tmp_path_factory.mktemp("parallel")
    words = "-m", "tests.train.two_processes", out / "two"
    finish(start_two(*words, printed=out / "printed"), out / "printed")
    train_cases(out / "one")
    return out


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_two_processes_train_to_the_weights_of_one(case, both):
    """BatchNorm's statistics, the average over weights and the queue among them."""
    one, two = (
        run_folder.read_checkpoint(both / processes / case / "checkpoint.pt")
        for processes in ("one", "two")
    )
    compared = 0
    for part in one["parts"].keys() - {"optimizer"}:
        for name, value in one["parts"][part].items():
            if isinstance(value, torch.Tensor):
                assert torch.allclose(
                    value.double(), two["parts"][part][name].double(), atol=1e-5
                ), (part, name)
                compared += value.numel()
    assert compared > 20_000
    assert torch.equal(one["random"]["generator"], two["random"]["generator"])
    logs = [
        pd.read_csv(both / processes / case / "log.csv").drop(
            columns=["seconds", "images_per_second"]
        )
        for processes in ("one", "two")
    ]
    pd.testing.assert_frame_equal(*logs, atol=1e-4)


def test_a_batch_that_cannot_be_shared_out_is_refused(quick, digits, monkeypatch):
    monkeypatch.setattr(processes, "processes", lambda: 4)
    with pytest.raises(
        ValueError, match="batch_size: 30 images cannot be shared out evenly among 4 processes"
    ):
        pretrain(quick(batch_size=50), digits)


def test_views_keep_their_order(monkeypatch):
    rows = torch.arange(12).reshape(12, 1)  # two views of six images
    monkeypatch.setattr(processes, "processes", lambda: 3)
    monkeypatch.setattr(processes, "rank", lambda: 1)
    assert processes.keep_own_part(rows, views=2).flatten().tolist() == [2, 3, 8, 9]
    gathered = torch.tensor([0, 1, 6, 7, 2, 3, 8, 9, 4, 5, 10, 11]).reshape(12, 1)
    monkeypatch.setattr(processes, "gather_rows", lambda part: gathered)
    assert torch.equal(processes.gather_views(rows[:4], views=2), rows)


def test_batch_norm_of_one_process_is_torchs(monkeypatch):
    """With one process its plain operations give what torch's kernel gives, gradients and running statistics too."""
    monkeypatch.setattr(processes, "add_over_processes", lambda tensor: tensor)
    for momentum in (0.1, None):
        theirs, ours = nn.BatchNorm2d(3, momentum=momentum), nn.BatchNorm2d(3, momentum=momentum)
        ours.__class__ = processes.SynchronizedBatchNorm
        for _ in range(2):
            images = torch.randn(5, 3, 4, 4, requires_grad=True)
            outputs = [layer(images) for layer in (ours, theirs)]
            gradients = [
                torch.autograd.grad(output.pow(3).sum(), [images, layer.weight, layer.bias])
                for output, layer in zip(outputs, (ours, theirs), strict=True)
            ]
            assert torch.allclose(*outputs, atol=1e-5)
            assert all(
                torch.allclose(a, b, rtol=1e-3, atol=1e-4) for a, b in zip(*gradients, strict=True)
            )
        assert all(
            torch.allclose(a, b, atol=1e-6)
            for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True)
        )
        assert torch.allclose(ours.eval()(images), theirs.eval()(images), atol=1e-5)


@pytest.fixture
def preset(tmp_path):
    path = tmp_path / "quick.yaml"
    path.write_text(
        yaml.safe_dump(
            QUICK | {"min_accuracy": 0.0, "learning_rate": 0.05, "epochs": 12, "eval_every": 12}
        )
    )
    return str(path)


@pytest.mark.slow
def test_one_of_two_processes_is_killed_and_the_run_goes_on(preset, tmp_path):
    """torchrun's agent starts both again, they go on from the checkpoint, and the end is that of an undisturbed run."""
    printed = tmp_path / "printed"
    words = "-m", "genscl_lite", "train", preset, "--only", "supcon", "--out"
    finish(start_two(*words, tmp_path / "whole", printed=printed), printed)
    agent = start_two(*words, tmp_path / "killed", printed=printed, max_restarts=1)
    checkpoint = tmp_path / "killed" / "supcon" / "seed0" / "checkpoint.pt"
    deadline = time.monotonic() + 120
    while not checkpoint.exists():
        assert agent.poll() is None and time.monotonic() < deadline, printed.read_text()
        time.sleep(0.001)
    os.kill(workers(agent.pid)[-1], signal.SIGKILL)
    first_log = run_folder.read_checkpoint(checkpoint)["progress"]["log"]
    text = finish(agent, printed)
    assert 1 <= len(first_log) < 12, text  # so a second start did the rest
    assert text.count("| SupCon | 12 | 1 |") == 1
    one, two = (
        run_folder.read_checkpoint(tmp_path / out / "supcon" / "seed0" / "checkpoint.pt")
        for out in ("whole", "killed")
    )
    for name, value in one["parts"]["model"].items():
        assert torch.allclose(value.double(), two["parts"]["model"][name].double(), atol=1e-5), name
    log = two["progress"]["log"]
    assert len(log) == 12 and (checkpoint.parent / "summary.json").exists()
    # measured times are never the same twice: the second start went on from what the first one saved
    assert log[: len(first_log)] == first_log


def workers(parent):
    """Return the processes a process has started, by their numbers."""
    found = subprocess.run(["pgrep", "-P", str(parent)], capture_output=True, text=True, check=True)
    return sorted(int(line) for line in found.stdout.split())
