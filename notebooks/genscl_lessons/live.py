"""What a notebook shows while it trains: a plain line now and then, and one figure that redraws itself."""

import time
from collections.abc import Callable

import pandas as pd
from IPython.display import display
from matplotlib import pyplot as plt

from genscl_lessons.plots import plot_curves
from genscl_lite.runs.job import progress_line
from genscl_lite.train.state import Run


def live_curve(every: float = 10.0) -> Callable[[Run], None]:
    """Show an empty figure now and return the function to call after each epoch.

    It prints a line with loss, speed and time left, and redraws the figure, at most once in ``every`` seconds
    and after the last epoch of each run. Made for ``on_epoch=`` of ``pretrain`` and ``train_job``, in Jupyter
    and under papermill alike.
    """
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.2))
    screen = display(figure, display_id=True)
    plt.close(figure)
    shown = time.perf_counter()

    def show(run: Run) -> None:
        nonlocal shown
        if run.epoch < run.config.epochs and time.perf_counter() - shown < every:
            return
        shown = time.perf_counter()
        print(progress_line(run), flush=True)
        for axis in axes:
            axis.clear()
        plot_curves(pd.DataFrame(run.log), axes)
        if screen:  # None outside Jupyter
            screen.update(figure)

    return show
