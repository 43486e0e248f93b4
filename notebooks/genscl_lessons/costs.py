"""What runs cost: a table of seconds, speed and memory, which stands beside that of accuracies."""

import numpy as np
import pandas as pd

COST_COLUMNS = (
    "method",
    "dataset",
    "arch",
    "epochs",
    "seconds",
    "probe_seconds",
    "images_per_second",
    "peak_memory_bytes",
    "device",
)


def by_processor(runs: pd.DataFrame) -> pd.DataFrame:
    """Give each run the processor's seconds of the fastest run of its row.

    Other work on the machine lengthens those less than seconds by the clock, but up to twofold; it shortens
    none. If some run does not say them, or was on a GPU, runs are returned as they are. Images a second, which
    are by the clock, are left out.
    """
    on_gpu = "peak_memory_bytes" in runs and runs.peak_memory_bytes.notna().any()
    if on_gpu or "cpu_seconds" not in runs or runs.cpu_seconds.isna().any():
        return runs
    fastest = runs.groupby("method").cpu_seconds.transform("min")
    return runs.assign(seconds=fastest, images_per_second=np.nan)


def make_cost_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Say what a run of each method costs, with ``COST_COLUMNS``: means over seeds, but memory is the most.

    Seconds are those of training; the probe's stand beside them, the teacher's in its own row. Images a
    second count each image once, however many views it has. Memory is a GPU's; on a CPU it is missing.
    """
    runs = runs.assign(peak_memory_bytes=runs.peak_memory_bytes.astype(float))
    means = {name: "mean" for name in ("seconds", "probe_seconds", "images_per_second")}
    groups = runs.groupby(["method", "dataset", "arch", "epochs", "device"], sort=False)
    return (
        groups.agg(means | {"peak_memory_bytes": "max"}).reset_index()[list(COST_COLUMNS)].round(1)
    )
