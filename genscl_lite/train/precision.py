"""In which type a network computes: bfloat16 if the device multiplies in it, else float32.

What the device can decides, never a clock: the same run on the same machine computes in the same type.
"""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from genscl_lite.distillation import evaluation_mode
from genscl_lite.train import processes
from genscl_lite.train.config import TrainConfig

BFLOAT16_INSTRUCTIONS = ("amx_bf16", "avx512_bf16")
"""Names in ``torch.cpu.get_capabilities()``; without one of them bfloat16 is emulated, and slow."""
FEW_FLOPS = 10e6
"""A network of fewer operations an image (digits') gains nothing on a CPU and stays in float32."""


def choose_precision(
    config: TrainConfig, model: nn.Module, image_shape: tuple[int, int, int], device: torch.device
) -> torch.dtype:
    """Return the type in which the model computes on this device, as ``config.precision`` asks.

    "auto" is bfloat16 on a GPU or a processor that multiplies in it (in every process), else float32.
    """
    if config.precision != "auto":
        return getattr(torch, config.precision)
    if device.type == "cuda":
        gains = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        can = torch.cpu.get_capabilities()
        gains = any(can.get(name) for name in BFLOAT16_INSTRUCTIONS)
        gains = gains and flops_of_pass(model, image_shape) >= FEW_FLOPS
    return torch.float32 if processes.any_process(not gains, device) else torch.bfloat16


def autocast(dtype: torch.dtype, device: torch.device):
    """Return the context in which models compute in ``dtype``; parameters and losses stay float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16)


def flops_of_pass(model: nn.Module, image_shape: tuple[int, int, int]) -> int:
    """Count the operations of one image's forward pass; a multiplication and an addition are two."""
    device = next(model.parameters()).device
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), evaluation_mode(model), counter:
        model(torch.zeros(1, *image_shape, device=device))
    return counter.get_total_flops()
