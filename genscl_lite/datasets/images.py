"""Image files: decoded to RGB, cropped by torchvision, read by torch's DataLoader as they are needed."""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from genscl_lite._checks import require_whole
from genscl_lite.datasets.cores import share_of_cores
from genscl_lite.datasets.files import as_path

CHUNK = 64
"""Images that a worker decodes for one answer, where they are not those of a training batch."""


START = "fork" if sys.platform == "linux" else None
"""How processes that decode begin. Forked, they do not run the caller's script again, guarded or not."""


def read_rgb(path: str | Path | Image.Image) -> Tensor:
    """Decode an image file, or a PIL image: uint8 RGB (3, H, W), turned upright as its EXIF orientation says.

    Transparent pixels are laid over white; 16 bits of gray become 8; palette, gray and CMYK become RGB as PIL
    does it.

    Differs: torchvision's ImageFolder drops transparency, cuts 16 bits of gray at 255 and does not turn.
    Where $GENSCL_MAX_PIXELS is set, it takes the place of PIL's limit for files that may be a trap.

    Raises:
        ValueError: the file is missing, truncated, no image, or has pixels of unknown range (floating point).

    >>> read_rgb("missing.jpg")
    Traceback (most recent call last):
    ValueError: missing.jpg: cannot be read: [Errno 2] No such file or directory: ...
    """
    try:
        _allow_pixels(os.environ.get("GENSCL_MAX_PIXELS"))
        if isinstance(path, Image.Image):
            return F.pil_to_tensor(_to_rgb(ImageOps.exif_transpose(path)))
        with Image.open(as_path(path)) as image:
            ImageOps.exif_transpose(image, in_place=True)
            return F.pil_to_tensor(_to_rgb(image))
    except MemoryError:
        raise
    except Exception as error:  # PIL's decoders meet broken files with errors of many types
        what = "no image of a known format" if isinstance(error, UnidentifiedImageError) else error
        if isinstance(error, Image.DecompressionBombError):
            what = f"{str(error).partition(',')[0]}; if you trust it, set GENSCL_MAX_PIXELS (environment)"
        raise ValueError(f"{path}: cannot be read: {what}") from None


def _allow_pixels(limit: str | None) -> None:
    if limit and not limit.isdecimal():
        raise ValueError(f"GENSCL_MAX_PIXELS: expected a whole number, got {limit!r}")
    if limit:
        Image.MAX_IMAGE_PIXELS = int(limit)


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
    """Cut the middle square out of a uint8 (3, H, W) image and resize it to ``size`` (antialiased).

    In this order a long thin image costs no more memory than its own pixels and the result.

    >>> centre_crop(torch.full((3, 40, 60), 7, dtype=torch.uint8), 16).shape
    torch.Size([3, 16, 16])
    """
    side = min(image.shape[1:])
    return F.resize(F.center_crop(image, [side, side]), [size, size], antialias=True)


def to_gray(image: Tensor) -> Tensor:
    """Turn uint8 RGB (3, H, W) into gray (1, H, W), with PIL's weights and rounding; gray stays as it is.

    >>> to_gray(torch.tensor([[[255, 7]], [[0, 7]], [[0, 7]]], dtype=torch.uint8))
    tensor([[[76,  7]]], dtype=torch.uint8)
    """
    weights = torch.tensor([19595, 38470, 7471], dtype=torch.int32).reshape(3, 1, 1)  # of 65536
    return ((image * weights).sum(dim=0, keepdim=True) + 32768 >> 16).to(torch.uint8)


def value_counts(images: Tensor) -> Tensor:
    """Count how often each value is in each channel of uint8 (N, channels, H, W) images: (channels, 256)."""
    return torch.stack(
        [channel.flatten().bincount(minlength=256) for channel in images.unbind(dim=1)]
    )


