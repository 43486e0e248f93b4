"""Wrong words for the commands that use a finished run: one line, exit status 2, and nothing is written over."""

import re

import numpy as np
import pytest
import torch
from PIL import Image

from genscl_lite.runs.finish import finish_run
from genscl_lite.tools.cli import main
from genscl_lite.train.config import TrainConfig
from genscl_lite.train.loop import pretrain
from tests.conftest import QUICK


@pytest.fixture(scope="module")
def place(digits, tmp_path_factory):
    """A finished run in runs/ce, an image, a text, a folder called like each output, and other programs' files."""
    folder = tmp_path_factory.mktemp("place")
    finish_run(
        pretrain(TrainConfig(**QUICK | {"method": "ce"}), digits, folder / "runs" / "ce"),
        digits,
        folder / "runs" / "ce",
    )
    Image.new("L", (8, 8), 9).save(folder / "a.png")
    Image.fromarray(np.full((8, 8), 4000, dtype="uint16")).save(folder / "deep.png")
    (folder / "t.txt").write_text("text")
    for name in ("taken.npz", "taken.safetensors", "taken.onnx", "empty"):
        (folder / name).mkdir()
    torch.save({}, folder / "m.pt")
    return folder


@pytest.mark.parametrize("words, message", [
    ("predict a.png a.png", "a.png: damaged, or not written by this kit"),
    ("predict t.txt a.png", "t.txt: damaged, or not written by this kit"),
    ("predict m.pt a.png", "m.pt is a pickle, which may run code"),
    ("predict runs a.png", "runs holds no finished run"),
    ("predict empty a.png", "empty holds no finished run"),
    ("predict runs/ce t.txt", "t.txt: cannot be read: no image of a known format"),
    ("predict runs/ce deep.png", "deep.png: cannot be read: pixels of type uint16, 4000 to 4000"),
    ("predict runs/ce empty", "images: no image that PIL reads in empty"),
    ("predict runs/ce https://a.b/c.png", "cannot be read: .*No such file"),
    ("predict runs/ce a.png --device tpu", "device: expected cpu, cuda, cuda:NUMBER or mps, got 'tpu'"),
    ("predict runs/ce a.png --device cuda:99", "device: 'cuda:99' is not there"),
    ("features runs/ce a.png --out x.csv", "--out: expected a file name ending in .npz"),
    ("features runs/ce a.png --out taken.npz", "taken.npz: cannot be written"),
    ("features runs/ce a.png --out t.txt/x.npz", "t.txt"),
    ("export runs/ce x.pt", "path: expected a file name ending in .safetensors"),
    ("export runs/ce runs/ce/model.safetensors", "exists and is no exported encoder"),
    ("export runs/ce taken.safetensors", "taken.safetensors exists and is no exported encoder"),
    ("export runs/ce t.txt/x.safetensors", "t.txt"),
    ("export runs/ce x.safetensors --onnx", "expected a file name ending in .onnx"),
])  # fmt: skip
def test_wrong_words_are_one_line(place, monkeypatch, capsys, words, message):
    monkeypatch.chdir(place)
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*") if path.is_file()}
    assert main(words.split()) == 2
    out, error = capsys.readouterr()
    assert not out and error.startswith("error: ") and error.count("\n") == 1
    assert re.search(message, error)
    assert before == {path: path.stat().st_mtime_ns for path in place.rglob("*") if path.is_file()}


@pytest.mark.parametrize("words, message", [
    ("check no/such/folder", "folder"),
    ("check t.txt", "'t.txt' is unknown"),
    ("check digits -p labels_per_class=9999", "labels_per_class: expected 1 to"),
    ("check digits -p labels", "parameter: expected NAME=VALUE, got 'labels'"),
    ("check digits --picture t.txt/a.png", "t.txt"),
    ("check digits --picture a.xyz", "xyz"),
    ("check empty", "expected a folder for each of two or more classes"),
])  # fmt: skip
def test_a_look_at_nothing_is_a_problem_in_one_line(place, monkeypatch, capsys, words, message):
    monkeypatch.chdir(place)
    assert main(words.split()) == 1
    out, _ = capsys.readouterr()
    [line] = [line for line in out.splitlines() if line.startswith("problem")]
    assert re.search(message, line)
