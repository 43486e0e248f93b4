import dataclasses
import time

import pandas as pd
import pytest
import torch

from genscl_lite.runs import finish, seeds
from genscl_lite.runs.finish import finish_run
from genscl_lite.runs.seeds import main, run_seeds
from genscl_lite.train import run_folder
from genscl_lite.train.loop import OutOfTime, pretrain


@pytest.fixture
def configs(quick):
    return [quick("supcon", seed=seed) for seed in range(2)]


def test_each_seed_is_trained_on_its_own_labels_and_tested(configs, tmp_path):
    done = list(run_seeds(configs, tmp_path))
    assert [(run.config, summary["seed"]) for run, summary in done] == [
        (configs[0], 0),
        (configs[1], 1),
    ]
    for run, summary in done:
        folder = tmp_path / f"seed{summary['seed']}"
        assert summary == run_folder.read_json(folder / "summary.json")
        images = seeds.load_data(run.config)
        alone = pretrain(run.config, images)
        assert all(
            torch.equal(ours, theirs)
            for ours, theirs in zip(run.model.parameters(), alone.model.parameters(), strict=True)
        )
        tested = finish_run(alone, images, tmp_path / "alone" / folder.name)
        assert tested["accuracy_last"] == summary["accuracy_last"]


def test_finished_seeds_are_read_and_yielded_too(configs, tmp_path, monkeypatch):
    first = list(run_seeds(configs, tmp_path))
    epochs = []
    monkeypatch.setattr(finish, "probe_run", None)
    again = list(run_seeds(configs, tmp_path, on_epoch=epochs.append, deadline=0))
    assert not epochs and [summary for _, summary in again] == [summary for _, summary in first]
    for (run, _), (before, _) in zip(again, first, strict=True):
        assert run.log == before.log and run.epoch == 3
        assert all(
            torch.equal(*pair)
            for pair in zip(run.model.parameters(), before.model.parameters(), strict=True)
        )


def test_out_of_time_all_is_saved_and_the_same_call_goes_on(configs, tmp_path):
    with pytest.raises(OutOfTime, match="saved 0 of 3 epochs; the same command goes on from there"):
        list(run_seeds(configs, tmp_path, deadline=time.monotonic()))
    assert (tmp_path / "seed0" / "checkpoint.pt").exists() and not (tmp_path / "seed1").exists()
    assert [run.epoch for run, _ in run_seeds(configs, tmp_path)] == [3, 3]


def test_out_of_time_between_training_and_test(configs, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(
            seeds, "pretrain", lambda *words, deadline, **options: pretrain(*words, **options)
        )
        with pytest.raises(
            OutOfTime, match="trained, but not tested yet; the same command goes on from there"
        ):
            list(run_seeds(configs, tmp_path, deadline=time.monotonic()))
    trained = run_folder.read_checkpoint(tmp_path / "seed0" / "checkpoint.pt")
    assert trained["progress"]["epoch"] == 3 and not (tmp_path / "seed0" / "summary.json").exists()
    run, summary = next(run_seeds(configs, tmp_path))
    assert run.epoch == 3 and 0 < summary["accuracy_last"] < 1


def test_a_folder_with_another_configuration_is_refused(configs, tmp_path):
    list(run_seeds(configs[:1], tmp_path))
    with pytest.raises(ValueError, match="another configuration .temperature 0.1 there, 0.2 now"):
        list(run_seeds([dataclasses.replace(configs[0], temperature=0.2)], tmp_path))


def test_the_command_trains_rows_and_prints_the_table(preset, tmp_path, capsys):
    assert main([preset, "--only", "genscl_kd"]) == 0
    out = tmp_path / "runs" / "quick"
    printed = capsys.readouterr().out
    assert "seed 0, epoch 3/3: loss " in printed and "genscl_kd, seed 1: accuracy " in printed
    assert (
        "| GenSCL + KD | 3 | 2 |" in printed
        and str(pd.read_csv(out / "table.csv").method[0]) == "ce_mix"
    )

    trained = {path: path.stat().st_mtime_ns for path in out.glob("*/seed*/*")}
    assert main([preset, "--only", "genscl_kd"]) == 0
    printed = capsys.readouterr().out
    assert "seed 0" not in printed and "| GenSCL + KD | 3 | 2 |" in printed
    assert trained == {path: path.stat().st_mtime_ns for path in out.glob("*/seed*/*")}

    assert main([preset, "--only", "genscl_kd", "-p", "temperature=0.2"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(
        "error: runs/quick/ce_mix/seed0: holds a run with another configuration"
    )
    assert error.count("\n") == 1


def test_the_command_stops_when_the_time_is_up(preset, tmp_path, capsys):
    words = [preset, "--only", "supcon", "-p", "epochs=100000", "--max-seconds", "0.5"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert (
        "time is up: saved " in printed
        and "of 100000 epochs" in printed
        and "| SupCon |" not in printed
    )
    assert (tmp_path / "runs/quick/supcon/seed0/checkpoint.pt").exists()


def test_wrong_words_are_one_line(preset, capsys):
    assert main([preset, "--only", "supcom"]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("error: only: 'supcom' is unknown (did you mean 'supcon'?)")
    assert printed.err.count("\n") == 1 and not printed.out
