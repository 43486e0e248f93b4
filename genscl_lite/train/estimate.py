"""How long a run will take, said before its first step."""

import math

from genscl_lite.train import processes
from genscl_lite.train.precision import ROWS, seconds_of_pass
from genscl_lite.train.state import Run

STEP_OF_PASS = 1.25
"""A whole step, with views and loss, takes about so many times as long as the model's pass alone."""


def expected_seconds(run: Run, images: int, image_shape: tuple[int, int, int]) -> float:
    """Return about how long the epochs that are left take, by those done or else by a pass of the model.

    Args:
        images: of the training set.
        image_shape: (channels, height, width).
    """
    left = run.config.epochs - run.epoch
    if run.epoch:
        return run.seconds / run.epoch * left
    [seconds] = seconds_of_pass(run.model, image_shape, (run.dtype,), run.device)
    batch = min(run.config.batch_size, images)
    rows = math.ceil(images / batch) * batch * run.config.views / processes.processes()
    return STEP_OF_PASS * seconds * rows / ROWS * left
