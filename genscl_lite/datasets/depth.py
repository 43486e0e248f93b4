"""Pixels with more than 8 bits: read without loss, and stretched to 8 by one range for the whole data set."""

import math
import sys

import numpy as np
from PIL import Image

NATIVE, FOREIGN = (";16L", ";16B") if sys.byteorder == "little" else (";16B", ";16L")
SWAPPED = {";16L": ";16B", ";16B": ";16L", ";16N": FOREIGN}
"""Byte order of 16 bits -> the one by which PIL, which keeps the upper byte alone, gives the lower byte."""
WIDE_MODES = ("RGB", "RGBX", "RGBA", "CMYK")
BITS_PER_SAMPLE, PHOTOMETRIC = 258, 262  # of TIFF


def parse_intensity(text: str) -> tuple[float, float] | None:
    """Read "0,4095" as two numbers, black and white; None of an empty text.

    >>> parse_intensity("-1024, 3071")
    (-1024.0, 3071.0)
    """
    try:
        low, high = (float(value) for value in text.split(",")) if text else (0.0, 1.0)
        if not -math.inf < low < high < math.inf:
            raise ValueError
    except ValueError:
        raise ValueError(
            f"intensity: expected the values of black and white, such as 0,4095, got {text!r}"
        ) from None
    return (low, high) if text else None


def find_intensity(low: float, high: float) -> tuple[float, float]:
    """Return which values become black and white, if a data set's lie between ``low`` and ``high``.

    0 and the largest value of as few bits as hold them, or, if they use less than half of that or are
    negative, their own extremes.

    >>> find_intensity(7, 4071), find_intensity(0, 0.93), find_intensity(-1000, 2000), find_intensity(30000, 31000)
    ((0, 4095), (0, 1), (-1000, 2000), (30000, 31000))
    """
    most = 2 ** math.ceil(math.log2(max(high, 1) + 1)) - 1
    if low == high:
        return (0, max(most, 1)) if low >= 0 else (low, low + 1)
    return (0, most) if low >= 0 and high - low >= most / 2 else (low, high)


def stretch(image: Image.Image, values: np.ndarray, intensity: tuple[float, float]) -> Image.Image:
    """Bring ``deep_values`` of an image to 8 bits; what lies outside ``intensity`` is cut off."""
    low, high = intensity
    scaled = (values.astype(np.float64) - low) * (255 / (high - low))
    if image.mode == "RGBA":
        scaled[..., 3] = values[..., 3] / 257
    pixels = Image.fromarray(np.rint(scaled.clip(0, 255)).astype(np.uint8))
    if values.ndim == 3 and image.mode != pixels.mode:
        pixels = Image.merge(image.mode, pixels.split())
    if (key := image.info.get("transparency")) is not None:  # the one value that is transparent
        seen = values != key if values.ndim == 2 else (values != key).any(axis=-1)
        pixels.putalpha(Image.fromarray(seen.astype(np.uint8) * 255))
    return pixels


def is_wide(image: Image.Image) -> bool:
    """Tell whether an opened file has 16 bits a channel of which PIL would give the upper 8.

    Raises:
        ValueError: it has, in a form whose lower bits cannot be had.
    """
    if image.mode[0] in "IF":  # of which PIL gives all
        return False
    args = [(t.args if isinstance(t.args, tuple) else (t.args,)) for t in image.tile]
    modes = [str(arg[0]) for arg in args if arg]
    wide = [mode for mode in modes if ";16" in mode]
    bits = {
        "TIFF": lambda: max(image.tag_v2.get(BITS_PER_SAMPLE, (8,))),
        "PPM": lambda: 8 if args[0][-1] in (None, "RGB") or args[0][-1] < 256 else 16,
        "SGI": lambda: 16 if image.tile[0].codec_name == "SGI16" or args[0][-1] == 2 else 8,
        "JPEG2000": lambda: _bits_of_jpeg2000(image),
    }.get(image.format, lambda: 8)()
    if not wide and bits <= 8:
        return False
    known = {mode + order for mode in WIDE_MODES for order in SWAPPED}
    if not set(modes) <= known:
        raise ValueError(
            f"{image.format} with more than 8 bits a channel in a form that cannot be read whole; "
            "save it as 16-bit gray or RGB, or with 8 bits"
        )
    return True


def _bits_of_jpeg2000(image: Image.Image) -> int:
    image.fp.seek(0)
    head = image.fp.read(4096)
    at = head.find(
        b"\xff\x51"
    )  # the SIZ marker; bits of the first channel stand 40 bytes behind it
    return (head[at + 40] & 127) + 1 if 0 <= at < len(head) - 40 else 8


def swap_bytes(image: Image.Image) -> None:
    """Let an opened file, which ``is_wide``, be decoded to its lower bytes instead of its upper ones."""
    tiles = []
    for tile in image.tile:
        mode, *others = tile.args if isinstance(tile.args, tuple) else (tile.args,)
        mode = mode[:-4] + SWAPPED[mode[-4:]]
        tiles.append(tile._replace(args=(mode, *others) if others else mode))
    image.tile = tiles


def deep_values(
    image: Image.Image, unsigned: bool = False, inverted: bool = False
) -> np.ndarray | None:
    """Return the values (H, W) of a decoded image with more than 8 bits, None of any other.

    Raises:
        ValueError: a value is not finite.
    """
    if image.mode[0] not in "IF":
        return None
    values = np.asarray(image)
    values = values.view(np.uint32) if unsigned else values.astype(values.dtype.newbyteorder("="))
    if not np.isfinite(values).all():
        raise ValueError("NaN or infinity among its pixels")
    return 65535 - values if inverted and values.dtype == np.uint16 else values
