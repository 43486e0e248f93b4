import pandas as pd

from genscl_lite.runs import display, train
from genscl_lite.runs.train import main


def test_the_command_trains_rows_and_prints_the_table(preset, tmp_path, capsys):
    assert main([preset, "--only", "genscl_kd"]) == 0
    out = tmp_path / "runs" / "quick"
    printed = capsys.readouterr().out
    assert "genscl_kd, seed 1: accuracy " in printed and "(4 of 4 runs)" in printed
    assert (
        "| GenSCL + KD | 3 | 2 |" in printed
        and str(pd.read_csv(out / "table.csv").method[0]) == "ce_mix"
    )

    trained = {path: path.stat().st_mtime_ns for path in out.glob("*/seed*/*")}
    assert main([preset, "--only", "genscl_kd"]) == 0
    printed = capsys.readouterr().out
    assert "seed 0:" not in printed and "| GenSCL + KD | 3 | 2 |" in printed
    assert trained == {path: path.stat().st_mtime_ns for path in out.glob("*/seed*/*")}

    assert main([preset, "--only", "genscl_kd", "-p", "temperature=0.2"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(
        "error: runs/quick/ce_mix/seed0: holds a run with another configuration"
    )
    assert error.count("\n") == 1


def test_a_row_at_chance_is_one_line_while_it_trains(preset, capsys, monkeypatch, recwarn):
    monkeypatch.setattr(display, "REFRESH", 0.01)
    settings = {"epochs": 12, "warmup_epochs": 0, "learning_rate": 1e-30, "temperature": 100.0}
    words = [word for name, value in settings.items() for word in ("-p", f"{name}={value}")]
    main([preset, "--only", "supcon", "--seeds", "1", *words])
    printed = capsys.readouterr()
    [line] = [line for line in printed.out.splitlines() if "knows nothing" in line]
    assert line.startswith("supcon, seed 0: loss: ") and "after 5 epochs, within 2 %" in line
    assert not printed.err and not recwarn


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


def test_interrupted_it_says_so_in_a_line_and_goes_on_later(preset, monkeypatch, capsys):
    def interrupt(*words, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(train, "train_job", interrupt)
        assert main([preset, "--only", "ce", "--seeds", "1"]) == 130
    assert capsys.readouterr().err == "interrupted; the same command continues\n"
    assert main([preset, "--only", "ce", "--seeds", "1"]) == 0


def test_wrong_words_are_one_line(preset, capsys):
    assert main([preset, "--only", "supcom"]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("error: only: 'supcom' is unknown (did you mean 'supcon'?)")
    assert printed.err.count("\n") == 1 and not printed.out
