import ast
import contextlib
import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import joblib
import nbformat
import pandas as pd
import papermill
import papermill.cli
import pytest
from click.testing import CliRunner

from genscl_lessons import exercises
from genscl_lite.datasets import cores, files
from genscl_lite.runs import kernels, launch
from genscl_lite.runs.launch import main
from genscl_lite.runs.tables import TABLE_COLUMNS
from genscl_lite.train import run_folder
from genscl_lite.train.methods import METHODS
from tests.conftest import QUICK
from tests.processes import start_python
from tests.runs.conftest import with_kernel, without_kernel, write_preset

# Kernels: what their notebooks do, and how a kernel that ends badly is met


def teacher_without_kernel(notebook, output, parameters, **options):
    execute = without_kernel if parameters.get("method") == "ce_mix" else with_kernel
    execute(notebook, output, parameters, **options)


@pytest.fixture(scope="module")
def reproduction(tmp_path_factory):
    """A row and its teacher, two seeds each; the row and the table by the notebooks themselves."""
    folder = tmp_path_factory.mktemp("reproduction")
    preset, printed = write_preset(folder), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.chdir(folder),
        contextlib.redirect_stdout(printed),
    ):
        patch.setattr(papermill, "execute_notebook", teacher_without_kernel)
        assert main([preset, "--only", "genscl_kd"]) == 0
    return SimpleNamespace(folder=folder, out=folder / "runs" / "quick", printed=printed.getvalue())


