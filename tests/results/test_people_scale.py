"""How well people predict people, from answers that are made up."""

import numpy as np
import pytest


@pytest.fixture
def scale(study, monkeypatch):
    script = study("people_scale")
    monkeypatch.setattr(script, "HELD_OUT", 40)
    return script


def test_people_who_agree_predict_each_other(scale, tmp_path, monkeypatch):
    agreed = 50 * np.eye(4, dtype=np.int64)[np.arange(80) % 4]
    found = scale.scale(agreed).set_index("what")
    assert (found["all"] == 1).all() and found.between.isna().all()
    assert len(found.loc[["half"]]) == scale.DIVISIONS
    monkeypatch.setattr(scale, "read_counts", lambda root: agreed)
    assert scale.main(["--out", str(tmp_path / "scale.csv")]) == 0
    assert scale.render(tmp_path / "scale.csv").endswith("| the class alone | 1.00 |  |  |")


def test_between_classes_halves_know_more_than_averages_and_a_class_knows_nothing(scale):
    """Each image has a second class that half of the people choose; the averages cannot know which."""
    rng = np.random.default_rng(0)
    counts = np.zeros((400, 4), dtype=np.int64)
    first, step = rng.integers(4, size=400), rng.integers(1, 4, size=400)
    counts[np.arange(400), first] += 30
    counts[np.arange(400), (first + step) % 4] += 20
    means = scale.scale(counts).groupby("what").mean()
    assert means.between["half"] > 0.7 > 0.3 > means.between["averages"]
    assert np.isnan(means.between["class"])
