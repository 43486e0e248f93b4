"""Two processes, started once by torchrun, train as one does, also when one of them is killed."""

from types import SimpleNamespace

import pandas as pd
import pytest
import torch
import yaml

from genscl_lite.train import run_folder
from tests.conftest import QUICK
from tests.folders import make_digit_folder
from tests.processes import finish, start_two
from tests.two_processes import CASES, KILLED, KILLED_AFTER, train_all

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The folder of the same runs in one process and in two, and what the two printed."""
    out = tmp_path_factory.mktemp("parallel")
    splits = {"train": 0.75, "val": 0.25}
    photos = make_digit_folder(out / "photos", per_class=16, classes=4, splits=splits, corrupt=True)
    few = {"dataset": "folder", "data_root": str(photos), "image_size": 16, "labels_per_class": 0,
           "on_bad_image": "skip", "augmentation": "crop_jitter", "min_accuracy": 0.0}  # fmt: skip
    preset, printed = out / "photos.yaml", out / "printed"
    preset.write_text(yaml.safe_dump(QUICK | few))
    words = "-m", "tests.two_processes", out / "two", preset
    text = finish(start_two(*words, printed=printed, max_restarts=1), printed)
    with pytest.warns(UserWarning, match="left out: 3 of 67 images"):
        assert train_all(out / "one", str(preset)) == 0
    return SimpleNamespace(folder=out, printed=text)


@pytest.mark.parametrize("case", CASES)
def test_two_processes_train_to_the_weights_of_one(case, both):
    """BatchNorm's statistics, the average over weights and the queue among them."""
    one, two = (
        run_folder.read_checkpoint(both.folder / processes / case / "checkpoint.pt")
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
        pd.read_csv(both.folder / processes / case / "log.csv").drop(
            columns=["seconds", "images_per_second"]
        )
        for processes in ("one", "two")
    ]
    pd.testing.assert_frame_equal(*logs, atol=1e-4)


def test_when_one_is_killed_both_go_on_from_the_checkpoint(both):
    """torchrun's agent starts both again; that the end is the same: the test above."""
    for rank in range(2):
        lines = [f"process {rank}: {KILLED} goes on after epoch {epoch}\n" for epoch in range(5)]
        counts = [both.printed.count(line) for line in lines]
        assert counts[0] == 1 and sum(counts[KILLED_AFTER - 1 : KILLED_AFTER + 1]) == 1, counts
        assert sum(counts) == 2
        assert both.printed.count(f"process {rank}: ce_mix goes on after epoch 0\n") == 1


def test_they_share_the_files_of_a_folder(both):
    """Each decodes its rows of a batch; the first one alone prints the table."""
    logs = (
        pd.read_csv(both.folder / out / "files" / "supcon" / "seed0" / "log.csv")
        for out in ("one", "two")
    )
    pd.testing.assert_series_equal(*(log.loss for log in logs), rtol=1e-4)
    assert both.printed.count("| SupCon | 2 | 1 |") == 1
