"""Processes that decode image files, started by torch's DataLoader, and what can go wrong with them."""

import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from genscl_lite._checks import require_whole
from genscl_lite.datasets.cores import share_of_cores

CHUNK = 64
"""Images that a worker decodes for one answer, where they are not those of a training batch."""
START = "fork" if sys.platform == "linux" else None
"""How processes that decode begin. Forked, they do not run the caller's script again, guarded or not."""
SHARED_MEMORY = Path("/dev/shm")
"""By which processes hand over tensors on Linux; a container has 64 MB of it unless told otherwise."""


def chunks(items: Sequence, length: int) -> list[Sequence]:
    """Cut into pieces of ``length``; the last may be shorter.

    >>> chunks("abcde", 2)
    ['ab', 'cd', 'e']
    """
    return [items[start : start + length] for start in range(0, len(items), length)]


def resolve_workers(workers: int | None) -> int:
    """Return the number given, or 16, but no more than this process's share of cores."""
    workers = 16 if workers is None else workers
    require_whole("workers", workers, least=0)
    return min(workers, share_of_cores())


@dataclass
class Batches:
    """A batch sampler whose batches can be exchanged, so that worker processes stay from epoch to epoch."""

    batches: Iterable[list]

    def __iter__(self) -> Iterator[list]:
        return iter(self.batches)


def make_loader(
    crops: torch.utils.data.Dataset,
    batches: Iterable[list],
    workers: int,
    rows: int,
    keep: bool = False,
) -> DataLoader:
    """Return a loader of batches, of up to ``rows``, of what ``crops`` is asked for; with ``keep`` its processes live on."""
    answer = rows * getattr(crops, "views", 1) * 3 * crops.size**2
    collate = crops.collate
    if workers and not shared_memory_holds(2 * workers * answer):
        collate = ByPipe(collate)
    return DataLoader(
        crops,
        batch_sampler=Batches(batches),
        collate_fn=collate,
        num_workers=workers,
        multiprocessing_context=START if workers else None,
        persistent_workers=keep and workers > 0,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),
    )  # torch's global one is left alone


def shared_memory_holds(size: int) -> bool:
    """Tell whether so many bytes fit into ``SHARED_MEMORY``, with as much again to spare."""
    return not SHARED_MEMORY.is_dir() or shutil.disk_usage(SHARED_MEMORY).free >= 2 * size


@dataclass(frozen=True)
class ByPipe:
    """Hand over a batch as a NumPy array: through a pipe, which is slower and needs no shared memory."""

    collate: Callable

    def __call__(self, items: list) -> tuple:
        crops, *others = self.collate(items)
        return crops.numpy(), *others


def answers(loader: DataLoader) -> Iterator:
    """Give what a loader's processes answer.

    Raises:
        ValueError: in one line: a file cannot be read, memory is short, or a process has ended.
    """
    try:
        for crops, *others in loader:
            yield torch.as_tensor(crops), *others
    except ValueError as error:  # of a process, it comes with a traceback
        *_, last = str(error).strip().splitlines()
        raise ValueError(last.removeprefix("ValueError: ")) from None
    except RuntimeError as error:
        if message := _short_of(str(error).strip(), loader.dataset.size):
            raise ValueError(message) from None
        raise


ENDED = ("DataLoader worker (", "An attempt has been made to start a new process")
"""How torch begins to say that a process is gone."""


def _short_of(error: str, size: int) -> str | None:
    """Return in a line what a loader lacked that met with this error; None: nothing that is known."""
    lines = error.splitlines()
    if full := [line for line in lines if "shared memory" in line]:
        return (
            f"workers: {SHARED_MEMORY} is full ({full[0]}); make it larger (docker run "
            "--shm-size=8g), or workers=0 needs none"
        )
    if "allocate memory" in error:
        return f"image_size: crops of {size} x {size} pixels need more memory than there is"
    if error.startswith(ENDED):
        return (
            f"workers: a process that decodes images has ended ({lines[0]}); memory is short, or a "
            'script lacks `if __name__ == "__main__":`; workers=0 needs no processes'
        )
    return None
