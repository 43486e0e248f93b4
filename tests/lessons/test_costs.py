import numpy as np
import pandas as pd

from genscl_lessons.costs import COST_COLUMNS, by_processor, make_cost_table


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
    table, means = make_cost_table(runs), ["seconds", "probe_seconds", "images_per_second"]
    assert tuple(table.columns) == COST_COLUMNS
    teacher, supcon = table[[*means, "peak_memory_bytes"]].to_numpy()
    assert teacher[:3].tolist() == [60, 0, 900] and np.isnan(teacher[3])
    assert supcon.tolist() == [120, 30, 600, 3 * 2**30]


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
    (row,) = make_cost_table(by_processor(runs)).itertuples()
    assert row.seconds == 2 and np.isnan(row.images_per_second)
    assert by_processor(runs.drop(columns="cpu_seconds")).seconds.tolist() == [99, 50]
