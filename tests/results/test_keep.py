import pandas as pd
import torch

from genscl_lite.runs.finish import finish_run
from genscl_lite.runs.paths import RESULTS
from genscl_lite.train.loop import pretrain
from tests.scripts import load_script

keep = load_script(RESULTS / "keep.py")


def test_small_files_are_kept(quick, digits, tmp_path):
    for seed in range(2):
        folder = tmp_path / "runs" / "ce" / f"seed{seed}"
        finish_run(pretrain(quick("ce", seed=seed), digits, folder), digits, folder)
    (tmp_path / "runs" / "table.csv").write_text("method\nce\n")
    keep.keep_results(tmp_path / "runs", tmp_path / "kept")
    kept = sorted(
        str(path.relative_to(tmp_path / "kept")) for path in (tmp_path / "kept").rglob("*.*")
    )
    assert kept == [
        "ce/seed0/config.json",
        "ce/seed0/embeddings.npz",
        "ce/seed0/log.csv",
        "ce/seed0/predictions.npz",
        "ce/seed0/summary.json",
        "ce/seed1/log.csv",
        "ce/seed1/predictions.npz",
        "ce/seed1/summary.json",
        "cost.csv",
        "table.csv",
    ]
    whole, thin = (
        pd.read_csv(path / "ce/seed1/log.csv") for path in (tmp_path / "runs", tmp_path / "kept")
    )
    assert (
        len(whole) == 3
        and thin.epoch.tolist() == [2, 3]
        and thin.loss.tolist() == whole.loss[1:].tolist()
    )
    assert torch.load(folder / "checkpoint.pt", weights_only=True)["progress"]["epoch"] == 3
    assert keep.main([str(tmp_path / "runs"), str(tmp_path / "less"), "--no-embeddings"]) == 0
    assert {path.name for path in (tmp_path / "less/ce/seed0").iterdir()} == {
        "config.json",
        "log.csv",
        "predictions.npz",
        "summary.json",
    }


def test_the_script_keeps_them_too(tmp_path, capsys):
    assert keep.main([str(RESULTS / "digits"), str(tmp_path / "kept")]) == 0
    committed, kept = (
        {path.relative_to(folder) for path in folder.rglob("*.*") if path.suffix != ".png"}
        for folder in (RESULTS / "digits", tmp_path / "kept")
    )
    assert kept == committed
    assert keep.main([str(tmp_path / "nowhere"), str(tmp_path / "other")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "no finished run" in error and error.count("\n") == 1
    assert not (tmp_path / "other").exists()