@pytest.fixture
def reproduced(reproduction, tmp_path, monkeypatch, no_kernels):
    """A copy of the reproduction, in the current folder: its folder, and the words that made it."""
    shutil.copytree(reproduction.folder, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs" / "quick", [str(tmp_path / "quick.yaml"), "--only", "genscl_kd"]


@pytest.mark.slow
def test_rows_and_their_table(reproduction):
    out, printed = reproduction.out, reproduction.printed
    assert "runs/quick: 0 of 2 rows finished" in printed
    assert "genscl_kd, seed 1: accuracy " in printed and "(4 of 4 runs)" in printed
    assert "| GenSCL + KD | 3 | 2 |" in printed and "published" not in printed
    assert printed.splitlines()[-1] == "report: runs/quick/report.html, to be opened in a browser"
    table = pd.read_csv(out / "table.csv")
    assert tuple(table.columns) == TABLE_COLUMNS
    assert (
        list(table.method) == ["ce_mix", "genscl_kd"] and (table.seeds == 2).all()
    )  # the teacher came along
    assert (out / "09_reproduce_table.ipynb").exists()
    assert {path.name for path in out.iterdir() if path.is_dir()} == {
        "ce_mix",
        "genscl_kd",
    }  # no lesson's own row
    for method in table.method:
        assert (out / method / "train.ipynb").exists() and not (
            out / method / "train_failed.ipynb"
        ).exists()
        for seed in range(2):
            names = {
                "config.json",
                "log.csv",
                "summary.json",
                "checkpoint.pt",
                "embeddings.npz",
                "model.safetensors",
            }
            assert names <= {path.name for path in (out / method / f"seed{seed}").iterdir()}
    summary = json.loads((out / "genscl_kd" / "seed1" / "summary.json").read_text())
    assert (
        summary["method"] == "genscl_kd"
        and summary["seed"] == 1
        and 0 < summary["accuracy_last"] < 1
    )
    assert {
        "dataset",
        "arch",
        "epochs",
        "accuracy_best",
        "knn_accuracy",
        "seconds",
        "images_per_second",
        "device",
        "versions",
        "git_commit",
    } <= summary.keys()


def test_the_report_is_one_file_without_code_or_lessons(reproduction):
    html = (reproduction.out / "report.html").read_text("utf-8")
    assert "The runs in runs/quick" in html and html.count("data:image/png;base64,") >= 3
    assert not re.search(r'(src|href)="(?!data:|#)', html)  # nothing is loaded from elsewhere
    for word in ("not solved yet", "import numpy", "NotImplementedError", "Exercise", "\\frac"):
        assert word not in html
    assert "<details>" not in html and "GenSCL + KD" in html


def test_nothing_that_exercises_print_is_shown(reproduction):
    assert exercises.UNSOLVED in (reproduction.out / "genscl_kd" / "train.ipynb").read_text()
    assert exercises.UNSOLVED not in reproduction.printed


@pytest.mark.slow
def test_finished_runs_are_skipped_and_the_others_go_on(reproduced, capsys):
    out, words = reproduced
    trained = {path: path.stat().st_mtime_ns for path in out.glob("*/seed*/summary.json")}
    (
        out / "genscl_kd" / "seed1" / "summary.json"
    ).unlink()  # as if it had been killed before its end
    assert main(words) == 0
    assert "1 of 2 rows finished" in capsys.readouterr().out
    again = {path: path.stat().st_mtime_ns for path in out.glob("*/seed*/summary.json")}
    assert len(again) == 4
    assert [path for path in trained if trained[path] != again[path]] == [
        out / "genscl_kd" / "seed1" / "summary.json"
    ]

    report = (out / "report.html").stat().st_mtime_ns
    assert main(words) == 0
    assert "2 of 2 rows finished" in capsys.readouterr().out
    assert (out / "report.html").stat().st_mtime_ns == report


@pytest.mark.slow
def test_another_configuration_is_refused(reproduced, capsys):
    assert main([*reproduced[1], "-p", "temperature=0.2"]) == 2
    error = capsys.readouterr().err
    assert "holds a run with another configuration (temperature 0.1 there, 0.2 now)" in error


def kernel_with(code, folder):
    """Return a stand-in for papermill that executes this code, in a kernel, instead of notebook 08."""
    spec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    cells = [nbformat.v4.new_code_cell(code)]
    nbformat.write(
        nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": spec}),
        folder / "instead.ipynb",
    )

    def execute(notebook, *words, **options):
        assert Path(notebook).name == "08_train.ipynb"
        with_kernel(str(folder / "instead.ipynb"), *words, **options)

    return execute


@pytest.mark.slow
def test_a_failing_run_is_reported_and_kept(preset, tmp_path, monkeypatch, capsys):
    code = 'raise ValueError("loss: not finite in epoch 1")'
    monkeypatch.setattr(papermill, "execute_notebook", kernel_with(code, tmp_path))
    assert main([preset, "--only", "genscl_kd"]) == 1
    errors, failed = capsys.readouterr().err, Path("runs/quick/ce_mix/train_failed.ipynb")
    assert f"error: ce_mix: ValueError: loss: not finite in epoch 1 (see {failed})" in errors
    assert "error: genscl_kd: its teacher failed" in errors
    assert "not finite" in failed.read_text()
    assert not (tmp_path / "runs/quick/table.csv").exists()


@pytest.mark.slow
def test_a_kernel_says_that_the_time_is_up_as_its_stand_in_does(
    preset, tmp_path, monkeypatch, capsys
):
    """Notebook 08 raises this exception: tests/lessons/test_train_notebook.py."""
    code = 'class OutOfTime(Exception): pass\nraise OutOfTime("saved 1 of 3 epochs")'
    monkeypatch.setattr(papermill, "execute_notebook", kernel_with(code, tmp_path))
    assert main([preset, "--only", "ce"]) == 0
    printed = capsys.readouterr()
    assert "ce paused (saved 1 of 3 epochs)" in printed.out and not printed.err
    assert not list((tmp_path / "runs/quick/ce").glob("*.ipynb"))


def test_an_accuracy_below_the_floor_fails_each_time(preset, no_kernels, capsys):
    """A finished run too; in the notebook it is an assertion: tests/lessons/test_train_notebook.py."""
    for finished in range(2):
        assert main([preset, "--only", "ce", "-p", "min_accuracy=0.99"]) == 1
        printed = capsys.readouterr()
        assert f": {finished} of 1 rows finished" in printed.out and "| CE | 3 | 2 |" in printed.out
        assert "error: ce: mean accuracy 0." in printed.err


def test_a_time_budget_cuts_the_work_into_pieces(preset, tmp_path, no_kernels, capsys):
    """Little time: the teacher is saved in its middle, and what learns from it is not begun."""
    words = [
        preset,
        "--only",
        "genscl_kd",
        "-p",
        "epochs=100000",
        "-p",
        "eval_every=100000",
        "--seeds",
        "1",
    ]
    out, begun = tmp_path / "runs" / "quick" / "ce_mix", [0, 0]
    for _ in range(2):
        assert main([*words, "--jobs", "2", "--max-seconds", "3"]) == 0
        printed = capsys.readouterr()
        paused = r"ce_mix paused \(saved (\d+) of 100000 epochs(?: and (\d+) steps)?; the same command goes"
        saved = [int(number or 0) for number in re.search(paused, printed.out).groups()]
        assert saved > begun and not printed.err
        begun = saved
        assert "genscl_kd paused (its teacher is)" in printed.out
        assert (
            "time is up: ce_mix, genscl_kd to go on with; the same command continues" in printed.out
        )
        assert not list(out.glob("*.ipynb")) and not list(out.glob("*.tmp*"))


@pytest.mark.slow
def test_interrupted_it_leaves_no_kernel_and_the_same_command_goes_on(preset, tmp_path, no_kernels):
    words = [
        preset,
        "--only",
        "supcon",
        "--seeds",
        "1",
        "-p",
        "epochs=120",
        "-p",
        "eval_every=120",
    ]  # a kernel alone ends within a second
    printed = tmp_path / "printed"
    process = start_python("-m", "genscl_lite", "reproduce", *words, printed=printed)
    checkpoint = tmp_path / "runs/quick/supcon/seed0/checkpoint.pt"
    deadline = time.monotonic() + 300
    while not checkpoint.exists():
        assert process.poll() is None and time.monotonic() < deadline, printed.read_text()
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(60) == 130
    assert "interrupted; the same command continues" in printed.read_text()
    with files.locked(
        checkpoint.parent, wait=20
    ):  # the kernel has ended too, as it also does when this one is killed
        begun = run_folder.read_checkpoint(checkpoint)["progress"]["epoch"]
    assert main(words) == 0
    assert begun < 120 and run_folder.read_checkpoint(checkpoint)["progress"]["epoch"] == 120
    assert list(pd.read_csv(checkpoint.with_name("log.csv")).epoch) == list(range(1, 121))


# What is said and planned without a kernel


def test_a_dry_run_prints_commands_that_do_the_same(preset, tmp_path, monkeypatch, capsys):
    assert main([preset, "--dry-run", "-p", "learning_rate=0.3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = len(METHODS) - 4  # without teacher and expert, and the rows that learn from the expert
    assert len(lines) == 2 * rows and not (tmp_path / "runs").exists()
    line = next(line for line in lines if "method supcon" in line and "seed1/" in line)

    make_folder, papermill_line = line.split(" && ")
    subprocess.run(make_folder, shell=True, check=True)
    executed = []

    def read_notebook(input_path, output_path, parameters, **options):
        executed.append(Path(input_path).resolve())
        without_kernel(input_path, output_path, parameters)

    monkeypatch.setattr(papermill.cli, "execute_notebook", read_notebook)
    result = CliRunner().invoke(
        papermill.cli.papermill, shlex.split(papermill_line)[1:], catch_exceptions=False
    )
    assert result.exit_code == 0 and executed[0].is_file()
    config = json.loads((tmp_path / "runs/quick/supcon/seed1/config.json").read_text())
    assert (config["learning_rate"], config["epochs"]) == (0.3, QUICK["epochs"])
    assert (tmp_path / "runs/quick/supcon/seed1/train.ipynb").exists()

    assert main([preset, "--only", "supcon", "-p", "learning_rate=0.3", "--dry-run"]) == 0
    folders = [shlex.split(line)[2] for line in capsys.readouterr().out.splitlines()]
    assert folders == ["runs/quick/supcon/seed0", "runs/quick/supcon/seed1"]


def test_a_shorter_length_is_overrides(capsys):
    for length in ("paper", "quick"):
        assert main(["cifar10_resnet18", "--length", length, "--dry-run"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == len(METHODS) - 3  # without the expert and its rows
        assert ("epochs: 50" in lines[-1]) == (length == "quick")
    assert "runs/cifar10_resnet18_quick/" in lines[-1]


@pytest.mark.parametrize(
    "words, message",
    [
        (["digit"], "error: preset: 'digit' is unknown (did you mean 'digits'?)"),
        (["missing.yaml"], "error: preset: 'missing.yaml' is unknown"),
        (
            ["digits", "--only", "gensclmix"],
            "error: only: 'gensclmix' is unknown (did you mean 'genscl_mix'?)",
        ),
        (
            ["digits", "-p", "epoch=3"],
            "error: overrides: 'epoch' is no parameter (did you mean 'epochs'?)",
        ),
        (["digits", "-p", "method=supcon"], "error: parameter: method is chosen by --only"),
        (["digits", "-p", "balanced=["], "error: parameter: 'balanced=[' is not YAML"),
        (["digits", "-p", "epochs=1:30"], "error: epochs: expected int, got '1:30'"),
        (["digits", "-p", "epochs"], "error: parameter: expected NAME=VALUE, got 'epochs'"),
        (
            ["digits", "-p", "learning_rate=low"],
            "error: learning_rate: expected float, got 'low' (YAML reads 1e-3 as text",
        ),
        (["digits", "--seeds", "0"], "error: seeds: expected at least 1, got 0"),
        (["digits", "--jobs", "0"], "error: jobs: expected at least 1, got 0"),
        (
            ["digits", "--max-seconds", "0"],
            "error: max-seconds: expected a number above 0, got 0.0",
        ),
        (
            ["digits", "--length", "quik"],
            "error: length: 'quik' is unknown (did you mean 'quick'?)",
        ),
        (["digits", "-p", "labels_per_class=1000"], "error: labels_per_class: expected 1 to"),
        (
            ["digits", "-p", "queue_size=10"],
            "error: queue_size: expected at least the 50 keys of a batch",
        ),
        (
            ["cifar10_resnet18", "-p", "data_root=nowhere"],
            "error: data_root: there is no folder 'nowhere'",
        ),
    ],
)
def test_wrong_requests_end_before_any_work(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(launch, "run_all", None)  # what is accepted fails at once
    assert main(words) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(message) and printed.err.count("\n") == 1 and not printed.out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [[], ["--dry-run"]])
def test_without_the_notebooks_it_says_what_to_do(words, preset, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(kernels, "NOTEBOOKS", tmp_path / "site-packages" / "notebooks")
    assert main([preset, *words]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(
        f"error: notebooks: {kernels.NOTEBOOKS} is not there; `genscl reproduce` executes"
    )
    assert "pip install -e .); `genscl train PRESET` needs none" in printed.err
    assert printed.err.count("\n") == 1 and not printed.out and not (tmp_path / "runs").exists()


def test_without_papermill_it_says_what_to_install(preset, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "papermill", None)
    assert main([preset]) == 2
    printed = capsys.readouterr()
    assert "pip install 'genscl-lite[notebooks]'" in printed.err and printed.err.count("\n") == 1
    assert not printed.out and not (tmp_path / "runs").exists()
    assert main([preset, "--dry-run"]) == 0


def test_papermill_is_imported_only_to_execute():
    for path in Path(launch.__file__).parent.glob("*.py"):
        code = ast.parse(path.read_text())
        assert not any("papermill" in ast.unparse(line) for line in code.body if is_import(line)), (
            path
        )


def is_import(line):
    return isinstance(line, ast.Import | ast.ImportFrom)


def test_a_second_run_in_the_same_folder_says_so(preset, tmp_path, capsys):
    with files.locked(tmp_path / "runs" / "quick"):
        assert main([preset]) == 2
    assert "another run is working in this folder" in capsys.readouterr().err


def test_kernels_share_the_cores_whatever_is_inherited(preset, monkeypatch):
    seen = []

    def look(notebook, *words, **options):
        seen.append((os.environ["OMP_NUM_THREADS"], os.environ[cores.SIDE_BY_SIDE]))
        without_kernel(notebook, *words, **options)

    monkeypatch.setattr(papermill, "execute_notebook", look)
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    monkeypatch.setenv(cores.SIDE_BY_SIDE, "1")
    monkeypatch.setattr(joblib, "cpu_count", lambda: 6)
    assert main([preset, "--only", "ce", "--seeds", "1", "--jobs", "2"]) == 0
    assert set(seen) == {("3", "2")}


@pytest.mark.slow
def test_a_kernel_killed_for_memory_is_one_line(preset, tmp_path, monkeypatch, capsys):
    code = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    monkeypatch.setattr(papermill, "execute_notebook", kernel_with(code, tmp_path))
    assert main([preset, "--only", "ce", "--seeds", "1"]) == 1
    printed = capsys.readouterr()
    assert (
        "error: ce: its kernel was killed, as systems do when memory is short; the same command goes on"
        in printed.err
    )
    assert "Traceback" not in printed.err and "ce failed" in printed.out
    monkeypatch.setattr(papermill, "execute_notebook", without_kernel)
    assert main([preset, "--only", "ce", "--seeds", "1"]) == 0


def test_a_clock_that_goes_back_leaves_no_old_table(preset, tmp_path, no_kernels, capsys):
    """The table seems to be newer than the run that it lacks."""
    assert main([preset, "--only", "ce", "--seeds", "1"]) == 0
    table = tmp_path / "runs" / "quick" / "table.csv"
    ahead = time.time() + 9999
    os.utime(table, (ahead, ahead))
    capsys.readouterr()
    assert main([preset, "--only", "simclr", "--seeds", "1"]) == 0
    assert (
        list(pd.read_csv(table).method) == ["ce", "simclr"]
        and "| SimCLR |" in capsys.readouterr().out
    )


def test_a_folder_that_cannot_be_written_is_one_line(preset, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main([preset, "--out", "file/runs"]) == 2
    printed = capsys.readouterr()
    assert printed.err == "error: [Errno 20] Not a directory: 'file/runs'\n" and not printed.out
