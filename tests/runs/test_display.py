import io
import re
import time

import pytest
from rich.console import Console

from genscl_lite.datasets import files
from genscl_lite.runs import display
from genscl_lite.runs.display import Bars, Lines, next_steps, show_results
from genscl_lite.runs.job import PROGRESS, Job
from genscl_lite.runs.paths import RESULTS
from genscl_lite.train.config import TrainConfig
from genscl_lite.train.methods import METHODS


@pytest.fixture
def job(tmp_path):
    return Job(
        "supcon", tuple(TrainConfig("supcon", seed=k, epochs=200) for k in range(2)), tmp_path
    )


def finish(job, seed, accuracy):
    about = {"seed": seed, "accuracy_last": accuracy, "seconds": 3.0}
    files.write_json(job.folder / f"seed{seed}" / "summary.json", about)


def at_epoch(job, seed, epoch, note=""):
    files.write_json(job.folder / f"seed{seed}" / PROGRESS, {"epoch": epoch, "note": note})


def test_without_a_terminal_each_finished_seed_is_a_line(job, capsys, monkeypatch):
    monkeypatch.setattr(display, "REFRESH", 0.01)
    finish(job, 0, 0.9)
    with Lines([job]) as shown:
        at_epoch(job, 1, 100)
        shown.look()
        assert not capsys.readouterr().out  # seed 0 was finished before, seed 1 is not yet
        assert re.fullmatch(r"1 of 2 runs, about \d+ s left", shown.state)
        finish(job, 1, 0.95)
    assert capsys.readouterr().out == "supcon, seed 1: accuracy 95.0 %, 3 s (2 of 2 runs)\n"


def test_after_a_minute_of_silence_a_line_says_how_far_runs_are(job, capsys, monkeypatch):
    monkeypatch.setattr(display, "SILENCE", 0.0)
    at_epoch(job, 0, 50)
    lines = Lines([job])
    time.sleep(0.001)
    lines.look()
    assert capsys.readouterr().out == "supcon, seed 0: epoch 50 of 200 (0 of 2 runs)\n"


def test_a_note_on_a_run_is_told_once_with_row_and_seed(job, capsys):
    lines = Lines([job])
    for epoch in (5, 6):
        at_epoch(job, 1, epoch, "loss: it sits at chance")
        lines.look()
    assert capsys.readouterr().out == "supcon, seed 1: loss: it sits at chance\n"


def test_on_a_terminal_a_note_stands_above_the_bars(job):
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100, color_system=None)
    with Bars([job], console) as shown:
        at_epoch(job, 1, 5, "loss: look at [key_statistics]")
        shown.look()
        shown.look()
    assert screen.getvalue().count("supcon, seed 1: loss: look at [key_statistics]") == 1


def test_on_a_terminal_each_row_is_a_bar(job):
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100, legacy_windows=False)
    with Bars([job], console) as shown:
        assert "0 of 2 seeds" in screen.getvalue()
        finish(job, 0, 0.9)
        at_epoch(job, 1, 100)
        shown.look()
        [row, whole] = shown.progress.tasks
        assert (row.completed, row.total, whole.completed, whole.total) == (300, 400, 300, 400)
        assert row.fields["note"] == "1 of 2 seeds, accuracy 90.0 %"
        assert re.fullmatch(r"1 of 2 runs, about \d+ s left", whole.fields["note"])
        at_epoch(job, 1, 200)
        shown.look()
        assert row.fields["note"] == "1 of 2 seeds, testing"
        shown.note("supcon", "failed")
    last = screen.getvalue().rpartition("SupCon")[2]
    assert "failed" in last and "all rows" in last


def test_a_narrow_terminal_still_shows_bars_and_how_far_they_are(tmp_path):
    """The longest title is wrapped; its bar and its note are whole."""
    row = Job("genscl_mix_kd_queue", (TrainConfig("genscl_mix_kd_queue", epochs=200),), tmp_path)
    at_epoch(row, 0, 100)
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=60, color_system=None)
    console.print(Bars([row], console).progress.get_renderable())
    first, second, whole = screen.getvalue().splitlines()
    assert "━" in first and "0 of 1 seeds" in first and "━" in whole and "0 of 1 runs" in whole
    assert f"{first.split(' ━')[0].strip()} {second.strip()}" == METHODS[row.method].title


def test_kept_results_have_no_weights_to_predict_with():
    assert "genscl predict" not in next_steps(RESULTS / "digits")


def test_a_report_of_another_table_is_deleted(job):
    out = job.folder
    report = out / "report.html"
    about = {"method": "supcon", "dataset": "digits", "arch": "resnet_small", "epochs": 200}
    for seed in range(2):
        path = out / "supcon" / f"seed{seed}" / "summary.json"
        files.write_json(path, about | {"seed": seed, "accuracy_last": 0.9, "seconds": 3.0})
        show_results(out)
        assert not report.exists()
        report.write_text("drawn")
        show_results(out)
        assert report.exists()
