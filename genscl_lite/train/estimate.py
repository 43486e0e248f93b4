"""How long a run will take, estimated before its first step."""

import copy
import math
import time

import torch
from torch import nn

from genscl_lite.train import processes
from genscl_lite.train.precision import autocast
from genscl_lite.train.state import Run

ROWS, ROUNDS, SECONDS = 64, 6, 2.0
"""Images of a timed pass at most, passes at most, and the seconds after which none is begun."""
STEP_OF_PASS = 1.25
"""Time of a whole step, with views and loss, divided by that of the model's pass alone."""


def expected_seconds(run: Run, images: int, image_shape: tuple[int, int, int]) -> float:
    """Return about how long the remaining epochs take: from those done, or else from a pass of the model.

    Args:
        images: of the training set.
        image_shape: (channels, height, width).
    """
    left = run.config.epochs - run.epoch
    if run.epoch:
        return run.seconds / run.epoch * left
    batch = min(run.config.batch_size, images)
    rows_of_step = batch * run.config.views // processes.world_size()
    at_once = run.config.micro_batch or rows_of_step  # so many there is room for
    rows = max(2, min(ROWS, at_once))
    seconds = seconds_of_pass(run.model, image_shape, run.dtype, run.device, rows)
    return STEP_OF_PASS * seconds * math.ceil(images / batch) * rows_of_step / rows * left


def seconds_of_pass(
    model: nn.Module,
    image_shape: tuple[int, int, int],
    dtype: torch.dtype,
    device: torch.device,
    rows: int = ROWS,
) -> float:
    """Time passes of so many images forward and back on a copy of the model; return the shortest.

    The first pass warms up, and counts only if it is the only one.
    """
    model = copy.deepcopy(model).train()
    images = torch.zeros(rows, *image_shape, device=device).contiguous(
        memory_format=torch.channels_last
    )

    def timed() -> float:
        started = time.perf_counter()
        with autocast(dtype, device):
            outputs = model(images)
        outputs.float().sum().backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - started

    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):  # dropout draws
        seconds, started, over = [], time.perf_counter(), False
        while len(seconds) < ROUNDS and not over:
            seconds.append(timed())
            # several processes wait for each other in BatchNorm, so all must do equally many passes
            over = processes.any_process(time.perf_counter() - started >= SECONDS, device)
    return min(seconds[1:] or seconds)
