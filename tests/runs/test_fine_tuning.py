"""The guide to one's own images is followed, with a small network and weights in a cache of the hub's layout."""

import re
import shlex

import huggingface_hub
import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from genscl_lite.datasets.files import read_json
from genscl_lite.runs.paths import NOTEBOOKS
from genscl_lite.runs.trained import Encoder
from genscl_lite.tools.cli import main
from tests.folders import digit_image, make_digit_folder

SMALLER = {"epochs": 3, "image_size": 32, "batch_size": 24, "warmup_epochs": 0, "arch": "timm/test_resnet.r160_in1k"}  # fmt: skip


@pytest.fixture
def place(tmp_path, monkeypatch):
    """photos of four classes, an image that is new, and the weights that timm would download."""
    monkeypatch.chdir(tmp_path)
    make_digit_folder(tmp_path / "photos", per_class=20, classes=4)
    digit_image(2, 40, np.random.default_rng(5)).save("new.jpg")
    torch.manual_seed(0)
    network = timm.create_model("test_resnet.r160_in1k")
    hub = tmp_path / "hub" / f"models--{network.pretrained_cfg['hf_hub_id'].replace('/', '--')}"
    file = hub / "snapshots" / ("1" * 40) / "model.safetensors"
    for path in (hub / "refs", file.parent):
        path.mkdir(parents=True)
    (hub / "refs" / "main").write_text("1" * 40)
    save_file(network.state_dict(), file, {"format": "pt"})
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path


def pieces():
    """Return (language, text) of the guide's commands and code, in order."""
    text = (NOTEBOOKS / "guides" / "fine_tuning.md").read_text("utf-8")
    return re.findall(r"```(bash|py)\n(.*?)```", text, re.DOTALL)


def smaller(word):
    name, equals, _ = word.partition("=")
    return f"{name}={SMALLER[name]}" if equals and name in SMALLER else word


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_guide_is_followed_from_end_to_end(place, capsys):
    pytest.importorskip("onnxruntime")
    names = {}
    for language, text in pieces():
        if language == "py":
            exec(text, names)
            continue
        for line in text.replace("\\\n", "").splitlines():
            words = [smaller(word) for word in shlex.split(line)[1:]]
            assert main(words) == 0, (line, capsys.readouterr().err)
    printed = capsys.readouterr().out
    assert names["summaries"].keys() == {"ce", "ce_mix", "genscl_mix"}
    assert sum(result["images"] for result in names["summaries"]["ce"]["by_class"].values()) == 16
    assert (place / "confusion.png").stat().st_size > 5000 and (place / "look.png").exists()
    assert names["nearest"][0] == 0 and len(np.load("features.npz")["files"]) == 80
    assert printed.count("photos/") > 80
    trained = Encoder.load("runs/photos/genscl_mix/seed0")
    said = trained.probabilities(torch.from_numpy(names["pixels"])).detach().numpy()
    assert np.allclose(names["probabilities"], said, atol=1e-4)
    assert trained.dataset.mean == (0.5, 0.5, 0.5)  # what these weights expect
    longer = read_json("runs/longer/genscl_mix/seed0/config.json")
    assert longer["weights"] == "runs/photos/genscl_mix" and not longer["pretrained"]
