"""What a trained model is given: tensors, files or PIL images, checked and brought to the size it was trained on."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from genscl_lite._checks import require_whole
from genscl_lite.datasets.images import centre_crop, chunks, read_rgb, to_gray
from genscl_lite.datasets.images import ImageFiles

Images = Tensor | ImageFiles | Sequence[str | Path | Image.Image]
PIXELS = 2**22
"""So many pixels at a time, where nothing else is said: 4096 images of 32 x 32, 83 of 224 x 224; but at most 1000 images."""


def in_parts(images: Images, image_shape: tuple[int, int, int], rows: int | None = None) -> Iterator[Tensor]:
    """Check images and give them ``rows`` at a time; the last part may be smaller.

    Args:
        images: N of them: a uint8 or floating point tensor (N, channels, H, W), the latter in [0, 1]; ``ImageFiles``; or a
            list of paths and PIL images, whose shorter side is resized to the model's size and the middle cut out.
        image_shape: (channels, H, W) of the model. Files become RGB, or gray for 1 channel.
        rows: images at a time; None: by ``PIXELS``.

    Yields:
        (rows, channels, H, W), as they came.

    Raises:
        ValueError: there are none, they are of another kind, shape or range, or a file cannot be read.

    >>> [len(part) for part in in_parts(torch.zeros(5, 1, 8, 8), (1, 8, 8), rows=2)]
    [2, 2, 1]
    >>> in_parts(torch.zeros(5, 3, 8, 8), (1, 8, 8))
    Traceback (most recent call last):
    ValueError: images: expected shape (N, 1, 8, 8), got (5, 3, 8, 8)
    """
    rows = min(1000, max(1, PIXELS // (image_shape[1] * image_shape[2]))) if rows is None else rows
    require_whole("rows", rows)
    if isinstance(images, list | tuple):
        _check_list(images, image_shape)
        return (torch.stack([_picture(image, image_shape) for image in part]) for part in chunks(images, rows))
    _check_pixels(images, image_shape)
    return iter(images.split(rows))


def _check_list(images: Sequence, image_shape: tuple[int, int, int]) -> None:
    if not images:
        raise ValueError("images: expected at least one, got none")
    for number, image in enumerate(images):
        if not isinstance(image, str | Path | Image.Image):
            raise ValueError(f"images: expected paths or PIL images in the list, got {type(image).__name__} at {number}")
    channels, height, width = image_shape
    if channels not in (1, 3) or height != width:
        raise ValueError(f"images: files become square and of 1 or 3 channels, but the model takes {channels} x {height} x "
                         f"{width}; expected a tensor (N, {channels}, {height}, {width})")


def _check_pixels(images: Tensor | ImageFiles, image_shape: tuple[int, int, int]) -> None:
    if not isinstance(images, Tensor | ImageFiles):
        raise ValueError(f"images: expected a tensor, ImageFiles, or a list of paths or PIL images, got {type(images).__name__}")
    if tuple(images.shape[1:]) != tuple(image_shape):
        raise ValueError(f"images: expected shape (N, {', '.join(map(str, image_shape))}), got {tuple(images.shape)}")
    if not len(images):
        raise ValueError("images: expected at least one, got none")
    if images.dtype == torch.uint8:
        return
    if not images.is_floating_point():
        raise ValueError(f"images: expected uint8 or floating point, got {images.dtype}")
    low, high = images.aminmax()
    if not (low >= 0 and high <= 1):  # so that NaN fails too
        raise ValueError(f"images: expected floating point values in [0, 1], got {low:.4g} to {high:.4g}")


def _picture(image: str | Path | Image.Image, image_shape: tuple[int, int, int]) -> Tensor:
    pixels = centre_crop(read_rgb(image), image_shape[-1])
    return to_gray(pixels) if image_shape[0] == 1 else pixels
