"""Image files to uint8 pixels: RGB whatever the file holds, resized and cropped by torchvision, by several processes at once."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import functional as F

from genscl_lite._checks import require_whole

CHUNK = 64
"""Images that a process decodes for one answer."""


def read_rgb(path: str | Path | Image.Image) -> Tensor:
    """Decode an image file whole: uint8 RGB (3, H, W), turned upright as its EXIF orientation says. So does a PIL image.

    Transparent pixels are laid over white; 16 bits of gray become 8; palette, gray and CMYK become RGB as PIL does it.

    Differs: torchvision's ImageFolder drops transparency, cuts 16 bits of gray at 255 and does not turn.

    Raises:
        ValueError: the file is missing, truncated, no image, or has pixels of unknown range (floating point).

    >>> read_rgb("missing.jpg")
    Traceback (most recent call last):
    ValueError: missing.jpg: cannot be read: [Errno 2] No such file or directory: ...
    """
    try:
        if isinstance(path, Image.Image):
            return F.pil_to_tensor(_to_rgb(ImageOps.exif_transpose(path)))
        with Image.open(path) as image:
            ImageOps.exif_transpose(image, in_place=True)
            return F.pil_to_tensor(_to_rgb(image))
    except MemoryError:
        raise
    except Exception as error:  # PIL's decoders meet broken files with errors of many types
        what = "no image of a known format" if isinstance(error, UnidentifiedImageError) else error
        raise ValueError(f"{path}: cannot be read: {what}") from None


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if image.mode == "F":
        raise ValueError("floating point pixels, whose range is unknown")
    if image.mode.startswith("I"):
        gray = np.asarray(image).astype(np.float64).clip(0, 65535) / 257
        image = Image.fromarray(np.round(gray).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def centre_crop(image: Tensor, size: int) -> Tensor:
    """Resize the shorter side of a uint8 (3, H, W) image to ``size`` (antialiased) and cut out the middle: (3, size, size).

    >>> centre_crop(torch.full((3, 40, 60), 7, dtype=torch.uint8), 16).shape
    torch.Size([3, 16, 16])
    """
    return F.center_crop(F.resize(image, [size], antialias=True), [size, size])


def to_gray(image: Tensor) -> Tensor:
    """Turn uint8 RGB (3, H, W) into gray (1, H, W), with PIL's weights and rounding; gray pixels keep their value.

    >>> to_gray(torch.tensor([[[255, 7]], [[0, 7]], [[0, 7]]], dtype=torch.uint8))
    tensor([[[76,  7]]], dtype=torch.uint8)
    """
    weights = torch.tensor([19595, 38470, 7471], dtype=torch.int32).reshape(3, 1, 1)  # of 65536
    return ((image * weights).sum(dim=0, keepdim=True) + 32768 >> 16).to(torch.uint8)


def default_workers() -> int:
    """Return how many processes decode where nothing else is said: one for each core this process may use, at most 16."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(16, cores)


# Work done by processes, in order


class _Work:
    """A data set whose items are answers: ``work(task)``, or the ValueError it met."""

    def __init__(self, work: Callable):
        self.work = work

    def __getitem__(self, task):
        try:
            return self.work(task)
        except ValueError as error:  # handed over as it is; the loader would wrap it into a page of traceback
            return error


class Workers:
    """Processes that do ``work(task)`` for one sequence of tasks after another; answers come in the order of the tasks.

    The work must not depend on the process that does it. torch's global random state is left alone.

    Args:
        work: function of a task, which can be pickled.
        workers: number of processes; 0 works in this one.
        keep: keep the processes when a sequence is done.

    >>> list(Workers(abs, 0)([-1, 2]))
    [1, 2]
    """

    def __init__(self, work: Callable, workers: int, keep: bool = False):
        self.loader = DataLoader(
            _Work(work), batch_size=None, sampler=_Tasks(), num_workers=workers, persistent_workers=keep and workers > 0,
            pin_memory=torch.cuda.is_available(), generator=torch.Generator(),
        )  # fmt: skip

    def __call__(self, tasks: Iterable) -> Iterator:
        self.loader.sampler.tasks = tasks
        for answer in self.loader:
            if isinstance(answer, ValueError):
                raise answer
            yield answer


class _Tasks:
    """A sampler that hands out the tasks themselves, so that processes that live on need know nothing beforehand."""

    tasks: Iterable = ()

    def __iter__(self):
        return iter(self.tasks)


def resolve_workers(workers: int | None) -> int:
    """Return the number given, or the default for None."""
    if workers is None:
        return default_workers()
    require_whole("workers", workers, least=0)
    return workers


def start_workers(work: Callable, workers: int | None, tasks: int) -> Workers:
    """Return the ``Workers`` asked for (None: the default number), but not more than there are tasks."""
    return Workers(work, min(resolve_workers(workers), tasks))


def chunks(items: Sequence, length: int) -> list[Sequence]:
    """Cut into pieces of ``length``; the last may be shorter.

    >>> chunks("abcde", 2)
    ['ab', 'cd', 'e']
    """
    return [items[start : start + length] for start in range(0, len(items), length)]


# Resident images


@dataclass(frozen=True)
class CentreCrops:
    """The work: centre crops of some files, as uint8 (n, 3, size, size) of those that can be read, and file -> what is wrong."""

    root: Path
    size: int

    def __call__(self, files: Sequence[str]) -> tuple[Tensor, dict[str, str]]:
        images, bad = [torch.empty(0, 3, self.size, self.size, dtype=torch.uint8)], {}
        for file in files:
            try:
                images.append(centre_crop(read_rgb(self.root / file), self.size)[None])
            except ValueError as error:
                bad[file] = str(error).removeprefix(f"{self.root / file}: cannot be read: ")
        return torch.cat(images), bad


def decode_resident(
    files: Sequence[str | Path], size: int, *, root: str | Path = "", workers: int | None = None
) -> tuple[Tensor, dict[str, str]]:
    """Decode files, each once, to centre crops in memory.

    Args:
        files: N paths, relative to ``root``.
        size: height and width of the crops in pixels; the shorter side of an image is resized to it.
        workers: processes; None: ``default_workers()``.

    Returns:
        uint8 (N, 3, size, size) of the files that can be read, in their order, and file -> what is wrong for the others.
    """
    require_whole("size", size)
    files = [str(file) for file in files]
    images, bad, filled = torch.empty(len(files), 3, size, size, dtype=torch.uint8), {}, 0
    tasks = chunks(files, CHUNK)
    for part, wrong in start_workers(CentreCrops(Path(root), size), workers, len(tasks))(tasks):
        images[filled : filled + len(part)] = part
        filled += len(part)
        bad |= wrong
    return images[:filled], bad
