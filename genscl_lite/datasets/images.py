"""Image files: decoded to RGB, cropped by torchvision, read by torch's DataLoader as they are needed."""

import os
import shutil
import sys
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from genscl_lite._checks import require_whole
from genscl_lite.datasets.cores import share_of_cores
from genscl_lite.datasets.depth import PHOTOMETRIC, deep_values, is_wide, stretch, swap_bytes
from genscl_lite.datasets.files import as_path

CHUNK = 64
"""Images that a worker decodes for one answer, where they are not those of a training batch."""


START = "fork" if sys.platform == "linux" else None
"""How processes that decode begin. Forked, they do not run the caller's script again, guarded or not."""


class Glance(NamedTuple):
    """What a file holds, before its pixels are brought to 8 bits."""

    kind: str  # type of a value: uint8, uint16, uint32, int32 or float32
    low: float  # smallest value of all pixels
    high: float  # largest value
    pages: int


def read_rgb(
    path: str | Path | Image.Image, intensity: tuple[float, float] | None = None
) -> Tensor:
    """Decode an image file, or a PIL image: uint8 RGB (3, H, W), turned upright as its EXIF orientation says.

    Transparent pixels are laid over white; palette, gray and CMYK become RGB as PIL does it. Of several pages
    the first is taken. Damaged metadata is ignored. If $GENSCL_MAX_PIXELS is set, it replaces PIL's limit for
    files that may be a trap.

    Args:
        path: the file, or the image.
        intensity: black and white of pixels with more than 8 bits (``depth.find_intensity``).

    Differs: torchvision's ImageFolder drops transparency, cuts 16 bits of gray at 255 and does not turn.

    Raises:
        ValueError: the file is missing, truncated or no image; or its pixels have more than 8 bits, and no
            intensity is given.

    >>> read_rgb("missing.jpg")
    Traceback (most recent call last):
    ValueError: missing.jpg: cannot be read: [Errno 2] No such file or directory: ...
    """
    with _errors_named(path):
        image, deep, _ = _decode(path)
        if deep is not None and intensity is None:
            raise ValueError(
                f"pixels of type {deep.dtype}, {deep.min():g} to {deep.max():g}, and which of them "
                "are black and white is not known; save it with 8 bits"
            )
        return _to_rgb(image if deep is None else stretch(image, deep, intensity))


def look_at(
    path: str | Path, intensity: tuple[float, float] | None = None
) -> tuple[Tensor | None, Glance]:
    """Return pixels as ``read_rgb`` does, or None if they need an intensity and none is given; and a ``Glance``."""
    with _errors_named(path):
        image, deep, pages = _decode(path)
        if deep is None:
            rgb = _to_rgb(image)
            return rgb, Glance("uint8", int(rgb.min()), int(rgb.max()), pages)
        seen = deep[..., :3] if image.mode == "RGBA" else deep
        glance = Glance(str(deep.dtype), float(seen.min()), float(seen.max()), pages)
        return (_to_rgb(stretch(image, deep, intensity)) if intensity else None), glance


@contextmanager
def _errors_named(path: str | Path | Image.Image):
    """Make one ValueError of the many types that PIL's decoders meet broken files with."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PIL's, about metadata and large images
            yield
    except MemoryError:
        raise
    except Exception as error:
        what = "no image of a known format" if isinstance(error, UnidentifiedImageError) else error
        if isinstance(error, Image.DecompressionBombError):
            what = f"{str(error).partition(',')[0]}; if you trust it, set GENSCL_MAX_PIXELS (environment)"
        raise ValueError(f"{path}: cannot be read: {what}") from None


def _allow_pixels(limit: str | None) -> None:
    if limit and not limit.isdecimal():
        raise ValueError(f"GENSCL_MAX_PIXELS: expected a whole number, got {limit!r}")
    if limit:
        Image.MAX_IMAGE_PIXELS = int(limit)


def _decode(path: str | Path | Image.Image) -> tuple[Image.Image, np.ndarray | None, int]:
    """Return the upright image, its values if they have more than 8 bits, and the number of pages."""
    _allow_pixels(os.environ.get("GENSCL_MAX_PIXELS"))
    if isinstance(path, Image.Image):
        image = _upright(path.copy())
        return image, deep_values(image), 1
    path = as_path(path)
    try:
        return _decode_file(path)
    except (MemoryError, Image.DecompressionBombError):
        raise
    except Exception:
        content = path.read_bytes()
        if not content.startswith(PNG):
            raise
        return _decode_file(BytesIO(_without_text(content)))


def _decode_file(source: Path | BytesIO) -> tuple[Image.Image, np.ndarray | None, int]:
    with Image.open(source) as image:
        pages = 1 if image.format == "PSD" else getattr(image, "n_frames", 1)  # PSD's are layers
        if not is_wide(image):
            tags = image.tag_v2 if image.format == "TIFF" else {}
            modes = [tile.args[0] for tile in image.tile if isinstance(tile.args, tuple)]
            unsigned, inverted = modes == ["I;32N"], tags.get(PHOTOMETRIC) == 0
            return _upright(image), deep_values(image, unsigned, inverted), pages
        with Image.open(source) as lower:
            swap_bytes(lower)
            low = np.asarray(_upright(lower))
        high = np.asarray(_upright(image)).astype(np.uint16)
        return image, high << 8 | low, pages


def _upright(image: Image.Image) -> Image.Image:
    image.load()
    with suppress(Exception):  # damaged metadata; PIL turns the pixels before it writes that anew
        ImageOps.exif_transpose(image, in_place=True)
    return image


def _to_rgb(image: Image.Image) -> Tensor:
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return F.pil_to_tensor(image.convert("RGB"))


PNG = b"\x89PNG\r\n\x1a\n"


def _without_text(content: bytes) -> bytes:
    """Keep the chunks of a PNG that pixels and orientation need; PIL refuses files for what others hold."""
    kept, at = [PNG], len(PNG)
    while at < len(content):
        length, name = int.from_bytes(content[at : at + 4], "big"), content[at + 4 : at + 8]
        chunk, at = content[at : at + length + 12], at + length + 12
        if name == b"eXIf":  # whose checksum is made anew
            chunk = chunk[:-4] + zlib.crc32(chunk[4:-4]).to_bytes(4, "big")
        if name in (b"IHDR", b"PLTE", b"tRNS", b"eXIf", b"IDAT", b"IEND"):
            kept.append(chunk)
    return b"".join(kept)


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
    values, counts = torch.arange(256), counts.cpu()
    sums = torch.stack([counts @ values, counts @ values**2])
    return mean_and_std_of(sums, int(counts[0].sum()))


def mean_and_std_of(sums: Tensor, pixels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the same from (2, channels) sums of values and of squares (``moments``) over so many pixels.

    >>> mean_and_std_of(torch.tensor([[255], [255 * 255]]), pixels=2)
    ((0.5,), (0.7071,))
    """
    totals, squares = sums.tolist()
    mean = [total / pixels / 255 for total in totals]
    variance = [
        (pixels * square - total**2) / (pixels * max(pixels - 1, 1)) / 255**2
        for total, square in zip(totals, squares, strict=True)
    ]
    return tuple(round(m, 4) for m in mean), tuple(round(v**0.5, 4) or 1.0 for v in variance)


