import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

from genscl_lite.datasets import files
from genscl_lite.runs.launch import main
from genscl_lite.runs.paths import PROJECT, RESULTS
from genscl_lite.runs.plan import length_path, plan, preset_path, read_presets, relative
from genscl_lite.runs.tables import (
    COST_COLUMNS,
    TABLE_COLUMNS,
    make_cost_table,
    make_table,
    read_summaries,
    render_cost_table,
    render_table,
)
from genscl_lite.train import run_folder
from genscl_lite.train.config import make_configs
from genscl_lite.train.methods import METHODS
from tests.conftest import QUICK


@pytest.fixture
def preset(tmp_path, monkeypatch):
    """A preset of runs of a fraction of a second, two seeds each."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "quick.yaml"
    path.write_text(yaml.safe_dump(QUICK | {"seeds": 2, "min_accuracy": 0.0}))
    return str(path)


def test_rows_tables_skipping_and_continuing(preset, tmp_path, capsys):
    chosen = [preset, "--only", "genscl_kd", "--only", "supcon"]
    assert main(chosen) == 0
    out = tmp_path / "runs" / "quick"
    printed = capsys.readouterr().out
    assert "0 of 3 methods finished" in printed and "about 0 s left" in printed and "| GenSCL + KD | 3 | 2 |" in printed
    table = pd.read_csv(out / "table.csv")
    assert tuple(table.columns) == TABLE_COLUMNS
    assert list(table.method) == ["ce_mix", "supcon", "genscl_kd"] and (table.seeds == 2).all()  # the teacher came along
    assert (out / "08_reproduce_table.ipynb").exists()
    for method in table.method:
        assert (out / method / "train.ipynb").exists() and not (out / method / "failed.ipynb").exists()
        for seed in range(2):
            names = {"config.json", "log.csv", "summary.json", "checkpoint.pt", "embeddings.npz", "model.safetensors"}
            assert names <= {path.name for path in (out / method / f"seed{seed}").iterdir()}
    summary = json.loads((out / "genscl_kd" / "seed1" / "summary.json").read_text())
    assert summary["method"] == "genscl_kd" and summary["seed"] == 1 and 0 < summary["accuracy_last"] < 1
    assert {"dataset", "arch", "epochs", "accuracy_best", "knn_accuracy", "seconds", "images_per_second", "device", "versions",
            "git_commit"} <= summary.keys()  # fmt: skip

    trained = {path: path.stat().st_mtime_ns for path in out.glob("*/seed*/summary.json")}
    (out / "supcon" / "seed1" / "summary.json").unlink()  # as if it had been killed before its end
    assert main(chosen) == 0
    assert "2 of 3 methods finished" in capsys.readouterr().out
    again = {path: path.stat().st_mtime_ns for path in out.glob("*/seed*/summary.json")}
    assert [path for path in trained if trained[path] != again[path]] == [out / "supcon" / "seed1" / "summary.json"]

    assert main([*chosen, "-p", "temperature=0.2"]) == 2
    assert "holds a run with another configuration (temperature 0.1 there, 0.2 now)" in capsys.readouterr().err


def test_a_dry_run_prints_commands_that_do_the_same(preset, tmp_path, capsys):
    assert main([preset, "--dry-run", "-p", "learning_rate=0.3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 * (len(METHODS) - 1) and not (tmp_path / "runs").exists()
    environment = os.environ | {"PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"}
    line = next(line for line in lines if "method supcon" in line and "seed1/" in line)
    assert "'" not in line  # nothing that xargs would stumble over
    subprocess.run(line, shell=True, check=True, env=environment, capture_output=True)
    config = json.loads((tmp_path / "runs/quick/supcon/seed1/config.json").read_text())
    assert config["learning_rate"] == 0.3 and config["epochs"] == QUICK["epochs"]
    assert main([preset, "--only", "supcon", "-p", "learning_rate=0.3", "--dry-run"]) == 0
    folders = [shlex.split(line)[2] for line in capsys.readouterr().out.splitlines()]
    assert folders == ["runs/quick/supcon/seed0", "runs/quick/supcon/seed1"]


@pytest.mark.parametrize("words, message", [
    (["digit"], "error: preset: 'digit' is unknown (did you mean 'digits'?)"),
    (["missing.yaml"], "error: preset: 'missing.yaml' is unknown"),
    (["digits", "--only", "gensclmix"], "error: only: 'gensclmix' is unknown (did you mean 'genscl_mix'?)"),
    (["digits", "-p", "epoch=3"], "error: epoch: unknown parameter (did you mean 'epochs'?)"),
    (["digits", "-p", "method=supcon"], "error: parameter: method is chosen by --only"),
    (["digits", "-p", "epochs=["], "error: parameter: 'epochs=[' is not YAML"),
    (["digits", "-p", "epochs"], "error: parameter: expected NAME=VALUE, got 'epochs'"),
    (["digits", "-p", "learning_rate=1e-3"], "error: learning_rate: expected float, got '1e-3' (YAML reads 1e-3 as text"),
    (["digits", "--seeds", "0"], "error: seeds: expected at least 1, got 0"),
    (["digits", "--jobs", "0"], "error: jobs: expected at least 1, got 0"),
    (["digits", "--max-seconds", "0"], "error: max-seconds: expected a number above 0, got 0.0"),
    (["digits", "--length", "quik"], "error: length: 'quik' is unknown (did you mean 'quick'?)"),
    (["digits", "-p", "labels_per_class=1000"], "error: labels_per_class: expected 1 to"),
    (["digits", "-p", "queue_size=10"], "error: queue_size: expected at least the 50 keys of a batch"),
    (["cifar10_resnet18", "-p", "data_root=nowhere"], "error: cifar10: nowhere/cifar-10-batches-py/data_batch_1 is missing"),
])  # fmt: skip
def test_wrong_requests_end_before_any_work(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(message) and printed.err.count("\n") == 1 and not printed.out
    assert not list(tmp_path.iterdir())


def test_a_second_run_in_the_same_folder_says_so(preset, tmp_path, capsys):
    with files.locked(tmp_path / "runs" / "quick"):
        assert main([preset]) == 2
    assert "another run is working in this folder" in capsys.readouterr().err


def test_a_failing_run_is_reported_and_kept(preset, tmp_path, capsys):
    assert main([preset, "--only", "genscl_kd", "-p", "learning_rate=1e30", "-p", "warmup_epochs=0"]) == 2  # YAML: text
    assert main([preset, "--only", "genscl_kd", "-p", "learning_rate=1.0e+30", "-p", "warmup_epochs=0"]) == 1
    errors = capsys.readouterr().err
    assert "error: ce_mix: ValueError: loss: not finite in epoch" in errors and "error: genscl_kd: its teacher failed" in errors
    assert (tmp_path / "runs/quick/ce_mix/failed.ipynb").exists()
    assert not (tmp_path / "runs/quick/table.csv").exists()


def test_an_accuracy_below_the_floor_fails_each_time(preset, tmp_path, capsys):
    for message in ("error: ce: AssertionError: mean accuracy 0.", "error: ce: mean accuracy 0."):
        assert main([preset, "--only", "ce", "-p", "min_accuracy=0.99"]) == 1
        printed = capsys.readouterr()
        assert message in printed.err and "| CE | 3 | 2 |" in printed.out


def test_a_time_budget_cuts_the_work_into_pieces(preset, tmp_path, capsys):
    """Little time: the teacher is saved in its middle, what learns from it is not begun, and all goes on by the same command."""
    command = [preset, "--only", "genscl_kd", "-p", "epochs=2000", "-p", "eval_every=2000", "--seeds", "1"]
    assert main([*command, "--max-seconds", "12"]) == 0
    printed = capsys.readouterr()
    assert re.search(r"ce_mix paused \(saved \d+ of 2000 epochs( and \d steps)?; the same command goes on", printed.out)
    assert "genscl_kd paused (its teacher is)" in printed.out and not printed.err
    assert "time is up: ce_mix, genscl_kd to go on with; the same command continues" in printed.out
    out = tmp_path / "runs" / "quick" / "ce_mix"
    assert not (out / "train.ipynb").exists() and not list(out.glob("*.tmp*")) and not (out / "failed.ipynb").exists()
    begun = run_folder.read_checkpoint(out / "seed0" / "checkpoint.pt")["progress"]["epoch"]
    assert main([*command, "--max-seconds", "12"]) == 0
    assert run_folder.read_checkpoint(out / "seed0" / "checkpoint.pt")["progress"]["epoch"] > begun


def test_a_preset_with_a_teacher_row_trains_one_teacher_for_all_seeds(tmp_path):
    own = {"teacher": {"arch": "resnet18", "views": 1, "ema": 0.9}}
    jobs = plan({"by_method": own, "labels_per_class": 0, "seeds": 3, "epochs": 20}, tmp_path, ["genscl_kd", "supcon"])
    assert [job.method for job in jobs] == ["teacher", "supcon", "genscl_kd"]
    assert [job.teaches(jobs) for job in jobs] == [True, False, False]
    configs = [make_configs(job.parameters) for job in jobs]
    assert [len(seeds) for seeds in configs] == [1, 3, 3]
    assert (configs[0][0].arch, configs[0][0].views, configs[0][0].ema) == ("resnet18", 1, 0.9)
    assert configs[2][0].teacher == str(tmp_path / "teacher") and configs[2][0].arch == "resnet_small"
    with_few_labels = plan({"by_method": own, "seeds": 3, "epochs": 20}, tmp_path, ["genscl_kd"])
    assert len(make_configs(with_few_labels[0].parameters)) == 3
    without = [job.method for job in plan({"epochs": 20}, tmp_path, [])]
    assert without[0] == "ce_mix" and sorted([*without, "teacher"]) == sorted(METHODS)


def test_a_given_teacher_needs_no_row(tmp_path):
    given = "torchvision/resnet50@IMAGENET1K_V2"
    jobs = plan({"epochs": 20, "teacher": given}, tmp_path, ["genscl_kd"])
    assert [job.method for job in jobs] == ["genscl_kd"] and not jobs[0].teaches(jobs)
    assert make_configs(jobs[0].parameters)[0].teacher == given


def test_quick_is_the_same_recipe_in_fewer_epochs(capsys):
    configs = {length: main(["cifar10_resnet18", "--length", length, "--dry-run"]) or capsys.readouterr().out.splitlines()
               for length in ("paper", "quick")}
    assert len(configs["paper"]) == len(configs["quick"]) == len(METHODS)
    line = configs["quick"][-1]
    assert "runs/cifar10_resnet18_quick/" in line and line.count(" -f ") == 2 and "lengths/quick.yaml" in line
    made = [make_configs(read_presets([p for p in (preset_path("cifar10_resnet18"), length_path(length)) if p]))[0]
            for length in ("paper", "quick")]
    assert made[0].epochs == 500 and made[1].epochs == 50
    assert {f for f in vars(made[0]) if getattr(made[0], f) != getattr(made[1], f)} == {
        "epochs", "warmup_epochs", "probe_epochs", "eval_every"}  # fmt: skip


def test_the_same_folder_in_other_words_is_the_same(preset, tmp_path):
    jobs = [plan({}, relative(out), ["genscl_kd"])[-1] for out in (Path("runs/a"), tmp_path / "runs" / "a", Path("./runs/a"))]
    assert len({job.parameters["teacher"] for job in jobs}) == 1


def test_killed_it_leaves_no_kernel_and_the_same_command_goes_on(preset, tmp_path):
    command = [sys.executable, "-m", "genscl_lite", "reproduce", preset, "--only", "supcon", "-p", "epochs=150", "--seeds", "1"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    checkpoint = tmp_path / "runs/quick/supcon/seed0/checkpoint.pt"
    wait_for(checkpoint.exists, process)
    process.kill()
    process.wait()
    with files.locked(checkpoint.parent, wait=20):  # the kernel has ended too
        begun = run_folder.read_checkpoint(checkpoint)["progress"]["epoch"]
    subprocess.run(command, check=True, capture_output=True)
    assert begun < 150 and run_folder.read_checkpoint(checkpoint)["progress"]["epoch"] == 150
    log = pd.read_csv(checkpoint.with_name("log.csv"))
    assert list(log.epoch) == list(range(1, 151))


def test_interrupted_by_hand_it_says_how_to_go_on(preset, tmp_path):
    command = [sys.executable, "-m", "genscl_lite", "reproduce", preset, "--only", "supcon", "-p", "epochs=1500", "--seeds", "1"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    wait_for((tmp_path / "runs/quick/supcon/seed0/checkpoint.pt").exists, process)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    assert "interrupted; the same command continues" in process.stderr.read()


def wait_for(condition, process, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)


def summaries(**columns):
    return pd.DataFrame({"dataset": "cifar10", "arch": "resnet50", "epochs": 500, **columns})


def test_a_table_averages_over_seeds_and_joins_what_is_published():
    runs = summaries(method=["ce", "supcon", "supcon"], seed=[0, 0, 1], accuracy_last=[0.9, 0.95, 0.97], seconds=[3.0, 4.0, 6.0])
    table = make_table(runs).set_index("method")
    assert table.accuracy_mean["supcon"] == 0.96 and abs(table.accuracy_sd["supcon"] - 0.0141) < 1e-9
    assert pd.isna(table.accuracy_sd["ce"]) and table.seconds["supcon"] == 5.0
    assert table.published["supcon"] == 0.96 and table.source["supcon"] == "GenSCL v1"
    assert "| SupCon | 500 | 2 | 96.0 ± 1.4 | 96.0 (GenSCL v1) | 5 |" in render_table(make_table(runs))


def test_costs_are_means_over_seeds_and_the_most_memory():
    runs = summaries(method=["teacher", "supcon", "supcon"], seed=[0, 0, 1], seconds=[60.0, 100.0, 140.0], device="GPU",
                     probe_seconds=[0.0, 20.0, 40.0], images_per_second=[900.0, 500.0, 700.0],
                     peak_memory_bytes=[None, 2 * 2**30, 3 * 2**30])  # fmt: skip
    table = make_cost_table(runs)
    assert tuple(table.columns) == COST_COLUMNS
    lines = render_cost_table(table).splitlines()
    assert "| Teacher: CE + MixUp-CutMix | resnet50 | 500 | 60 | 0 | 900 |  |" in lines
    assert "| SupCon | resnet50 | 500 | 120 | 30 | 600 | 3.0 GiB |" in lines and lines[-1] == "On GPU."


def test_published_numbers_name_known_rows_and_sources():
    published = pd.read_csv(PROJECT / "data" / "published.csv")
    assert set(published.method) <= set(METHODS) and published.source.notna().all()
    assert published.published.between(0.5, 1).all()
    assert not published.duplicated(["dataset", "arch", "method"]).any()


def test_no_runs_are_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="no finished run"):
        read_summaries(tmp_path)


def test_the_committed_digits_results_show_the_papers_ordering():
    """Mean above mean by more than the standard error, over SupCon and over plain CE; and the table is that of the runs."""
    runs = read_summaries(RESULTS / "digits")
    table = make_table(runs).set_index("method")
    assert list(table.index) == [method for method in METHODS if method != "teacher"] and (table.seeds >= 3).all()
    error = table.accuracy_sd / table.seeds**0.5
    for method in ("genscl_mix", "genscl_mix_kd"):
        for baseline in ("supcon", "ce"):
            gain = table.accuracy_mean[method] - table.accuracy_mean[baseline]
            assert gain > (error[method] ** 2 + error[baseline] ** 2) ** 0.5
    committed = pd.read_csv(RESULTS / "digits" / "table.csv").set_index("method")
    pd.testing.assert_frame_equal(committed, table, check_dtype=False)
