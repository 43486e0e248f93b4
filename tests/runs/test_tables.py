import pandas as pd
import pytest

from genscl_lite.datasets import files
from genscl_lite.runs.paths import PUBLISHED, RESULTS
from genscl_lite.runs.tables import (
    make_table,
    read_summaries,
    render_table,
    run_files,
    write_table,
)
from genscl_lite.train.methods import METHODS


def summaries(**columns):
    return pd.DataFrame({"dataset": "cifar10", "arch": "resnet50", "epochs": 500, **columns})


def test_a_table_averages_over_seeds_and_joins_what_is_published():
    runs = summaries(
        method=["ce", "supcon", "supcon"],
        seed=[0, 0, 1],
        accuracy_last=[0.9, 0.95, 0.97],
        seconds=[3.0, 4.0, 6.0],
    )
    table = make_table(runs).set_index("method")
    assert table.accuracy_mean["supcon"] == 0.96 and table.accuracy_sd["supcon"] == 0.014142
    assert pd.isna(table.accuracy_sd["ce"]) and table.seconds["supcon"] == 5.0
    assert table.published["supcon"] == 0.96 and table.source["supcon"] == "GenSCL v1"
    assert "| SupCon | 500 | 2 | 96.0 ± 1.4 | 96.0 (GenSCL v1) | 5 |" in render_table(
        make_table(runs)
    )


def test_published_numbers_name_known_rows_and_sources():
    published = pd.read_csv(PUBLISHED)
    assert set(published.method.dropna()) <= set(METHODS) and published.source.notna().all()
    assert published.published.between(0.5, 1).all()
    assert not published.duplicated(["dataset", "arch", "method"]).any()


def test_older_runs_beside_newer_ones_have_no_wrong_labels(tmp_path):
    for seed, more in enumerate(({}, {"label_noise": 0.0}, {"label_noise": 0.4})):
        about = {"method": "ce", "seed": seed, "accuracy_last": 0.5} | more
        files.write_json(tmp_path / "ce" / f"seed{seed}" / "summary.json", about)
    assert read_summaries(tmp_path).label_noise.tolist() == [0.0, 0.0, 0.4]


def test_a_copy_of_a_run_is_no_run(tmp_path):
    for name in ("seed10", "seed2", "seed2_old", "seed0_1", "seed"):
        files.write_json(tmp_path / "ce" / name / "summary.json", {})
    assert [seed for _, seed, _ in run_files(tmp_path, "summary.json")] == [2, 10]


def test_no_runs_are_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="no finished run"):
        read_summaries(tmp_path)


def test_the_committed_digits_results_hold_the_papers_rows():
    """Several seeds each, and the table is that of the runs. Which row is ahead, the ledger says."""
    table = make_table(read_summaries(RESULTS / "digits")).set_index("method")
    assert (
        set(table.index)
        >= {"ce", "ce_mix", "simclr", "supcon", "genscl_kd", "genscl_mix", "genscl_mix_kd"}
        and (table.seeds.drop("expert") >= 3).all()
    )
    committed = pd.read_csv(RESULTS / "digits" / "table.csv").set_index("method")
    pd.testing.assert_frame_equal(committed, table, check_dtype=False)


def test_what_summaries_hold_is_no_formula(tmp_path):
    runs = summaries(
        method=["ce"],
        seed=[0],
        accuracy_last=[0.9],
        seconds=[3.0],
    ).assign(dataset="=cmd()")
    write_table(tmp_path / "table.csv", make_table(runs))
    assert list(pd.read_csv(tmp_path / "table.csv").dataset) == ["'=cmd()"]
    for name in ("table.csv", "cost.csv"):  # what is no formula is written as it always was
        table = pd.read_csv(RESULTS / "digits" / name)
        write_table(tmp_path / name, table)
        assert (tmp_path / name).read_bytes() == (RESULTS / "digits" / name).read_bytes()