def mean_and_std(counts: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and deviation of each channel in [0, 1], to 4 digits, from its ``value_counts``.

    A constant channel has the deviation 1, as in scikit-learn, so that it can be divided by.
    """
    values, counts = torch.arange(256, dtype=torch.double) / 255, counts.cpu().double()
    pixels = counts.sum(dim=1)
    mean = (counts * values).sum(dim=1) / pixels
    std = ((counts * (values - mean[:, None]) ** 2).sum(dim=1) / (pixels - 1)).sqrt()
    return tuple(round(m, 4) for m in mean.tolist()), tuple(
        round(s, 4) or 1.0 for s in std.tolist()
    )


def chunks(items: Sequence, length: int) -> list[Sequence]:
    """Cut into pieces of ``length``; the last may be shorter.

    >>> chunks("abcde", 2)
    ['ab', 'cd', 'e']
    """
    return [items[start : start + length] for start in range(0, len(items), length)]


# Crops of files, by worker processes


@dataclass(frozen=True)
class Crops(torch.utils.data.Dataset):
    """Crops of image files, as a DataLoader asks for them: by (file, draw), V random ones or the centre.

    Random crops are those of torchvision's RandomResizedCrop, drawn from ``draw``, which is (seed, epoch,
    step, row): they do not depend on the process that makes them, nor on where an epoch is begun again.
    """

    root: Path
    size: int
    views: int = 1
    scale: tuple[float, float] = (0.2, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)

    def __getitem__(self, asked: tuple[str, tuple[int, ...] | None]) -> Tensor | tuple[str, str]:
        """Return uint8 (V, 3, size, size), or file and what is wrong, as a DataLoader would wrap an error."""
        file, draw = asked
        try:
            image = read_rgb(self.root / file)
        except ValueError as error:
            return file, str(error).removeprefix(f"{self.root / file}: cannot be read: ")
        if draw is None:
            return centre_crop(image, self.size)[None]
        crop = v2.RandomResizedCrop(self.size, self.scale, self.ratio)
        with torch.random.fork_rng(devices=[]):  # torchvision draws from torch's global generator
            seed = np.random.SeedSequence(draw).generate_state(1, np.uint64)[0]
            torch.default_generator.manual_seed(int(seed))
            return torch.stack([crop(image) for _ in range(self.views)])

    def collate(self, items: list) -> tuple[Tensor, dict[str, str]]:
        """Return (V, n, 3, size, size) of files that can be read, and file -> what is wrong for others."""
        none = torch.empty(self.views, 0, 3, self.size, self.size, dtype=torch.uint8)
        crops = [item[:, None] for item in items if isinstance(item, Tensor)]
        return torch.cat([none, *crops], dim=1), dict(
            item for item in items if not isinstance(item, Tensor)
        )


@dataclass
class Batches:
    """A batch sampler whose batches can be exchanged, so that worker processes stay from epoch to epoch."""

    batches: Iterable[list]

    def __iter__(self) -> Iterator[list]:
        return iter(self.batches)


def make_loader(
    crops: Crops, batches: Iterable[list], workers: int, keep: bool = False
) -> DataLoader:
    """Return a loader of batches of what ``crops`` is asked for; with ``keep`` its processes live on."""
    return DataLoader(
        crops,
        batch_sampler=Batches(batches),
        collate_fn=crops.collate,
        num_workers=workers,
        multiprocessing_context=START if workers else None,
        persistent_workers=keep and workers > 0,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),
    )  # torch's global one is left alone


def answers(loader: DataLoader) -> Iterator:
    """Give what a loader's processes answer; ValueError, in one line, where one of them has ended."""
    try:
        yield from loader
    except RuntimeError as error:
        what = str(error).strip().partition("\n")[0]
        if not what.startswith(
            ("DataLoader worker (", "An attempt has been made to start a new process")
        ):
            raise
        raise ValueError(
            f"workers: a process that decodes images has ended ({what}); memory is short, or a "
            'script lacks `if __name__ == "__main__":`; workers=0 needs no processes'
        ) from None


def centre_crops(
    root: Path, size: int, parts: Sequence[Sequence[str]], workers: int | None
) -> DataLoader:
    """Return a loader of the centre crops of parts of files, by no more workers than there are parts."""
    batches = ([(file, None) for file in part] for part in parts)
    return make_loader(Crops(root, size), batches, min(resolve_workers(workers), len(parts)))


