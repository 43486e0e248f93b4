"""Where a run computes: the device that a command names, or the GPU if there is one."""

import os

import torch

VARIABLE = "GENSCL_DEVICE"
"""The environment variable that ``--device`` sets, as kernels of notebooks and workers inherit it."""


def default_device() -> torch.device:
    """Return the device that $GENSCL_DEVICE names; else the current GPU, or the CPU.

    >>> default_device().type in ("cpu", "cuda")
    True
    """
    if name := os.environ.get(VARIABLE):
        return read_device(name, VARIABLE)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def read_device(name: str, argument: str = "device") -> torch.device:
    """Return the device called cpu, cuda, cuda:1 or mps; ValueError if there is no such device here.

    >>> read_device("gpu")
    Traceback (most recent call last):
    ValueError: device: expected cpu, cuda, cuda:NUMBER or mps, got 'gpu'
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    count = {
        "cpu": 1,
        "cuda": torch.cuda.device_count(),
        "mps": int(torch.backends.mps.is_available()),
    }.get(device.type)
    if count is None:
        raise ValueError(f"{argument}: expected cpu, cuda, cuda:NUMBER or mps, got {name!r}")
    if (device.index or 0) >= count:
        there = f"has {count} of this kind" if count else f"has no {device.type}"
        raise ValueError(
            f"{argument}: {name!r} is not there; this machine, as PyTorch sees it, {there}"
        )
    return device


def choose_device(name: str | None) -> None:
    """Let this process and those that it starts compute on the device of this name; None: as before."""
    if name:
        if "WORLD_SIZE" in os.environ:
            raise ValueError(f"device: torchrun gives each process its own, got {name!r}")
        os.environ[VARIABLE] = str(read_device(name))
