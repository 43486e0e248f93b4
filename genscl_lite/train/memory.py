"""Memory: keep what a step frees, and what to do if there is too little."""

import ctypes
import platform
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

from genscl_lite.train import processes
from genscl_lite.train.config import TrainConfig
from genscl_lite.train.state import Run

Result = TypeVar("Result")

M_MMAP_THRESHOLD, M_TRIM_THRESHOLD = -3, -1  # names and numbers of malloc.h
LARGEST_MMAP_THRESHOLD = 2**25  # bytes; glibc takes no more
NEVER = 2**31 - 1

PIECES = (1000, 250, 60)
"""Images that are tested at a time; smaller numbers are tried if memory is too small for the first."""


def keep_freed_memory() -> None:
    """Let glibc keep freed memory instead of returning it to the system; elsewhere do nothing.

    A step on a CPU frees and allocates the same tensors of some megabytes again and again, and a new page is
    cleared at its first use: a tenth of a step of ``convnet_small``. It takes both settings, as setting one
    stops glibc from adapting the other. The process keeps them, and as much memory as it ever needed.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)
        libc.mallopt(M_TRIM_THRESHOLD, NEVER)


def out_of_memory(error: RuntimeError) -> bool:
    """Tell whether an error says that a device's memory, or the CPU's, is too small."""
    on_cpu = "can't allocate memory" in str(error)
    return isinstance(error, torch.OutOfMemoryError) or on_cpu


def in_pieces(test: Callable[[int], Result], device: torch.device) -> Result:
    """Return ``test(n)`` for the first n of ``PIECES``, images at a time, for which memory suffices."""
    for images in PIECES:
        try:
            return test(images)
        except RuntimeError as error:
            if not out_of_memory(error) or images == PIECES[-1]:
                raise
        if device.type == "cuda":
            torch.cuda.empty_cache()
        warnings.warn(
            f"memory: too little on {device} to test {images} images at a time; fewer are tried",
            stacklevel=3,
        )


@contextmanager
def shortage_named(device: torch.device, advise: Callable[[], str]) -> Iterator[None]:
    """Raise MemoryError in one line, which ends with ``advise()``, if the device's memory is too small."""
    try:
        yield
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        raise MemoryError(f"out of memory on {device}{advise()}") from None


def model_too_large(config: TrainConfig) -> str:
    """Say which settings make the model as large as it is."""
    return (
        f": {config.arch} with latent_dim {config.latent_dim} and queue_size {config.queue_size} "
        "needs more than there is"
    )


def batch_too_large(run: Run, save: Callable[[], None] | None) -> str:
    """Save what was trained, and say which batch size to try.

    One of several processes does not save, as it would wait for the others, which wait for its gradients.
    """
    saved = ""
    if save and processes.world_size() == 1 and (run.epoch or run.step):
        save()
        saved = f"; {run.progress} are saved"
    batch, views = run.config.batch_size, run.config.views
    return (
        f" with batch_size {batch} and {views} views; try batch_size {max(1, batch // 2)}, "
        f"in a folder of its own{saved}"
    )
