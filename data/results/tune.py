"""How the settings of `cifar10_small` were chosen: tries on training images that have no label in the run.

    python data/results/tune.py supcon                 # all tries of a family, 20 epochs each
    python data/results/tune.py supcon --epochs 80     # the best try of each augmentation, again and longer

A family is a kind of row: classifiers or latents, whole images or blends, with a queue. Each try is a line in
tuning.csv beside this script; what is there is not trained again. Test images are never loaded.
"""

import argparse
import csv
import dataclasses
import json
import time
from pathlib import Path

import torch

from genscl_lite.datasets import Dataset, files, load_dataset
from genscl_lite.runs.machine import cpu_name
from genscl_lite.runs.plan import plan
from genscl_lite.train.config import TrainConfig
from genscl_lite.train.evaluate import classifier_accuracy, extract, knn_accuracy
from genscl_lite.train.loop import pretrain
from genscl_lite.train.read_out import fit_read_out

TABLE = Path(__file__).with_name("tuning.csv")
COLUMNS = ("family", "changes", "epochs", "seed", "accuracy", "knn_accuracy", "head_accuracy", "loss",
           "cpu_seconds", "machine")  # fmt: skip
VALIDATION_IMAGES = 5000

AUGMENTATIONS = ("shift", "crop_jitter_light")
WHOLE = [
    {"augmentation": augmentation, "learning_rate": rate}
    for rate in (0.1, 0.05, 0.2)
    for augmentation in AUGMENTATIONS
]
BLENDS = [
    {"augmentation": augmentation, "learning_rate": rate, "mix_probability": probability}
    for rate, probability in ((0.1, 0.5), (0.1, 1.0), (0.05, 0.5))
    for augmentation in AUGMENTATIONS
]
QUEUE = [
    {"momentum": 0.99},
    {"momentum": 0.9},
    {"momentum": 0.0},
    {"momentum": 0.99, "key_statistics": "running"},
    {"momentum": 0.99, "queue_size": 500},
    {"momentum": 0.99, "queue_size": 4000},
]
FAMILIES = {
    "ce": WHOLE,
    "supcon": WHOLE,
    "ce_mix": BLENDS,
    "genscl_mix": BLENDS,
    "genscl_mix_queue": QUEUE,
}


def validation_split(labels_per_class: int, seed: int, root: str | None) -> Dataset:
    """Return CIFAR-10 as a run sees it, but with training images that it has no label of to test on."""
    whole = load_dataset("cifar10", root)
    run = load_dataset("cifar10", root, labels_per_class, seed)
    labelled = {image.numpy().tobytes() for image in run.train_images}
    order = torch.randperm(len(whole.train_images), generator=torch.Generator().manual_seed(0))
    others = [i for i in order.tolist() if whole.train_images[i].numpy().tobytes() not in labelled]
    chosen = torch.tensor(others[:VALIDATION_IMAGES])
    return dataclasses.replace(
        run, test_images=whole.train_images[chosen], test_labels=whole.train_labels[chosen]
    )


def settings(method: str, changes: dict, epochs: int, seed: int) -> TrainConfig:
    """Return the preset's configuration of a method, changed."""
    changed = changes | {"epochs": epochs, "seed": seed}
    return plan("cifar10_small", changed, methods=[method], seeds=1)[-1].configs[0]


def try_out(config: TrainConfig, dataset: Dataset) -> dict:
    """Train once and read the features out on the validation images."""
    started = time.process_time()
    run = pretrain(config, dataset)
    seconds = time.process_time() - started
    train, test = (
        extract(run.result.encoder, dataset, images, dtype=run.dtype)
        for images in (dataset.train_images, dataset.test_images)
    )
    layer = fit_read_out(train, dataset.train_labels, dataset.num_classes, config.seed)
    pair = dataset.train_labels, test, dataset.test_labels
    return {
        "accuracy": classifier_accuracy(layer(test), dataset.test_labels),
        "knn_accuracy": knn_accuracy(train, *pair, config.knn_neighbours),
        "head_accuracy": run.log[-1]["accuracy"],
        "loss": round(run.log[-1]["loss"], 4),
        "cpu_seconds": round(seconds),
        "machine": cpu_name(),
    }


def read_table() -> list[dict]:
    return list(csv.DictReader(TABLE.open())) if TABLE.exists() else []


def best_of_each(family: str, epochs: int) -> list[dict]:
    """Return the changes of the most accurate try with each augmentation (of a queue: the best two)."""
    tries = [
        row for row in read_table() if row["family"] == family and int(row["epochs"]) == epochs
    ]
    tries.sort(key=lambda row: -float(row["accuracy"]))
    best: dict[str, dict] = {}
    for row in tries:
        changes = json.loads(row["changes"])
        best.setdefault(changes.get("augmentation", str(len(best))), changes)
    return list(best.values())[:2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("family", choices=FAMILIES)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data-root")
    options = parser.parse_args()
    tries = FAMILIES[options.family]
    if options.epochs != 20:
        tries = best_of_each(options.family, 20)
    dataset = None
    for changes in tries:
        key = (options.family, json.dumps(changes), str(options.epochs), str(options.seed))
        if any(
            (row["family"], row["changes"], row["epochs"], row["seed"]) == key
            for row in read_table()
        ):
            continue
        config = settings(options.family, changes, options.epochs, options.seed)
        dataset = dataset or validation_split(
            config.labels_per_class, options.seed, options.data_root
        )
        found = dict(zip(COLUMNS, key, strict=False)) | try_out(config, dataset)
        with files.locked(TABLE.parent, wait=60):
            new = not TABLE.exists()
            with TABLE.open("a", newline="") as file:
                writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
                if new:
                    writer.writeheader()
                writer.writerow(found)
        print(found, flush=True)


if __name__ == "__main__":
    main()
