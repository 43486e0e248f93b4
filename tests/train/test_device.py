import os

import pytest
import torch

from genscl_lite.runs.train import main as train
from genscl_lite.runs.use import predict
from genscl_lite.train.device import VARIABLE, choose_device, default_device, read_device


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """What a command sets is undone."""
    monkeypatch.setenv(VARIABLE, "")


def test_a_named_device_is_that_of_all_that_follows():
    choose_device(None)
    assert os.environ[VARIABLE] == "" and default_device() == torch.device("cpu")
    choose_device("cpu")
    assert os.environ[VARIABLE] == "cpu" and default_device() == torch.device("cpu")


def test_a_gpu_by_its_number(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert read_device("cuda:1") == torch.device("cuda", 1)
    monkeypatch.setenv(VARIABLE, "cuda:1")
    assert default_device() == torch.device("cuda", 1)
    with pytest.raises(ValueError, match="device: 'cuda:2' is not there; .* has 2 of this kind"):
        read_device("cuda:2")


@pytest.mark.parametrize(
    "name, message",
    [
        ("gpu", "expected cpu, cuda, cuda:NUMBER or mps, got 'gpu'"),
        ("", "expected cpu"),
        ("cuda:x", "expected cpu"),
        ("cuda:-1", "expected cpu"),
        ("meta", "expected cpu"),
        ("cuda", "'cuda' is not there; this machine, as PyTorch sees it, has no cuda"),
        ("cpu:1", "'cpu:1' is not there"),
    ],
)
def test_other_devices_are_refused(name, message):
    with pytest.raises(ValueError, match=f"device: {message}"):
        read_device(name)


def test_commands_refuse_in_one_line(tmp_path, capsys):
    assert train(["digits", "--device", "cuda:7", "--out", str(tmp_path)]) == 2
    assert predict([str(tmp_path), "a.png", "--device", "gpu"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and all(line.startswith("error: device: ") for line in lines)


def test_torchrun_gives_devices_itself(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="device: torchrun gives each process its own"):
        choose_device("cpu")
