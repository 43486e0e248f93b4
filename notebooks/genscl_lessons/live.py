"""What a notebook shows while it trains: a plain line now and then, and one figure that redraws itself."""

import time

import pandas as pd
from IPython.display import display
from matplotlib import pyplot as plt

from genscl_lessons.plots import plot_curves
from genscl_lite.train.state import Run


class LiveCurve:
    """A figure that is there at once, to be called after each epoch and redrawn at the end.

    A call prints a line with loss, speed and time left, at most once in ``every`` seconds and after the last
    epoch of each run; it redraws the figure at most once in ``every`` seconds, as that takes long beside a
    short run. Made for ``on_epoch=`` of ``pretrain`` and ``train_job``, in Jupyter and under papermill alike.
    """

    def __init__(self, every: float = 10.0):
        self.figure, self.axes = plt.subplots(1, 2, figsize=(10, 3.2))
        self.screen = display(self.figure, display_id=True)
        plt.close(self.figure)
        self.every, self.told, self.drawn = every, time.perf_counter(), time.perf_counter()

    def __call__(self, run: Run) -> None:
        now = time.perf_counter()
        if run.epoch == run.config.epochs or now - self.told >= self.every:
            self.told = now
            print(progress_line(run), flush=True)
        if now - self.drawn >= self.every:
            self.redraw(run)

    def redraw(self, run: Run) -> None:
        """Draw the curves of a run."""
        for axis in self.axes:
            axis.clear()
        plot_curves(pd.DataFrame(run.log), self.axes)
        if self.screen:  # None outside Jupyter
            self.screen.update(self.figure)
        self.drawn = time.perf_counter()


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
