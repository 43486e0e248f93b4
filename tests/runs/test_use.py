"""A trained model on folders, patterns and unreadable files, and as ONNX."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from genscl_lite.runs.finish import finish_run
from genscl_lite.runs.trained import Encoder
from genscl_lite.runs.use import export, features, predict
from genscl_lite.train.loop import pretrain


@pytest.fixture(scope="module")
def run(digits, tmp_path_factory):
    from genscl_lite.train.config import TrainConfig
    from tests.conftest import QUICK

    folder = tmp_path_factory.mktemp("run")
    config = TrainConfig(**QUICK | {"method": "supcon"})
    finish_run(pretrain(config, digits, folder), digits, folder)
    return str(folder)


@pytest.fixture
def photos(digits, tmp_path, monkeypatch):
    """photos/a/0.png to 2.png, photos/b/3.png, a text, a hidden file, and one with brackets in its name."""
    monkeypatch.chdir(tmp_path)
    for name in ("a/0.png", "a/1.png", "a/2.png", "b/3.png", "b/.hidden.png", "[c].png"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(digits.test_images[len(name), 0].numpy()).save(path)
    (tmp_path / "photos" / "a" / "notes.txt").write_text("no image")
    return tmp_path / "photos"


def said(capsys):
    out, err = capsys.readouterr()
    return [line.split("\t")[0] for line in out.splitlines()], err.splitlines()


@pytest.mark.parametrize(
    "words, expected",
    [
        (
            ["photos"],
            ["photos/[c].png", *(f"photos/a/{k}.png" for k in range(3)), "photos/b/3.png"],
        ),
        (["photos/a/"], [f"photos/a/{k}.png" for k in range(3)]),
        (["photos/a/*.png"], [f"photos/a/{k}.png" for k in range(3)]),
        (["photos/**/3.png", "photos/a/0.png"], ["photos/b/3.png", "photos/a/0.png"]),
        (["photos/[c].png"], ["photos/[c].png"]),
        (["photos/a/*"], [f"photos/a/{k}.png" for k in range(3)]),
    ],
)
def test_folders_and_patterns_are_predicted(run, photos, words, expected, capsys):
    assert predict([run, *words]) == 0
    files, errors = said(capsys)
    assert files == expected and not errors


def test_one_file_is_predicted_as_it_is_among_others(run, photos, capsys):
    predict([run, "photos/a"])
    together = capsys.readouterr().out.splitlines()
    for k in range(3):
        predict([run, f"photos/a/{k}.png"])
        assert capsys.readouterr().out.splitlines() == together[k : k + 1]


def test_what_cannot_be_read_is_named_and_the_rest_predicted(run, photos, capsys):
    (photos / "a" / "1.png").write_bytes((photos / "a" / "1.png").read_bytes()[:40])
    assert predict([run, "photos/a", "photos/none.png"]) == 1
    files, errors = said(capsys)
    assert files == ["photos/a/0.png", "photos/a/2.png"]
    assert "photos/a/1.png" in errors[0] and "photos/none.png" in errors[1]
    assert errors[2] == "2 of 4 files could not be read"
    assert features([run, "photos/a", "--out", "x.npz"]) == 1
    assert np.load("x.npz")["files"].tolist() == files and len(np.load("x.npz")["features"]) == 2
    assert predict([run, "photos/none.png"]) == 2


@pytest.mark.parametrize("word", ["photos/empty", "photos/*.gif", "photos/a/*.txt"])
def test_folders_and_patterns_without_images_are_named(run, photos, word, capsys):
    (photos / "empty").mkdir()
    assert predict([run, word]) == 2
    assert said(capsys)[1] == [f"error: images: no image that PIL reads in {word}"]


def test_onnx_says_what_the_model_says(run, digits, tmp_path, capsys):
    runtime = pytest.importorskip("onnxruntime")
    path = tmp_path / "model.onnx"
    assert export([run, str(path), "--onnx"]) == 0
    assert "written: " in capsys.readouterr().out.splitlines()[-1]
    session = runtime.InferenceSession(str(path))
    trained = Encoder.load(run)
    for count in (1, 5, 150):
        images = digits.test_images[:count]
        z, p = session.run(None, {"images": (images / 255).numpy().astype(np.float32)})
        assert np.allclose(z, trained.features(images).numpy(), atol=1e-4)
        assert np.allclose(p, trained.probabilities(images).detach().numpy(), atol=1e-5)
    about = json.loads(path.with_suffix(".json").read_text())
    assert about["class_names"] == list(digits.class_names) and about["image_shape"] == [1, 8, 8]
    assert not list(tmp_path.glob("*.data"))


def test_a_classifier_is_its_own_head_in_onnx(quick, digits, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    finish_run(
        pretrain(quick("ce", read_out="sgd"), digits, tmp_path / "ce"), digits, tmp_path / "ce"
    )
    assert export([str(tmp_path / "ce"), str(tmp_path / "m.onnx"), "--onnx"]) == 0
    images = digits.test_images[:6] / 255
    session = runtime.InferenceSession(str(tmp_path / "m.onnx"))
    _, p = session.run(None, {"images": images.numpy()})
    assert np.allclose(p, Encoder.load(tmp_path / "ce").probabilities(images).detach(), atol=1e-5)


def test_onnx_needs_its_ending_and_its_packages(run, tmp_path, monkeypatch, capsys):
    assert export([run, str(tmp_path / "m.safetensors"), "--onnx"]) == 2
    assert "expected a file name ending in .onnx" in capsys.readouterr().err
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    assert export([run, str(tmp_path / "m.onnx"), "--onnx"]) == 2
    assert "pip install 'genscl-lite[onnx]'" in capsys.readouterr().err
    assert torch.is_grad_enabled() and not (tmp_path / "m.onnx").exists()
