"""Folders of real image files for tests: scikit-learn's digits drawn large, in color, in many sizes and formats."""

from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

FORMATS = (
    "rgb.jpg",
    "rgb.png",
    "gray.jpg",
    "gray.png",
    "rgba.png",
    "palette.png",
    "deep.png",
    "cmyk.jpg",
)


NOISE = np.random.default_rng(0)


def of_folder(**changes):
    """Configure a run on a folder of images of 8 x 8 pixels."""
    from genscl_lite.train.config import TrainConfig

    return TrainConfig(**{"dataset": "folder", "image_size": 8, "labels_per_class": 0} | changes)


def draw(path: Path) -> None:
    """Write an image of noise, 8 x 8 pixels, in whatever folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(NOISE.integers(0, 256, (8, 8, 3), dtype="uint8")).save(path)


@cache
def digits_of(digit: int) -> np.ndarray:
    digits = load_digits()
    return digits.images[digits.target == digit]


def digit_image(digit: int, number: int, random: np.random.Generator) -> Image.Image:
    """Draw the ``number``-th image of a digit in one color on another, 48 to 80 pixels wide and high."""
    gray = Image.fromarray(np.round(digits_of(digit)[number] * (255 / 16)).astype(np.uint8))
    width, height = random.integers(48, 81, size=2).tolist()
    ink = np.asarray(gray.resize((width, height), Image.Resampling.BICUBIC))[..., None] / 255
    front, back = random.integers(128, 206, size=3) + (50, 20, 0), random.integers(0, 128, size=3)
    return Image.fromarray(np.round(ink * front + (1 - ink) * back).astype(np.uint8))


def save_as(image: Image.Image, path: Path, kind: str) -> None:
    """Save an RGB image with the pixels of ``kind``; "deep" is 16 bits of gray, "rgba" is transparent at the left."""
    if kind == "gray":
        image = image.convert("L")
    elif kind == "rgba":
        alpha = np.full((image.height, image.width), 255, dtype=np.uint8)
        alpha[:, : image.width // 4] = 0
        image.putalpha(Image.fromarray(alpha))
    elif kind == "palette":
        image = image.quantize(32)
    elif kind == "deep":
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    elif kind == "cmyk":
        image = image.convert("CMYK")
    image.save(path)


def make_digit_folder(
    root: Path,
    per_class: int = 20,
    classes: int = 10,
    splits: dict[str, float] | None = None,
    corrupt: bool = False,
) -> Path:
    """Write ROOT/SPLIT/CLASS/*.jpg and *.png, or ROOT/CLASS/* where there are no splits.

    Args:
        per_class: images of each class, all splits together, in turns of ``FORMATS``.
        classes: digits 0 to classes - 1; their folders are "zero", "one", ...
        splits: name -> share, such as {"train": 0.75, "val": 0.25}.
        corrupt: add to the first split's class "zero" a truncated PNG, a truncated JPEG and a text called .jpg.

    Returns:
        ROOT.
    """
    random = np.random.default_rng(0)
    names = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")[
        :classes
    ]
    for digit, name in enumerate(names):
        start = 0
        for split, share in (splits or {"": 1.0}).items():
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(start, start := start + round(share * per_class)):
                kind, ending = FORMATS[number % len(FORMATS)].split(".")
                save_as(
                    digit_image(digit, number, random),
                    folder / f"{number:03d}_{kind}.{ending}",
                    kind,
                )
    if corrupt:
        add_corrupt(root / next(iter(splits or {"": 1})) / "zero")
    return root


def scan_folder(root: Path, **options):
    """Return the files of a folder, split."""
    from genscl_lite.datasets.listing import list_folder  # where it is used, as in conftest
    from genscl_lite.datasets.splits import split_files

    return split_files(list_folder(root), **options)


CORRUPT = ("cut.jpg", "cut.png", "text.jpg")


def add_corrupt(folder: Path) -> None:
    """Put files of ``CORRUPT`` into a folder."""
    image = digit_image(0, 0, np.random.default_rng(1))
    for name in ("cut.jpg", "cut.png"):
        image.save(folder / name)
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) * 2 // 3])
    (folder / "text.jpg").write_text("no image")
