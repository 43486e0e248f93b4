"""A user's own folder of images through every stage: training, table and pictures of the space."""

import json
import sys
import types
from pathlib import Path

import matplotlib
import nbformat
import numpy as np
import pandas as pd
import papermill
import pytest
import yaml
from matplotlib import pyplot as plt

from genscl_lite.runs import launch
from genscl_lite.runs.paths import NOTEBOOKS
from genscl_lite.runs.plan import read_preset
from genscl_lite.runs.train import main as train
from tests.conftest import QUICK
from tests.folders import CORRUPT, make_digit_folder

CLASSES = 4


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """160 PNG and JPEG files of many kinds, and three that are broken."""
    root = tmp_path_factory.mktemp("photos")
    return make_digit_folder(
        root, per_class=40, classes=CLASSES, splits={"train": 0.75, "val": 0.25}, corrupt=True
    )


@pytest.fixture
def preset(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    changes = {
        "dataset": "folder",
        "data_root": str(photos),
        "image_size": 16,
        "labels_per_class": 0,
        "on_bad_image": "skip",
        "augmentation": "crop_jitter",
        "batch_size": 60,
        "queue_size": 120,
        "min_accuracy": 0.0,
    }
    path = tmp_path / "photos.yaml"
    path.write_text(yaml.safe_dump(QUICK | changes))
    return str(path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:left out")
def test_a_folder_in_every_stage(preset, photos, tmp_path, monkeypatch):
    """Images in memory: a row without notebooks and one with them, the table, the pictures of the space."""
    out = tmp_path / "runs" / "photos"
    gentle = {
        "epochs": 20,
        "eval_every": 20,
        "probe_epochs": 20,
        "augmentation": "affine",
        "batch_size": 30,
        "learning_rate": 0.05,
        "temperature": 0.5,
    }
    longer = [word for name, value in gentle.items() for word in ("-p", f"{name}={value}")]
    assert train([preset, "--only", "supcon", *longer]) == 0
    monkeypatch.setitem(sys.modules, "umap", types.SimpleNamespace(UMAP=FirstTwo))
    monkeypatch.setattr(papermill, "execute_notebook", without_kernel)
    assert launch.main([preset, "--only", "genscl_mix", *longer]) == 0
    table = pd.read_csv(out / "table.csv")
    assert (
        list(table.method) == ["supcon", "genscl_mix"] and (table.accuracy_mean > 2 / CLASSES).all()
    )
    assert (out / "report.html").exists() and (out / "10_see_the_space.ipynb").exists()


class FirstTwo:
    """Lays points on a plane at once; UMAP would first compile for half a minute."""

    def __init__(self, **options):
        pass

    def fit_transform(self, points):
        return np.asarray(points, dtype=np.float32)[:, :2]


def execute(notebook, parameters):
    """Execute the cells of a notebook in this process, as papermill does in a kernel; return its names."""
    matplotlib.use("agg")
    names = {}
    for cell in json.loads((NOTEBOOKS / notebook).read_text())["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
        if "parameters" in cell["metadata"].get("tags", []):
            names |= parameters
    plt.close("all")
    return names


def without_kernel(notebook, output, parameters, **options):
    nbformat.write(nbformat.v4.new_notebook(), output)
    execute(Path(notebook).name, parameters)


def test_broken_files_stop_a_run_unless_they_are_to_be_skipped(preset, capsys):
    assert train([preset, "--only", "supcon", "-p", "on_bad_image=stop"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: root: 3 of 163 images in ") and error.count("\n") == 1
    assert (
        all(name in error for name in CORRUPT)
        and 'leave them out with on_bad_image="skip"' in error
    )


@pytest.mark.slow
def test_the_way_to_imagenet(photos, tmp_path, monkeypatch, capsys):
    """The preset's recipe, with a small network, small images and another teacher, on a like folder.

    Images are not kept in memory; a teacher, and a student with momentum and queue.
    """
    monkeypatch.chdir(tmp_path)
    recipe = read_preset("imagenet_resnet50")
    sizes = {"batch_size": 1024, "queue_size": 8192, "temperature": 0.07, "image_size": 224}
    assert sizes.items() <= recipe.items() and recipe["resident"] == "never"
    small = {
        "epochs": 2,
        "warmup_epochs": 1,
        "batch_size": 30,
        "queue_size": 60,
        "image_size": 48,
        "probe_epochs": 1,
        "eval_every": 2,
        "arch": "timm/test_resnet",
        "on_bad_image": "skip",
        "min_accuracy": 0.0,
        "data_root": str(photos),
    }
    path = tmp_path / "small.yaml"
    path.write_text(
        yaml.safe_dump({name: value for name, value in recipe.items() if name != "teacher"} | small)
    )
    with pytest.warns(UserWarning, match="left out: 3 of 163 images"):
        assert train([str(path), "--only", "genscl_mix_kd_queue"]) == 0
    printed = capsys.readouterr().out
    assert (
        "ce_mix, seed 0" in printed and "| GenSCL + both, momentum and queue | 2 | 1 |" in printed
    )
    bad = json.loads((tmp_path / "runs/small/ce_mix/folder_check.json").read_text())["bad"]
    assert set(bad) == {f"train/zero/{name}" for name in CORRUPT}
