import pandas as pd

from genscl_lessons.costs import COST_COLUMNS, by_processor, make_cost_table, render_cost_table


def summaries(**columns):
    return pd.DataFrame({"dataset": "cifar10", "arch": "resnet50", "epochs": 500, **columns})


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


def test_beside_seconds_of_the_processor_nothing_goes_by_the_clock():
    runs = summaries(
        method=["ce", "ce"],
        seconds=[99.0, 50.0],
        cpu_seconds=[2.0, 4.0],
        probe_seconds=0.0,
        images_per_second=[9.0, 90.0],
        peak_memory_bytes=[None, None],
        device="CPU",
    )
    row, *_ = render_cost_table(make_cost_table(by_processor(runs))).splitlines()[2:]
    assert row == "| CE | resnet50 | 500 | 3 | 0 |  |  |"
    assert by_processor(runs.drop(columns="cpu_seconds")).seconds.tolist() == [99, 50]


def test_what_summaries_hold_stays_in_its_cell():
    runs = summaries(
        method=["ce"],
        seconds=[3.0],
        probe_seconds=0.0,
        images_per_second=9.0,
        peak_memory_bytes=[None],
        device=["<img src=x>\n\n| CPU"],
    ).assign(arch="a|b\n<b>")
    row, *_, machine = render_cost_table(make_cost_table(runs)).splitlines()[2:]
    assert row.replace(r"\|", "").count("|") == 8 and r"| a\|b &lt;b&gt; |" in row
    assert machine == r"On &lt;img src=x&gt; \| CPU."
