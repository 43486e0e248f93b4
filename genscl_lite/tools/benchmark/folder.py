"""How fast training images come from files: our loader against torchvision's ImageFolder alone, both bound by decoding."""

import statistics
import tempfile
from argparse import ArgumentParser
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from genscl_lite.datasets import files
from genscl_lite.datasets.images import default_workers
from genscl_lite.datasets.images import ImageFiles
from genscl_lite.runs.machine import machine
from genscl_lite.tools.benchmark.timing import seconds_in_turns

SIZE, BATCH_SIZE, SCALE, RATIO = 224, 32, (0.2, 1.0), (3 / 4, 4 / 3)
PHOTOS, SECONDS = 300, 20.0
"""Images that are made where no folder is given, and how long the passes over them are repeated."""
PEER = "torchvision's ImageFolder alone"
OURS = {1: "ours, 1 view", 2: "ours, 2 views"}


def write_photos(root: Path, images: int = PHOTOS) -> Path:
    """Write ROOT/DIGIT/*.jpg: digits drawn 500 x 375 pixels large, in colour, with noise; about 85 KB each."""
    digits, random = load_digits(), np.random.default_rng(0)
    for number in range(images):
        gray = Image.fromarray(np.round(digits.images[number] * (255 / 16)).astype(np.uint8)).resize((500, 375))
        pixels = np.asarray(gray)[..., None] * random.uniform(0.3, 0.9, size=3) + random.normal(20, 12, size=(375, 500, 3))
        folder = root / str(digits.target[number])
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{number:04d}.jpg", quality=90)
    return root


def contenders(folder: Path, workers: int) -> tuple[dict[str, Callable[[], None]], int]:
    """Return name -> one pass over all images, and how many there are. All shuffle, crop and keep their processes."""
    crop = v2.Compose([v2.RandomResizedCrop(SIZE, SCALE, RATIO), v2.PILToTensor()])
    theirs = ImageFolder(folder, transform=crop)
    loader = DataLoader(theirs, BATCH_SIZE, shuffle=True, num_workers=workers, persistent_workers=workers > 0,
                        pin_memory=torch.cuda.is_available())
    files = [Path(path).relative_to(folder).as_posix() for path, _ in theirs.samples]

    def passes_of(views: int) -> Callable[[], None]:
        images = ImageFiles(folder, files, SIZE, workers=workers)

        def one_pass() -> None:
            index = torch.randperm(len(files)).split(BATCH_SIZE)
            batches = images.random_crops(index, seed=0, epoch=0, views=views, scale=SCALE, ratio=RATIO)
            count(batches, lambda batch: batch.shape[1])

        return one_pass

    def count(batches, length) -> None:
        seen = sum(length(batch) for batch in batches)
        if seen != len(files):
            raise ValueError(f"expected {len(files)} images of a pass, got {seen}")

    return {PEER: lambda: count(loader, lambda batch: len(batch[0])), **{OURS[v]: passes_of(v) for v in OURS}}, len(files)


def measure(folder: Path, workers: int) -> list[dict]:
    """Return a record for each contender: images (files) per second by the median pass, and how many passes."""
    passes, images = contenders(folder, workers)
    taken = seconds_in_turns(passes, torch.device("cpu"), SECONDS)
    return [{"contender": name, "images": images, "images_per_second": images / statistics.median(taken[name]),
             "runs": len(taken[name])} for name in passes]  # fmt: skip


def render(records: list[dict]) -> str:
    """Render speeds and their ratios to torchvision's as Markdown."""
    speed = {record["contender"]: record["images_per_second"] for record in records}
    lines = ["| loader | images/s | times torchvision |", "|---|---|---|"]
    return "\n".join(lines + [f"| {name} | {value:.0f} | {value / speed[PEER]:.2f} |" for name, value in speed.items()])


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--folder", type=Path, help="images to read, FOLDER/CLASS/* (default: some hundred are made)")
    parser.add_argument("--workers", type=int, help="processes that decode (default: one for each core)")


def main(out: Path, folder: Path | None = None, workers: int | None = None) -> int:
    """Measure on a folder ROOT/CLASS/*, or on generated JPEGs; print the table and write folder.json into ``out``."""
    workers = default_workers() if workers is None else workers
    with tempfile.TemporaryDirectory() if folder is None else nullcontext(folder) as root:
        records = measure(write_photos(Path(root)) if folder is None else folder, workers)
    files.write_json(out / "folder.json", {**machine(torch.device("cpu")), "generated": folder is None, "workers": workers,
                                               "size": SIZE, "batch_size": BATCH_SIZE, "records": records})
    print(f"{records[0]['images']} images, {workers} processes, crops of {SIZE} pixels\n\n{render(records)}\n\n"
          f"written: {out / 'folder.json'}")
    return 0
