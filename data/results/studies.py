"""What the studies beside these results share: their data, settings and read-out, and a table of tries.

Nothing is chosen on test images: a study tests on training images of which its runs see no label. A try is a
line in a CSV file beside the script; what is there is not done again, so a study can be stopped at any time.
"""

import argparse
import copy
import csv
import dataclasses
import json
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from torch import nn
from torch.optim.swa_utils import update_bn
from torch.utils.flop_counter import FlopCounterMode

from genscl_lite.datasets import Dataset, files, load_dataset
from genscl_lite.runs.machine import cpu_name
from genscl_lite.runs.plan import plan
from genscl_lite.runs.statistics import t_interval
from genscl_lite.train.augment import as_unit_float
from genscl_lite.train.batches import draw_epoch, image_batches
from genscl_lite.train.config import TrainConfig, changed_parameters
from genscl_lite.train.evaluate import classifier_accuracy, extract, knn_accuracy
from genscl_lite.train.loop import pretrain, train_step
from genscl_lite.train.objective import Pieces
from genscl_lite.train.precision import autocast
from genscl_lite.train.read_out import fit_read_out
from genscl_lite.train.state import Run, new_run

VALIDATION_IMAGES = 5000
READ_OUT_IMAGES = 10_000  # training images that the read-out is fitted to, at most
CPU = torch.device("cpu")


# Data and settings


