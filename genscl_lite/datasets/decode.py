"""One image file, or PIL image: decoded to upright RGB, whatever is damaged beside its pixels."""

import os
import warnings
import zlib
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from genscl_lite.datasets.depth import PHOTOMETRIC, deep_values, is_wide, stretch, swap_bytes
from genscl_lite.datasets.files import as_path


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


def reason(error: ValueError, path: Path) -> str:
    """Return why a file cannot be read, without its name."""
    return str(error).removeprefix(f"{path}: cannot be read: ")


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


def center_crop(image: Tensor, size: int) -> Tensor:
    """Cut the middle square out of a uint8 (3, H, W) image and resize it to ``size`` (antialiased).

    In this order a long thin image costs no more memory than its own pixels and the result.

    >>> import torch
    >>> center_crop(torch.full((3, 40, 60), 7, dtype=torch.uint8), 16).shape
    torch.Size([3, 16, 16])
    """
    side = min(image.shape[1:])
    return F.resize(F.center_crop(image, [side, side]), [size, size], antialias=True)
