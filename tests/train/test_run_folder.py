"""What a checkpoint promises on a full disk, in a folder that cannot be written, and where it is none."""

import io
import pickle
import zipfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from genscl_lite.datasets import files
from genscl_lite.datasets.files import RunFolderError
from genscl_lite.distillation import Teacher
from genscl_lite.train import run_folder
from genscl_lite.train.loop import pretrain
from genscl_lite.train.weights import save_weights
from tests.train.test_loop import weights


@contextmanager
def disk_of(size):
    """Let no file of this process become larger, which writers meet as they meet a full disk."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


STATE = {
    "config": {},
    "parts": {"model": torch.arange(9999.0)},
    "random": {},
    "progress": {"epoch": 3},
}
WRITERS = {
    "checkpoint.pt": lambda path: run_folder.write_checkpoint(path, STATE),
    "model.safetensors": lambda path: save_weights(path, nn.Linear(99, 99), summary={}),
    "embeddings.npz": lambda path: files.write_arrays(
        path, points=np.random.default_rng(0).random(9999)
    ),
    "summary.json": lambda path: files.write_json(path, {"text": "x" * 9999}),
    "log.csv": lambda path: run_folder.write_log(path, [{"loss": 0.1}] * 9999),
}


@pytest.mark.parametrize("name", WRITERS)
def test_on_a_full_disk_the_file_there_is_kept_and_the_error_is_one_line(name, tmp_path):
    path = tmp_path / name
    path.write_text("earlier")
    with (
        disk_of(5000),
        pytest.raises(
            OSError, match=f"^{path}: cannot be written, look at the space and rights there [^\n]*$"
        ),
    ):
        WRITERS[name](path)
    assert [file.name for file in tmp_path.iterdir()] == [name] and path.read_text() == "earlier"
    WRITERS[name](path)
    assert path.stat().st_size > 5000


def test_a_run_goes_on_when_the_disk_has_room_again(quick, digits, tmp_path):
    config, limit = quick("genscl_mix_kd_queue", ema=0.9), disk_of(100_000)
    teacher = Teacher(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))

    def train(*words, **options):
        return pretrain(config, digits, *words, teacher=teacher, **options)

    with pytest.raises(OSError, match="checkpoint.pt: cannot be written"):
        try:
            train(tmp_path, on_epoch=lambda run: limit.__enter__() if run.epoch == 1 else None)
        finally:
            limit.__exit__(None, None, None)
    assert run_folder.read_checkpoint(tmp_path / "checkpoint.pt")["progress"]["epoch"] == 1
    assert torch.equal(weights(train()), weights(train(tmp_path)))


@pytest.mark.skipif(
    not Path("/sys/kernel").is_dir(), reason="there is no folder that nobody may write in"
)
def test_a_folder_that_cannot_be_written_is_one_line(quick, digits):
    for folder in ("/sys/kernel", "/sys/kernel/genscl"):
        with pytest.raises(
            OSError,
            match=r"^\[Errno \d+\] (Operation not permitted|Permission denied|Read-only)[^\n]*/sys/kernel/[^\n]*$",
        ):
            pretrain(quick(), digits, folder)


def saved(content):
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def zipped():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("checkpoint/../../data.pkl", "outside")
    return file.getvalue()


@pytest.mark.parametrize("content", [
    b"", b"text\n" * 999, pickle.dumps(STATE), pickle.dumps([1], protocol=4), zipped(), saved([1]), saved(None), saved("config"),
    saved(torch.zeros(3)), saved(nn.Linear(1, 1)), saved(STATE | {"progress": 3}), saved(STATE), saved({"parts": {}, "progress": {}}),
])  # fmt: skip
def test_what_is_no_checkpoint_is_named(content, tmp_path):
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(content)
    with pytest.raises(
        RunFolderError,
        match=r"^[^\n]*checkpoint.pt: damaged or no checkpoint \(\w+\); delete it to start [^\n]*$",
    ):
        run_folder.read_checkpoint(path)


def test_one_byte_that_changed_is_found(tmp_path):
    """Also one of a weight, which torch would read without a word."""
    path = tmp_path / "checkpoint.pt"
    run_folder.write_checkpoint(path, STATE)
    content = bytearray(path.read_bytes())
    content[content.index(np.float32(5000).tobytes())] ^= 1
    path.write_bytes(content)
    with pytest.raises(
        RunFolderError, match=r"checkpoint.pt: damaged or no checkpoint \(BadZipFile\)"
    ):
        run_folder.read_checkpoint(path)


def test_a_checkpoint_of_another_configuration_is_refused(quick, digits, tmp_path):
    """Where config.json, which says so otherwise, has been deleted."""
    pretrain(quick(), digits, tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(
        RunFolderError, match=r"another configuration \(temperature 0.1 there, 0.2 now\)"
    ):
        pretrain(quick(temperature=0.2), digits, tmp_path)


def test_a_device_without_memory_does_not_make_a_checkpoint_damaged(tmp_path, monkeypatch):
    def load(*words, **options):
        raise torch.OutOfMemoryError("CUDA out of memory")

    run_folder.write_checkpoint(tmp_path / "checkpoint.pt", STATE)
    monkeypatch.setattr(torch, "load", load)
    with pytest.raises(torch.OutOfMemoryError):
        run_folder.read_checkpoint(tmp_path / "checkpoint.pt")