def validation_split(
    labels_per_class: int, seed: int, root: str | None, name: str = "cifar10"
) -> Dataset:
    """Return a data set as a run sees it, but with training images that it has no label of to test on.

    With all labels (``labels_per_class`` 0) the images to test on are taken from those to train on.
    """
    whole = load_dataset(name, root)
    order = torch.randperm(len(whole.train_images), generator=torch.Generator().manual_seed(0))
    if not labels_per_class:
        count = min(VALIDATION_IMAGES, len(order) // 2)
        kept = order[count:].sort().values
        run = dataclasses.replace(
            whole, train_images=whole.train_images[kept], train_labels=whole.train_labels[kept]
        )
        chosen = order[:count]
    else:
        run = load_dataset(name, root, labels_per_class, seed)
        labeled = {image.numpy().tobytes() for image in run.train_images}
        images = (whole.train_images[i].numpy().tobytes() for i in order)
        others = [
            i for i, image in zip(order.tolist(), images, strict=True) if image not in labeled
        ]
        chosen = torch.tensor(others[:VALIDATION_IMAGES])
    return dataclasses.replace(
        run, test_images=whole.train_images[chosen], test_labels=whole.train_labels[chosen]
    )


def settings(
    method: str, changes: dict, epochs: int, seed: int, preset: str = "cifar10_small"
) -> TrainConfig:
    """Return a preset's configuration of a method, changed."""
    changed = changes | {"epochs": epochs, "seed": seed}
    return plan(preset, changed, methods=[method], seeds=1)[-1].configs[0]


def described(config: TrainConfig) -> str:
    """Write as JSON what of a configuration is not its default."""
    return json.dumps(changed_parameters(config))


# Training and reading out


def train(config: TrainConfig, dataset: Dataset, **options) -> Run:
    return pretrain(config, dataset, device=CPU, **options)


def read_out(run: Run, dataset: Dataset, settled: bool = False) -> dict:
    """Return the accuracies that a run's features allow: of a fitted probe, and of neighbors.

    ``settled``: BatchNorm is given the statistics of whole training images first, in a copy.
    """
    encoder = run.result.encoder
    if settled:
        encoder = copy.deepcopy(encoder)
        settle_batch_norm(encoder, dataset, run.dtype)
    every = math.ceil(len(dataset.train_labels) / READ_OUT_IMAGES)
    labels = dataset.train_labels[::every]
    train_features, test_features = (
        extract(encoder, dataset, images, dtype=run.dtype)
        for images in (dataset.train_images[::every], dataset.test_images)
    )
    layer = fit_read_out(train_features, labels, dataset.num_classes, run.config.seed)
    pair = labels, test_features, dataset.test_labels
    return {
        "accuracy": classifier_accuracy(layer(test_features), dataset.test_labels),
        "knn_accuracy": knn_accuracy(train_features, *pair, run.config.knn_neighbors),
    }


@torch.no_grad()
def settle_batch_norm(
    model: nn.Module, dataset: Dataset, dtype: torch.dtype = torch.float32, chunk: int = 500
) -> None:
    """Give every BatchNorm the mean and variance of the whole, unaugmented training images.

    A row that saw only blends has statistics of blends, and running ones are an average of the last steps.
    """
    images = dataset.train_images
    parts = (
        dataset.normalize(as_unit_float(part)).contiguous(memory_format=torch.channels_last)
        for part in images.split(chunk)
        if len(part) > 1 or len(images) == 1
    )
    with autocast(dtype, next(model.parameters()).device):
        update_bn(parts, model)


def cost(*runs: Run) -> dict:
    """Return what runs cost here: seconds of the processor, which other work does not change much."""
    return {"cpu_seconds": round(sum(run.cpu_seconds for run in runs), 1), "machine": cpu_name()}


def step_flops(config: TrainConfig, dataset: Dataset) -> int:
    """Count the operations of one whole training step, forward, backward and optimizer.

    Counted are matrix products and convolutions, two operations for a multiplication with an addition. Not counted
    are a streamed loss, which the counter does not look into (2 % of a step of SupContrast's recipe), and the loss
    against a queue, which is empty in the first step (up to 2 %).
    """
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        run = new_run(config, dataset, None, CPU)
        pieces = Pieces.of(run, dataset)
        shape = dataset.image_shape[1:]
        draws = draw_epoch(config, dataset.train_labels, shape, run.generator)
        images = next(image_batches(config, dataset, draws.index, 0, 0))
        run.model.train()
        with FlopCounterMode(display=False) as counter:
            train_step(run, images, pieces, draws.step(0), config.learning_rate)
    return counter.get_total_flops()


def steps_of_epoch(config: TrainConfig, dataset: Dataset) -> int:
    return math.ceil(len(dataset.train_labels) / config.batch_size)


def flops(config: TrainConfig, dataset: Dataset) -> int:
    """Count the operations of a whole run."""
    return step_flops(config, dataset) * steps_of_epoch(config, dataset) * config.epochs


# Tables of tries


@dataclasses.dataclass
class Tries:
    """A CSV file, a line a try. Some columns are its key: what was tried, as text."""

    path: Path
    columns: Sequence[str]
    key: Sequence[str]

    def rows(self) -> list[dict]:
        return list(csv.DictReader(self.path.open())) if self.path.exists() else []

    def has(self, found: dict) -> bool:
        wanted = [str(found[name]) for name in self.key]
        return any([row[name] for name in self.key] == wanted for row in self.rows())

    def add(self, found: dict) -> None:
        """Append a line, also while another process does; what is there by now is kept."""
        with files.locked(self.path.parent, wait=60):
            if self.has(found):
                return
            new = not self.path.exists()
            with self.path.open("a", newline="") as file:
                writer = csv.DictWriter(file, self.columns, lineterminator="\n")
                if new:
                    writer.writeheader()
                writer.writerow(found)


def with_interval(values: Sequence[float], form: str = "+.1f") -> str:
    """Write the mean of values with its 95 % interval of t; "" for no value, the value alone for one.

    >>> with_interval([1, 2, 3]), with_interval([0.5], ".2f"), with_interval([])
    ('+2.0 (-0.5 to +4.5)', '0.50', '')
    """
    mean, low, high, count = t_interval(values)
    if not count:
        return ""
    return f"{mean:{form}}" + (f" ({low:{form}} to {high:{form}})" if count > 1 else "")


def parser_of(doc: str, table: Path, epochs: int, seeds: int, preset: str = "cifar10_small"):
    """Return a parser of the options that studies share."""
    parser = argparse.ArgumentParser(description=doc.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=epochs, help=f"of a run ({epochs})")
    parser.add_argument("--seeds", type=int, default=seeds, help=f"0, 1, ...: so many ({seeds})")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--preset", default=preset, help=f"name or YAML file ({preset})")
    parser.add_argument("--data-root", help="folder of CIFAR's files")
    parser.add_argument("--out", type=Path, default=table, help=f"the table ({table.name})")
    return parser


def seeds_of(options: argparse.Namespace) -> range:
    return range(options.first_seed, options.first_seed + options.seeds)


def do_missing(
    table: Tries,
    tries: Iterable[tuple[str, str]],
    options: argparse.Namespace,
    try_out: Callable[[dict, Dataset], dict],
) -> None:
    """Do the tries that a table lacks, seed by seed; add and print the line of each.

    Args:
        table: its key is the preset, the two values of a try, epochs and seed.
        tries: values of the key, the method among them.
        options: of ``parser_of``.
        try_out: returns the other columns of the line with this key.
    """
    for seed in seeds_of(options):
        dataset = None
        for values in tries:
            key = dict(zip(table.key, (options.preset, *values, options.epochs, seed), strict=True))
            if table.has(key):
                continue
            config = settings(key["method"], {}, options.epochs, seed, options.preset)
            dataset = dataset or validation_split(
                config.labels_per_class, seed, options.data_root, config.dataset
            )
            found = key | try_out(key, dataset)
            table.add(found)
            shown = found.keys() - {"machine", "config"}
            print({name: found[name] for name in table.columns if name in shown}, flush=True)
