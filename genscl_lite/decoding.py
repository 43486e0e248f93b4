"""Image files to uint8 pixels: RGB whatever the file holds, resized and cropped by torchvision, by several processes at once."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from genscl_lite.checks import require_whole

CHUNK = 64
"""Images that a process decodes for one answer."""


def read_rgb(path: str | Path) -> Image.Image:
    """Decode an image file whole and return it as RGB, turned upright as its EXIF orientation says.

    Transparent pixels are laid over white; 16 bits of gray become 8; palette, gray and CMYK become RGB as PIL does it.

    Differs: torchvision's ImageFolder drops transparency, cuts 16 bits of gray at 255 and does not turn.

    Raises:
        ValueError: the file is missing, truncated, no image, or has pixels of unknown range (floating point).

    >>> read_rgb("missing.jpg")
    Traceback (most recent call last):
    ValueError: missing.jpg: cannot be read: [Errno 2] No such file or directory: ...
    """
    try:
        with Image.open(path) as image:
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            return image if image.mode == "RGB" and not image.has_transparency_data else _to_rgb(image)
    except MemoryError:
        raise
    except Exception as error:  # PIL's decoders meet broken files with errors of many types
        raise ValueError(f"{path}: cannot be read: {error}") from None


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("floating point pixels, whose range is unknown")
    if image.mode.startswith("I"):
        gray = np.asarray(image).astype(np.float64).clip(0, 65535) / 257
        image = Image.fromarray(np.round(gray).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def centre_crop(image: Image.Image, size: int) -> Tensor:
    """Resize the shorter side to ``size`` (antialiased) and cut out the middle: uint8 (3, size, size).

    >>> centre_crop(Image.new("RGB", (60, 40), "red"), 16)[:, 8, 8]
    tensor([255,   0,   0], dtype=torch.uint8)
    """
    return F.pil_to_tensor(F.center_crop(F.resize(image, [size], antialias=True), [size, size]))


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
                bad[file] = str(error).removeprefix(f"{self.root / file}: ")
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
    for part, wrong in _workers(CentreCrops(Path(root), size), workers, len(files))(chunks(files, CHUNK)):
        images[filled : filled + len(part)] = part
        filled += len(part)
        bad |= wrong
    return images[:filled], bad


def _workers(work: Callable, workers: int | None, images: int) -> Workers:
    """As many processes as asked for, but not more than there are answers to give."""
    return Workers(work, min(resolve_workers(workers), -(-images // CHUNK)))


def resolve_workers(workers: int | None) -> int:
    """Return the number given, or the default for None."""
    if workers is None:
        return default_workers()
    require_whole("workers", workers, least=0)
    return workers


def chunks(items: Sequence, length: int) -> list[Sequence]:
    """Cut into pieces of ``length``; the last may be shorter.

    >>> chunks("abcde", 2)
    ['ab', 'cd', 'e']
    """
    return [items[start : start + length] for start in range(0, len(items), length)]


# Streamed images


@dataclass(frozen=True)
class RandomCrops:
    """The work: random crops of a batch, uint8 (V, B, 3, size, size), drawn by torchvision from (seed, epoch, step)."""

    root: Path
    size: int
    views: int
    scale: tuple[float, float]
    ratio: tuple[float, float]

    def __call__(self, task: tuple[tuple[int, int, int], Sequence[str]]) -> Tensor:
        draw, files = task
        crop = v2.RandomResizedCrop(self.size, self.scale, self.ratio)
        views = torch.empty(self.views, len(files), 3, self.size, self.size, dtype=torch.uint8)
        with torch.random.fork_rng(devices=[]):  # torchvision draws from torch's global generator
            torch.default_generator.manual_seed(int(np.random.SeedSequence(draw).generate_state(1, np.uint64)[0]))
            for i, file in enumerate(files):
                image = read_rgb(self.root / file)
                for view in views:
                    view[i] = F.pil_to_tensor(crop(image))
        return views


class ImageFiles:
    """N images that stay in files and are decoded as they are needed; stands where a tensor of images would.

    ``images[index]`` with a slice, a list or a tensor of numbers is again ``ImageFiles``, ``images.split(rows)`` gives
    centre crops in order, ``images.random_crops(...)`` batches to train on, all uint8 and on ``images.device``.

    Args:
        root: folder that the files are relative to.
        files: N paths.
        size: height and width of what they become, in pixels.
        workers: processes that decode; 0 decodes in this one, None: ``default_workers()``.
        device: where pixels are put.

    >>> images = ImageFiles("photos", ["cat/1.jpg", "cat/2.jpg", "dog/1.jpg"], size=224)
    >>> images.shape, images[1:].files
    ((3, 3, 224, 224), ('cat/2.jpg', 'dog/1.jpg'))
    """

    dtype = torch.uint8

    def __init__(
        self, root: str | Path, files: Sequence[str], size: int, *, workers: int | None = None, device: torch.device | str = "cpu"
    ):
        require_whole("size", size)
        self.root, self.files, self.size = Path(root), tuple(str(file) for file in files), size
        self.workers, self.device = resolve_workers(workers), torch.device(device)
        self._idle: dict[RandomCrops, Workers] = {}

    def __len__(self) -> int:
        return len(self.files)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self), 3, self.size, self.size

    def __getitem__(self, index: slice | Sequence[int] | Tensor) -> "ImageFiles":
        files = np.array(self.files, dtype=object)[index.cpu().numpy() if isinstance(index, Tensor) else index]
        return ImageFiles(self.root, tuple(files), self.size, workers=self.workers, device=self.device)

    def to(self, device: torch.device | str) -> "ImageFiles":
        """Return the same images, whose pixels will be put on ``device``."""
        return ImageFiles(self.root, self.files, self.size, workers=self.workers, device=device)

    def split(self, rows: int) -> Iterator[Tensor]:
        """Give centre crops of all images in order, (rows, 3, size, size) at a time; the last part may be smaller.

        Raises:
            ValueError: a file cannot be read.
        """
        require_whole("rows", rows)
        parts = [chunks(part, CHUNK) for part in chunks(self.files, rows)]
        decoded = _workers(CentreCrops(self.root, self.size), self.workers, len(self))(sum(parts, []))
        for part in parts:
            images = []
            for _ in part:
                some, bad = next(decoded)
                for file, what in bad.items():
                    raise ValueError(f"{self.root / file}: {what}")
                images.append(some.to(self.device, non_blocking=True))
            yield torch.cat(images)

    def random_crops(
        self, index: Tensor | Sequence[Tensor], *, seed: int, epoch: int, first_step: int = 0, views: int = 2,
        scale: tuple[float, float] = (0.2, 1.0), ratio: tuple[float, float] = (3 / 4, 4 / 3),
    ) -> Iterator[Tensor]:  # fmt: skip
        """Give batches of random crops, each image decoded once for all its views.

        A batch depends on (seed, epoch, its step) and its images alone: not on the number of processes, nor on where one
        begins. Crops are those of torchvision's RandomResizedCrop, antialiased. The processes stay for the next epoch.

        Args:
            index: (steps, B) numbers of images, or a sequence of (B,) where batches differ in size.
            seed, epoch: what the crops are drawn from, with the step; 0 or more.
            first_step: the step to begin with.
            views: V.
            scale: smallest and largest area of a crop, as shares of the image.
            ratio: smallest and largest width / height of a crop.

        Yields:
            uint8 (V, B, 3, size, size) of steps first_step, first_step + 1, ...

        Raises:
            ValueError: a number is out of range, or a file cannot be read.
        """
        require_whole("views", views)
        for name, number in (("seed", seed), ("epoch", epoch), ("first_step", first_step)):
            require_whole(name, number, least=0)
        _check_range("scale", scale, 1.0)
        _check_range("ratio", ratio, float("inf"))
        for batch in index:
            if len(batch) and not 0 <= int(batch.min()) <= int(batch.max()) < len(self):
                raise ValueError(f"index: expected numbers from 0 to {len(self) - 1}, "
                                 f"got {int(batch.min())} to {int(batch.max())}")
        work = RandomCrops(self.root, self.size, views, tuple(scale), tuple(ratio))
        tasks = (((seed, epoch, step), [self.files[i] for i in index[step].tolist()]) for step in range(first_step, len(index)))
        return self._crop(work, tasks)

    def _crop(self, work: RandomCrops, tasks: Iterable) -> Iterator[Tensor]:
        workers = self._idle.pop(work, None) or Workers(work, self.workers, keep=True)
        for views in workers(tasks):
            yield views.to(self.device, non_blocking=True)
        self._idle = {work: workers}  # only those who came to the end: others may still be busy


def _check_range(name: str, bounds: tuple[float, float], most: float) -> None:
    low, high = bounds
    if not 0 < low <= high <= most or high == float("inf"):
        limit = f" of at most {most:g}" if most < float("inf") else ""
        raise ValueError(f"{name}: expected two numbers above 0{limit}, the smaller first, got {bounds!r}")
