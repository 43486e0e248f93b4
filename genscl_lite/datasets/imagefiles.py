"""Images that stay in files: random crops to train on, in a given order, and centre crops to test with."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import v2

from genscl_lite._checks import require_whole
from genscl_lite.datasets.decoding import CHUNK, CentreCrops, Workers, chunks, read_rgb, resolve_workers, start_workers


@dataclass(frozen=True)
class RandomCrops:
    """The work: random crops of rows of a batch, uint8 (V, rows, 3, size, size).

    Each image's are drawn by torchvision from (seed, epoch, step, row).
    """

    root: Path
    size: int
    views: int
    scale: tuple[float, float]
    ratio: tuple[float, float]

    def __call__(self, task: tuple[tuple[int, int, int], Sequence[int], Sequence[str]]) -> Tensor:
        draw, rows, files = task
        crop = v2.RandomResizedCrop(self.size, self.scale, self.ratio)
        views = torch.empty(self.views, len(files), 3, self.size, self.size, dtype=torch.uint8)
        with torch.random.fork_rng(devices=[]):  # torchvision draws from torch's global generator
            for i, (row, file) in enumerate(zip(rows, files, strict=True)):
                image = read_rgb(self.root / file)
                seed = np.random.SeedSequence((*draw, row)).generate_state(1, np.uint64)[0]
                torch.default_generator.manual_seed(int(seed))
                for view in views:
                    view[i] = crop(image)
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
        tasks = [task for part in parts for task in part]
        decoded = start_workers(CentreCrops(self.root, self.size), self.workers, len(tasks))(tasks)
        for part in parts:
            images = []
            for _ in part:
                some, bad = next(decoded)
                for file, what in bad.items():
                    raise ValueError(f"{self.root / file}: cannot be read: {what}")
                images.append(some.to(self.device, non_blocking=True))
            yield torch.cat(images)

    def random_crops(
        self, index: Tensor | Sequence[Tensor], *, seed: int, epoch: int, first_step: int = 0, views: int = 2,
        scale: tuple[float, float] = (0.2, 1.0), ratio: tuple[float, float] = (3 / 4, 4 / 3), rows: slice = slice(None),
    ) -> Iterator[Tensor]:  # fmt: skip
        """Give batches of random crops, each image decoded once for all its views.

        A crop depends on (seed, epoch, step, row) and its image alone: not on the number of processes, nor on where one
        begins. Crops are those of torchvision's RandomResizedCrop, antialiased. The processes stay for the next epoch.

        Args:
            index: (steps, B) numbers of images, or a sequence of (B,) where batches differ in size.
            seed, epoch: what the crops are drawn from, with the step; 0 or more.
            first_step: the step to begin with.
            views: V.
            scale: smallest and largest area of a crop, as shares of the image.
            ratio: smallest and largest width / height of a crop.
            rows: of each batch, which part is wanted.

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
        tasks = (((seed, epoch, step), range(len(index[step]))[rows], [self.files[i] for i in index[step][rows].tolist()])
                 for step in range(first_step, len(index)))  # fmt: skip
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