def chunks(items: Sequence, length: int) -> list[Sequence]:
    """Cut into pieces of ``length``; the last may be shorter.

    >>> chunks("abcde", 2)
    ['ab', 'cd', 'e']
    """
    return [items[start : start + length] for start in range(0, len(items), length)]


# Crops of files, by worker processes


@dataclass(frozen=True)
class Crops(torch.utils.data.Dataset):
    """Crops of image files, as a DataLoader asks for them: by (file, draw), V random ones or the center.

    Random crops are those of torchvision's RandomResizedCrop, drawn from ``draw``, which is (seed, epoch,
    step, row): they do not depend on the process that makes them, nor on where an epoch is begun again.
    """

    root: Path
    size: int
    views: int = 1
    scale: tuple[float, float] = (0.2, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    intensity: tuple[float, float] | None = None

    def __getitem__(self, asked: tuple[str, tuple[int, ...] | None]) -> Tensor | tuple[str, str]:
        """Return uint8 (V, 3, size, size), or file and what is wrong, as a DataLoader would wrap an error."""
        file, draw = asked
        try:
            image = read_rgb(self.root / file, self.intensity)
        except ValueError as error:
            return file, reason(error, self.root / file)
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


def reason(error: ValueError, path: Path) -> str:
    return str(error).removeprefix(f"{path}: cannot be read: ")


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


SHARED_MEMORY = Path("/dev/shm")
"""By which processes hand over tensors on Linux; a container has 64 MB of it unless told otherwise."""


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
    """Give what a loader's processes answer; ValueError, in one line, where one of them has ended."""
    try:
        for crops, *others in loader:
            yield torch.as_tensor(crops), *others
    except RuntimeError as error:
        what = next((line for line in str(error).splitlines() if "shared memory" in line), "")
        what = what or str(error).strip().partition("\n")[0]
        if "shared memory" in what:
            raise ValueError(
                f"workers: {SHARED_MEMORY} is full ({what}); make it larger (docker run "
                "--shm-size=8g), or workers=0 needs none"
            ) from None
        if not what.startswith(
            ("DataLoader worker (", "An attempt has been made to start a new process")
        ):
            raise
        raise ValueError(
            f"workers: a process that decodes images has ended ({what}); memory is short, or a "
            'script lacks `if __name__ == "__main__":`; workers=0 needs no processes'
        ) from None


def centre_crops(
    root: Path,
    size: int,
    parts: Sequence[Sequence[str]],
    workers: int | None,
    intensity: tuple[float, float] | None = None,
) -> DataLoader:
    """Return a loader of the center crops of parts of files, by no more workers than there are parts."""
    batches = ([(file, None) for file in part] for part in parts)
    workers = min(resolve_workers(workers), len(parts))
    return make_loader(Crops(root, size, intensity=intensity), batches, workers, rows=CHUNK)


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
        """Give centre crops of all images in order, (rows, 3, size, size) at a time; the last may be smaller.

        Raises:
            ValueError: a file cannot be read.
        """
        require_whole("rows", rows)
        parts = [chunks(part, CHUNK) for part in chunks(self.files, rows)]
        pieces = [piece for part in parts for piece in part]
        decoded = answers(centre_crops(self.root, self.size, pieces, self.workers, self.intensity))
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
