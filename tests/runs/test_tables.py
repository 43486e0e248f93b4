import pandas as pd
import pytest

from genscl_lite.datasets import files
from genscl_lite.runs.paths import PUBLISHED, RESULTS
from genscl_lite.runs.tables import (
    COST_COLUMNS,
    make_cost_table,
    make_table,
    read_summaries,
    read_varied,
    render_cost_table,
    render_table,
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


def test_costs_are_means_over_seeds_and_the_most_memory():
    runs = summaries(
        method=["teacher", "supcon", "supcon"],
        seed=[0, 0, 1],
        seconds=[60.0, 100.0, 140.0],
        device="GPU",
        probe_seconds=[0.0, 20.0, 40.0],
        images_per_second=[900.0, 500.0, 700.0],
        peak_memory_bytes=[None, 2 * 2**30, 3 * 2**30],
    )
    table = make_cost_table(runs)
    assert tuple(table.columns) == COST_COLUMNS
    lines = render_cost_table(table).splitlines()
    assert "| Teacher: CE + MixUp-CutMix | resnet50 | 500 | 60 | 0 | 900 |  |" in lines
    assert (
        "| SupCon | resnet50 | 500 | 120 | 30 | 600 | 3.0 GiB |" in lines and lines[-1] == "On GPU."
    )


def test_published_numbers_name_known_rows_and_sources():
    published = pd.read_csv(PUBLISHED)
    assert set(published.method.dropna()) <= set(METHODS) and published.source.notna().all()
    assert published.published.between(0.5, 1).all()
    assert not published.duplicated(["dataset", "arch", "method"]).any()


def test_variations_are_the_folder_and_those_beside_it(tmp_path):
    folders = {
        "small": 80,
        "small_epochs20": 20,
        "small_epochs160": 160,
        "smaller_epochs20": 1,
        "small_batch_size9": 2,
    }
    for folder, epochs in folders.items():
        for seed in range(2):
            about = {"method": "ce", "seed": seed, "epochs": epochs}
            files.write_json(tmp_path / folder / "ce" / f"seed{seed}" / "summary.json", about)
    (tmp_path / "small_epochs40").mkdir()  # begun, nothing finished
    assert read_varied(tmp_path / "small", "epochs").epochs.tolist() == [20, 20, 80, 80, 160, 160]
    with pytest.raises(
        FileNotFoundError, match="no finished run there, and none beside it of another epochs"
    ):
        read_varied(tmp_path / "none", "epochs")


def test_older_runs_beside_newer_ones_have_no_wrong_labels(tmp_path):
    for seed, more in enumerate(({}, {"label_noise": 0.0}, {"label_noise": 0.4})):
        about = {"method": "ce", "seed": seed, "accuracy_last": 0.5} | more
        files.write_json(tmp_path / "ce" / f"seed{seed}" / "summary.json", about)
    assert read_summaries(tmp_path).label_noise.tolist() == [0.0, 0.0, 0.4]


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


def test_what_summaries_hold_stays_in_its_cell_and_is_no_formula(tmp_path):
    runs = summaries(
        method=["ce"],
        seed=[0],
        accuracy_last=[0.9],
        seconds=[3.0],
        probe_seconds=0.0,
        images_per_second=9.0,
        peak_memory_bytes=[None],
        device=["<img src=x>\n\n| CPU"],
    ).assign(arch="a|b\n<b>", dataset="=cmd()")
    row, *_, machine = render_cost_table(make_cost_table(runs)).splitlines()[2:]
    assert row.replace(r"\|", "").count("|") == 8 and r"| a\|b &lt;b&gt; |" in row
    assert machine == r"On &lt;img src=x&gt; \| CPU."
    write_table(tmp_path / "table.csv", make_table(runs))
    assert list(pd.read_csv(tmp_path / "table.csv").dataset) == ["'=cmd()"]
    for name in ("table.csv", "cost.csv"):  # what is no formula is written as it always was
        table = pd.read_csv(RESULTS / "digits" / name)
        write_table(tmp_path / name, table)
        assert (tmp_path / name).read_bytes() == (RESULTS / "digits" / name).read_bytes()
