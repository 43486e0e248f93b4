"""Images that stay in files: cropped by torchvision, read by worker processes as they are needed."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from genscl_lite._checks import require_whole
from genscl_lite.datasets.decode import center_crop, read_rgb
from genscl_lite.datasets.files import as_path
from genscl_lite.datasets.workers import CHUNK, answers, chunks, make_loader, resolve_workers


@dataclass(frozen=True)
class Crops(torch.utils.data.Dataset):
    """Crops of image files, as a DataLoader asks for them: by (file, draw), V random ones or the center.

    Random crops are those of torchvision's RandomResizedCrop, drawn from ``draw``, which is (seed, epoch,
    step, row): they do not depend on the process that makes them, nor on the step at which an epoch is resumed.
    """

    root: Path
    size: int
    views: int = 1
    scale: tuple[float, float] = (0.2, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    intensity: tuple[float, float] | None = None

    def __getitem__(self, asked: tuple[str, tuple[int, ...] | None]) -> Tensor:
        """Return uint8 (V, 3, size, size); ValueError if the file cannot be read."""
        file, draw = asked
        image = read_rgb(self.root / file, self.intensity)
        if draw is None:
            return center_crop(image, self.size)[None]
        crop = v2.RandomResizedCrop(self.size, self.scale, self.ratio)
        with torch.random.fork_rng(devices=[]):  # torchvision draws from torch's global generator
            seed = np.random.SeedSequence(draw).generate_state(1, np.uint64)[0]
            torch.default_generator.manual_seed(int(seed))
            return torch.stack([crop(image) for _ in range(self.views)])

    def collate(self, items: list[Tensor]) -> tuple[Tensor]:
        """Return (V, n, 3, size, size)."""
        none = torch.empty(self.views, 0, 3, self.size, self.size, dtype=torch.uint8)
        return (torch.stack(items, dim=1) if items else none,)


class ImageFiles:
    """N images that stay in files and are decoded as they are needed; stands where a tensor of images would.

    ``images[index]`` with a slice, a list or a tensor of indices is again ``ImageFiles``,
    ``images.split(rows)`` gives center crops in order, ``images.random_crops(...)`` batches to train on, all
    uint8 and on ``images.device``.

    Args:
        root: folder that the files are relative to.
        files: N paths.
        size: height and width of what they become, in pixels.
        workers: processes that decode, at most one for each core; 0 decodes in this one, None: up to 16.
        device: where pixels are put.
        intensity: black and white of pixels with more than 8 bits (``read_rgb``).

    >>> images = ImageFiles("photos", ["cat/1.jpg", "cat/2.jpg", "dog/1.jpg"], size=224)
    >>> images.shape, images[1:].files
    ((3, 3, 224, 224), ('cat/2.jpg', 'dog/1.jpg'))
    """

    dtype = torch.uint8

    def __init__(
        self,
        root: str | Path,
        files: Sequence[str],
        size: int,
        *,
        workers: int | None = None,
        device: torch.device | str = "cpu",
        intensity: tuple[float, float] | None = None,
    ):
        require_whole("size", size)
        self.root, self.files, self.size = as_path(root), tuple(str(file) for file in files), size
        self.workers, self.device = resolve_workers(workers), torch.device(device)
        self.intensity = intensity
        self._idle: dict[Crops, DataLoader] = {}

    def __len__(self) -> int:
        return len(self.files)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self), 3, self.size, self.size

    def __getitem__(self, index: slice | Sequence[int] | Tensor) -> "ImageFiles":
        indices = index.cpu().numpy() if isinstance(index, Tensor) else index
        files = np.array(self.files, dtype=object)[indices]
        return self._like(tuple(files), self.device)

    def to(self, device: torch.device | str) -> "ImageFiles":
        """Return the same images, whose pixels will be put on ``device``."""
        return self._like(self.files, device)

    def _like(self, files: Sequence[str], device: torch.device | str) -> "ImageFiles":
        options = {"workers": self.workers, "device": device, "intensity": self.intensity}
        return ImageFiles(self.root, files, self.size, **options)

    def split(self, rows: int) -> Iterator[Tensor]:
        """Give center crops of all images in order, (rows, 3, size, size) at a time; the last may be smaller.

        Raises:
            ValueError: a file cannot be read.
        """
        require_whole("rows", rows)
        parts = [chunks(part, CHUNK) for part in chunks(self.files, rows)]
        batches = [[(file, None) for file in piece] for part in parts for piece in part]
        crops = Crops(self.root, self.size, intensity=self.intensity)
        workers = min(self.workers, len(batches))
        decoded = answers(make_loader(crops, batches, workers, rows=CHUNK))
        for part in parts:
            yield torch.cat([next(decoded)[0][0] for _ in part]).to(self.device)

    def random_crops(
        self,
        index: Tensor | Sequence[Tensor],
        *,
        seed: int,
        epoch: int,
        first_step: int = 0,
        views: int = 2,
        scale: tuple[float, float] = (0.2, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        rows: slice = slice(None),
    ) -> Iterator[Tensor]:
        """Give batches of random crops, each image decoded once for all its views.

        A crop depends on (seed, epoch, step, row) and its image alone. The processes stay for the next epoch.

        Args:
            index: (steps, B) indices of images, or a sequence of (B,) if batches differ in size.
            seed, epoch, first_step: 0 or more; the step is the one to begin with.
            views: V.
            scale, ratio: smallest and largest area of a crop, as shares of the image, and width / height.
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
                raise ValueError(
                    f"index: expected numbers from 0 to {len(self) - 1}, "
                    f"got {int(batch.min())} to {int(batch.max())}"
                )
        crops = Crops(self.root, self.size, views, tuple(scale), tuple(ratio), self.intensity)
        batches = (
            [
                (self.files[i], (seed, epoch, step, row))
                for row, i in list(enumerate(index[step].tolist()))[rows]
            ]
            for step in range(first_step, len(index))
        )
        return self._crop(crops, batches, max(map(len, index), default=0))

    def _crop(self, crops: Crops, batches: Iterable[list], most: int) -> Iterator[Tensor]:
        loader = self._idle.pop(crops, None)
        if loader is None:
            loader = make_loader(crops, (), self.workers, rows=most, keep=True)
        loader.batch_sampler.batches = batches
        for (views,) in answers(loader):
            yield views.to(self.device, non_blocking=True)
        self._idle = {
            crops: loader
        }  # only a loader that came to its end: another may still be busy


def _check_range(name: str, bounds: tuple[float, float], most: float) -> None:
    low, high = bounds
    if not 0 < low <= high <= most or high == float("inf"):
        limit = f" of at most {most:g}" if most < float("inf") else ""
        raise ValueError(
            f"{name}: expected two numbers above 0{limit}, the smaller first, got {bounds!r}"
        )
