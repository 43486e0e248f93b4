"""What is in a data set? ``genscl check DATA`` tells it on a page, before anything is trained."""

import warnings
from argparse import Namespace
from pathlib import Path

import torch

from genscl_lite.datasets import Dataset, load_data
from genscl_lite.datasets.check import odd_things
from genscl_lite.datasets.files import as_path, atomic_write
from genscl_lite.datasets.labels import first_few
from genscl_lite.datasets.registry import LOADERS
from genscl_lite.runs.plan import check_names
from genscl_lite.runs.request import parse_parameter
from genscl_lite.train.config import PARAMETERS, TrainConfig

EACH, MOST = 10, 100
"""Images of a class, and classes, in the picture."""


def look(options: Namespace) -> int:
    """Print what is in a data set; return 0, or 1 if it is wrong or, when strict, if anything is odd."""
    try:
        if options.picture and not Path(options.picture).suffix:
            raise ValueError(f"picture: expected a name such as look.png, got {options.picture!r}")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            changes = dict(parse_parameter(text) for text in options.parameters)
            data = load(options.data, options.root, options.image_size, **changes)
            odd = odd_things(data)
        if options.picture:
            draw(data, options.picture)
    except (ValueError, OSError, ImportError) as error:
        print(f"problem  {error}")
        return 1
    notes = [str(warning.message) for warning in caught] + odd
    print(*describe(data), *(f"note     {note}" for note in notes), sep="\n")
    print(f"to look at: {len(notes)}" if notes else "nothing odd")
    return 1 if notes and options.strict else 0


def load(name: str, root: str | None, image_size: int, **changes) -> Dataset:
    """Load the data set of a name or module:function, or else the folder of images that bears the name.

    ``changes`` are parameters of a run that differ from what is best for a look: all labels, and what cannot
    be read is left out.
    """
    if name not in LOADERS and (as_path(name).is_dir() or "/" in name):
        name, root = "folder", name
    values = {"method": "ce", "dataset": name, "labels_per_class": 0, "on_bad_image": "skip"}
    if name == "folder":
        values["image_size"] = image_size
    root = changes.pop("data_root", root)
    check_names("parameter", changes, PARAMETERS)
    return load_data(TrainConfig(**values | changes), root)


def describe(data: Dataset) -> list[str]:
    """Return how many images there are, of which shape and of which classes, and what their files hold."""
    shape = " x ".join(map(str, data.image_shape))
    lines = [f"data     {data.name}: {shape}, mean {data.mean}, deviation {data.std}"]
    for split, labels in (("train", data.train_labels), ("test", data.test_labels)):
        counts = labels.cpu().bincount(minlength=data.num_classes).tolist()
        fewest_first = sorted(zip(counts, data.class_names, strict=True))
        named = first_few([f"{name}: {count}" for count, name in fewest_first], 10)
        lines.append(f"{split:<8} {len(labels)} images of {len(counts)} classes: {named}")
    return lines + [*data.found]


def draw(data: Dataset, path: str | Path) -> None:
    """Save a picture with a row of training images for each class."""
    from matplotlib.figure import Figure  # here, because nothing else of this room needs it

    rows, (channels, height, width) = min(data.num_classes, MOST), data.image_shape
    white = 255 if data.train_images.dtype == torch.uint8 else 1.0
    sheet = torch.full((rows, EACH, channels, height, width), white, dtype=data.train_images.dtype)
    for c in range(rows):
        chosen = (data.train_labels == c).nonzero()[:EACH, 0]
        if len(chosen):
            sheet[c, : len(chosen)] = torch.cat(list(data.train_images[chosen].split(EACH)))
    sheet = torch.nn.functional.pad(sheet, (1, 1, 1, 1), value=white)
    height, width = sheet.shape[3:]
    sheet = sheet.permute(0, 3, 1, 4, 2).reshape(rows * height, EACH * width, channels)
    figure = Figure(figsize=(EACH * 0.7 + 2, rows * 0.7 + 1))
    axis = figure.subplots()
    axis.imshow(sheet.numpy() if channels == 3 else sheet[..., 0].numpy(), cmap="gray", vmin=0)
    axis.set_yticks([(c + 0.5) * height - 0.5 for c in range(rows)], data.class_names[:rows])
    axis.set_xticks([])
    with atomic_write(path) as temporary:
        figure.savefig(temporary, bbox_inches="tight")
