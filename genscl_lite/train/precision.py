"""In which type a network computes: bfloat16 where that is quicker, on a GPU or a processor made for it."""

import copy
import time
from collections.abc import Callable

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from genscl_lite.train import processes
from genscl_lite.train.config import TrainConfig

ROWS, ROUNDS, SECONDS = 64, 6, 2.0
"""A pass is timed with so many images, at most so often, and no more when so many seconds have gone by."""
CLEARLY = 0.9
"""bfloat16 is taken if a pass needs at most this share of float32's time; with AMX 0.5 to 0.76."""
FEW_FLOPS = 10e6
"""A network of fewer operations an image (digits') hardly gains, and is not timed: it stays in float32."""


def choose_precision(
    config: TrainConfig, model: nn.Module, image_shape: tuple[int, int, int], device: torch.device
) -> torch.dtype:
    """Return the floating point type in which ``config.precision`` lets the model compute on this device.

    "auto" is bfloat16 on a GPU that has it. On a processor that has it, too, the model's pass is timed in
    either type, and bfloat16 taken if that is clearly quicker.
    """
    if config.precision != "auto":
        return getattr(torch, config.precision)
    if device.type == "cuda":
        quicker = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        quicker = _processor_has_bfloat16() and _is_quicker(model, image_shape)
    return torch.bfloat16 if processes.any_process(quicker, device) else torch.float32


def autocast(dtype: torch.dtype, device: torch.device):
    """Return the context in which models compute in ``dtype``; parameters and losses stay float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16)


def _processor_has_bfloat16() -> bool:
    """Tell whether the processor multiplies in bfloat16, as torch sees it."""
    return any(has is True for name, has in torch.cpu.get_capabilities().items() if "bf16" in name)


def _is_quicker(model: nn.Module, image_shape: tuple[int, int, int]) -> bool:
    if flops_of_pass(model, image_shape) < FEW_FLOPS:
        return False
    types = torch.float32, torch.bfloat16
    # the processor's time, which does not grow with what else runs on the machine
    float32, bfloat16 = seconds_of_pass(
        model, image_shape, types, torch.device("cpu"), time.process_time
    )
    return bfloat16 <= CLEARLY * float32


def flops_of_pass(model: nn.Module, image_shape: tuple[int, int, int]) -> int:
    """Count the operations (a multiplication and an addition are two) of one image's pass forward."""
    device = next(model.parameters()).device
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        copy.deepcopy(model).eval()(torch.zeros(1, *image_shape, device=device))
    return counter.get_total_flops()


def seconds_of_pass(
    model: nn.Module,
    image_shape: tuple[int, int, int],
    types: tuple[torch.dtype, ...],
    device: torch.device,
    clock: Callable[[], float] = time.perf_counter,
) -> list[float]:
    """Time passes of ``ROWS`` images forward and back on a copy of the model by ``clock``, types in turns.

    Returns the least of each; the first round warms up, and counts only where it is the only one.
    """
    model = copy.deepcopy(model).train()
    images = torch.zeros(ROWS, *image_shape, device=device).contiguous(
        memory_format=torch.channels_last
    )

    def timed(dtype: torch.dtype) -> float:
        started = clock()
        with autocast(dtype, device):
            outputs = model(images)
        outputs.float().sum().backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return clock() - started

    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):  # dropout draws
        rounds, started = [], time.perf_counter()
        while not rounds or (len(rounds) < ROUNDS and time.perf_counter() - started < SECONDS):
            rounds.append([timed(dtype) for dtype in types])
    return [min(seconds) for seconds in zip(*(rounds[1:] or rounds), strict=True)]
