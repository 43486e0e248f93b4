import dataclasses
import time

import pytest
import torch

from genscl_lite.datasets import check, files
from genscl_lite.runs import finish
from genscl_lite.runs import job as jobs
from genscl_lite.runs.finish import finish_run
from genscl_lite.runs.job import Job, train_job
from genscl_lite.train import run_folder
from genscl_lite.train.loop import OutOfTime, pretrain


@pytest.fixture
def configs(quick):
    return tuple(quick("supcon", seed=seed) for seed in range(2))


@pytest.fixture
def job(configs, tmp_path):
    return Job("supcon", configs, tmp_path)


def test_each_seed_is_trained_on_its_own_labels_and_tested(job, configs, tmp_path):
    done = list(train_job(job))
    assert [(run.config, summary["seed"]) for run, summary in done] == [
        (configs[0], 0),
        (configs[1], 1),
    ]
    for run, summary in done:
        folder = tmp_path / f"seed{summary['seed']}"
        assert summary == run_folder.read_json(folder / "summary.json")
        images = jobs.load_data(run.config)
        alone = pretrain(run.config, images)
        assert all(
            torch.equal(ours, theirs)
            for ours, theirs in zip(run.model.parameters(), alone.model.parameters(), strict=True)
        )
        tested = finish_run(alone, images, tmp_path / "alone" / folder.name)
        assert tested["accuracy_last"] == summary["accuracy_last"]


def test_finished_seeds_are_read_and_yielded_too(job, configs, tmp_path, monkeypatch):
    first = list(train_job(job))
    epochs = []
    monkeypatch.setattr(finish, "probe_run", None)
    again = list(train_job(job, 0, on_epoch=epochs.append))
    assert not epochs and [summary for _, summary in again] == [summary for _, summary in first]
    for (run, _), (before, _) in zip(again, first, strict=True):
        assert run.log == before.log and run.epoch == 3
        assert all(
            torch.equal(*pair)
            for pair in zip(run.model.parameters(), before.model.parameters(), strict=True)
        )


def test_a_finished_run_without_its_checkpoint_is_not_trained_again(job, tmp_path):
    list(train_job(job))
    (tmp_path / "seed1" / "checkpoint.pt").unlink()
    with pytest.raises(
        files.RunFolderError, match="seed1: is finished, but its checkpoint is gone"
    ):
        list(train_job(job))


def test_out_of_time_all_is_saved_and_the_same_call_goes_on(job, configs, tmp_path):
    with pytest.raises(OutOfTime, match="saved 0 of 3 epochs; the same command goes on from there"):
        list(train_job(job, time.monotonic()))
    assert (tmp_path / "seed0" / "checkpoint.pt").exists() and not (tmp_path / "seed1").exists()
    assert [run.epoch for run, _ in train_job(job)] == [3, 3]


def test_out_of_time_between_training_and_test(job, configs, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(
            jobs, "pretrain", lambda *words, deadline, **options: pretrain(*words, **options)
        )
        with pytest.raises(
            OutOfTime, match="trained, but not tested yet; the same command goes on from there"
        ):
            list(train_job(job, time.monotonic()))
    trained = run_folder.read_checkpoint(tmp_path / "seed0" / "checkpoint.pt")
    assert trained["progress"]["epoch"] == 3 and not (tmp_path / "seed0" / "summary.json").exists()
    run, summary = next(train_job(job))
    assert run.epoch == 3 and 0 < summary["accuracy_last"] < 1


def test_a_folder_with_another_configuration_is_refused(job, configs, tmp_path):
    list(train_job(job))
    other = dataclasses.replace(configs[0], temperature=0.2)
    with pytest.raises(ValueError, match="another configuration .temperature 0.1 there, 0.2 now"):
        list(train_job(dataclasses.replace(job, configs=(other,))))


def test_pixels_are_looked_at_once_for_all_seeds(job, monkeypatch):
    looks = []
    monkeypatch.setattr(check, "odd_pixels", lambda *_: looks.append(1) or ["odd"])
    with pytest.warns(UserWarning, match="^digits: odd$"):
        list(train_job(job))
    assert looks == [1]
