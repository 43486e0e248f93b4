"""The walk through the guide to one's own images does what the guide says, and shows what was measured."""

import re
import shlex

import numpy as np
import pytest
from PIL import Image

from genscl_lite.datasets.files import write_json
from genscl_lite.runs.paths import NOTEBOOKS
from genscl_lite.runs.request import parse_parameter


@pytest.fixture
def photos(study, tmp_path, monkeypatch):
    script = study("photos")
    monkeypatch.setattr(script, "RESULTS", tmp_path / "results")
    return script


def test_its_settings_are_those_of_the_guides_first_command(photos):
    text = (NOTEBOOKS / "guides" / "fine_tuning.md").read_text("utf-8").replace("\\\n", "")
    words = shlex.split(re.search(r"genscl train (.*)", text)[1])
    given = dict(parse_parameter(word) for word in words if "=" in word)
    assert given | {"arch": photos.TRAINING["arch"]} == photos.TRAINING
    assert words[0] == photos.PRESET and [w for w in words if w in photos.ROWS] == [*photos.ROWS]


def test_photographs_are_of_five_classes_and_new_ones_of_others(photos, rgb, tmp_path, monkeypatch):
    names = (*photos.CLASSES, "f", "g", "h", "i", "j")
    data = rgb.__class__(**{**vars(rgb), "class_names": names})
    monkeypatch.setattr(photos, "load_dataset", lambda name, root: data)
    monkeypatch.setattr(photos, "EACH", 2)
    photos.write_photos(tmp_path, None)
    for name, count in (("photos", 2), ("new", None)):
        for c, kind in enumerate(photos.CLASSES):
            files = sorted((tmp_path / name / kind).glob("*.png"))
            labels = {"photos": data.train_labels, "new": data.test_labels}[name]
            assert len(files) == (count or min(photos.EACH_NEW, int((labels == c).sum())))
            assert Image.open(files[0]).size == (photos.PIXELS, photos.PIXELS)


def test_what_was_measured_becomes_tables_with_a_verdict(photos, tmp_path):
    with pytest.raises(FileNotFoundError):  # of which a page says that nothing was measured yet
        photos.render()
    labels, said = np.arange(100) % 5, {}
    for row, wrong in (("ce", 40), ("ce_mix", 9), ("genscl_mix", 10)):
        for seed in range(3):
            told = labels.copy()
            told[: wrong + seed] = (told[: wrong + seed] + 1) % 5
            said[f"{row}/seed{seed}"] = told
            by_class = {name: {"images": 16} for name in photos.CLASSES}
            summary = {"method": row, "seed": seed, "accuracy_last": 0.5, "recall_at_1": 0.4,
                       "mean_average_precision": 0.3, "cpu_seconds": 7, "by_class": by_class,
                       "dataset": "folder", "arch": "a", "epochs": 40}  # fmt: skip
            write_json(tmp_path / "results" / row / f"seed{seed}" / "summary.json", summary)
    np.savez(tmp_path / "results" / "new.npz", labels=labels, **said)
    text = photos.render()
    assert "| CE | 50.0 (50.0 to 50.0) | 59.0 (56.5 to 61.5) | 40.0" in text
    assert "| GenSCL + MixUp-CutMix | 50.0 (50.0 to 50.0) | 89.0 (86.5 to 91.5)" in text
    assert "80 kept, %" in text and "100 new, %" in text
    against_ce, against_mixed = (line for line in text.splitlines() if line.startswith("- "))
    assert "minus CE on the new" in against_ce and "+30.0 points (" in against_ce
    assert (
        "minus CE + MixUp-CutMix on the new" in against_mixed and "-1.0 points (" in against_mixed
    )
    assert "higher." in against_ce and "undecided." in against_mixed