def decode_all(
    root: Path, files: Sequence[str], size: int, workers: int | None, keep: bool, seen=None
) -> tuple[Tensor, Tensor, dict[str, str]]:
    """Decode files, each once, to centre crops, and keep the crops or only count their values.

    Where there is a ``seen``, its ``add`` looks at all crops.

    Returns:
        uint8 (n, 3, size, size) of the n files that can be read, n = 0 where they are not kept; their
        ``value_counts``; file -> what is wrong for the others.
    """
    images = torch.empty(len(files) if keep else 0, 3, size, size, dtype=torch.uint8)
    counts, bad, filled = torch.zeros(3, 256, dtype=torch.long), {}, 0
    for crops, part_bad in answers(centre_crops(root, size, chunks(files, CHUNK), workers)):
        counts += value_counts(crops[0])
        if seen:
            seen.add(crops[0])
        bad |= part_bad
        if keep:
            images[filled : filled + crops.shape[1]] = crops[0]
            filled += crops.shape[1]
    return images[:filled], counts, bad


def resolve_workers(workers: int | None) -> int:
    """Return the number given, or 16, but no more than this process's share of cores."""
    workers = 16 if workers is None else workers
    require_whole("workers", workers, least=0)
    return min(workers, share_of_cores())


class ImageFiles:
    """N images that stay in files and are decoded as they are needed; stands where a tensor of images would.

    ``images[index]`` with a slice, a list or a tensor of indices is again ``ImageFiles``,
    ``images.split(rows)`` gives centre crops in order, ``images.random_crops(...)`` batches to train on, all
    uint8 and on ``images.device``.

    Args:
        root: folder that the files are relative to.
        files: N paths.
        size: height and width of what they become, in pixels.
        workers: processes that decode, at most one for each core; 0 decodes in this one, None: up to 16.
        device: where pixels are put.

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
    ):
        require_whole("size", size)
        self.root, self.files, self.size = as_path(root), tuple(str(file) for file in files), size
        self.workers, self.device = resolve_workers(workers), torch.device(device)
        self._idle: dict[Crops, DataLoader] = {}

    def __len__(self) -> int:
        return len(self.files)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self), 3, self.size, self.size

    def __getitem__(self, index: slice | Sequence[int] | Tensor) -> "ImageFiles":
        indices = index.cpu().numpy() if isinstance(index, Tensor) else index
        files = np.array(self.files, dtype=object)[indices]
        return ImageFiles(
            self.root, tuple(files), self.size, workers=self.workers, device=self.device
        )

    def to(self, device: torch.device | str) -> "ImageFiles":
        """Return the same images, whose pixels will be put on ``device``."""
        return ImageFiles(self.root, self.files, self.size, workers=self.workers, device=device)

    def split(self, rows: int) -> Iterator[Tensor]:
        """Give centre crops of all images in order, (rows, 3, size, size) at a time; the last may be smaller.

        Raises:
            ValueError: a file cannot be read.
        """
        require_whole("rows", rows)
        parts = [chunks(part, CHUNK) for part in chunks(self.files, rows)]
        pieces = [piece for part in parts for piece in part]
        decoded = answers(centre_crops(self.root, self.size, pieces, self.workers))
        for part in parts:
            yield torch.cat([self._readable(*next(decoded))[0] for _ in part])

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
            index: (steps, B) indices of images, or a sequence of (B,) where batches differ in size.
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
        crops = Crops(self.root, self.size, views, tuple(scale), tuple(ratio))
        batches = (
            [
                (self.files[i], (seed, epoch, step, row))
                for row, i in list(enumerate(index[step].tolist()))[rows]
            ]
            for step in range(first_step, len(index))
        )
        return self._crop(crops, batches)

    def _crop(self, crops: Crops, batches: Iterable[list]) -> Iterator[Tensor]:
        loader = self._idle.pop(crops, None)
        if loader is None:
            loader = make_loader(crops, (), self.workers, keep=True)
        loader.batch_sampler.batches = batches
        for views, bad in answers(loader):
            yield self._readable(views, bad)
        self._idle = {
            crops: loader
        }  # only a loader that came to its end: another may still be busy

    def _readable(self, crops: Tensor, bad: dict[str, str]) -> Tensor:
        for file, what in bad.items():
            raise ValueError(f"{self.root / file}: cannot be read: {what}")
        return crops.to(self.device, non_blocking=True)


def _check_range(name: str, bounds: tuple[float, float], most: float) -> None:
    low, high = bounds
    if not 0 < low <= high <= most or high == float("inf"):
        limit = f" of at most {most:g}" if most < float("inf") else ""
        raise ValueError(
            f"{name}: expected two numbers above 0{limit}, the smaller first, got {bounds!r}"
        )
