"""A run's progress in words."""

from genscl_lite.train.state import Run


def progress_line(run: Run) -> str:
    """Return "seed 0, epoch 20/200: loss 3.512, 4800 images/s, 12 s left"."""
    row, epochs = run.log[-1], run.config.epochs
    left = run.seconds / run.epoch * (epochs - run.epoch)
    return (f"seed {run.config.seed}, epoch {run.epoch}/{epochs}: loss {row['loss']:.3f}, "
            f"{row['images_per_second']:.0f} images/s, {left:.0f} s left")
