"""What a notebook shows while it trains: a plain line now and then, and one figure that redraws itself."""

import time
from collections.abc import Callable

import pandas as pd
from IPython.display import display
from matplotlib import pyplot as plt

from genscl_lessons.plots import plot_curves
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


def start_line(run: Run, seconds: float) -> str:
    """Return "seed 0: 80 epochs in bfloat16, about 590 s"."""
    left = run.config.epochs - run.epoch
    return f"seed {run.config.seed}: {left} epochs in {run.precision}, about {seconds:.0f} s"


def progress_line(run: Run) -> str:
    """Return "seed 0, epoch 20/200: loss 3.512, 4800 images/s, 12 s left"."""
    row, epochs = run.log[-1], run.config.epochs
    left = run.seconds / run.epoch * (epochs - run.epoch)
    return (
        f"seed {run.config.seed}, epoch {run.epoch}/{epochs}: loss {row['loss']:.3f}, "
        f"{row['images_per_second']:.0f} images/s, {left:.0f} s left"
    )
