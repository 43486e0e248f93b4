"""How the settings of `cifar10_small` were chosen: tries on training images that have no label in the run.

    python data/results/tune.py supcon                 # all tries of a family, 20 epochs each
    python data/results/tune.py supcon --epochs 80     # the best try of each augmentation, again and longer

A family is a kind of row: classifiers or latents, whole images or blends, with a queue. Each try is a line in
tuning.csv beside this script; what is there is not trained again. Test images are never loaded.
"""

import argparse
import json
import time
from pathlib import Path

import studies
from studies import settings, validation_split

from genscl_lite.datasets import Dataset
from genscl_lite.train.config import TrainConfig

TABLE = Path(__file__).with_name("tuning.csv")
COLUMNS = ("family", "changes", "epochs", "seed", "accuracy", "knn_accuracy", "head_accuracy", "loss",
           "cpu_seconds", "machine")  # fmt: skip
KEY = COLUMNS[:4]

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


def try_out(config: TrainConfig, dataset: Dataset) -> dict:
    """Train once and read the features out on the validation images."""
    started = time.process_time()
    run = studies.train(config, dataset)
    seconds = time.process_time() - started
    return studies.read_out(run, dataset) | {
        "head_accuracy": run.log[-1]["accuracy"],
        "loss": round(run.log[-1]["loss"], 4),
        "cpu_seconds": round(seconds),
        "machine": studies.cpu_name(),
    }


def table() -> studies.Tries:
    return studies.Tries(TABLE, COLUMNS, KEY)


def best_of_each(family: str, epochs: int) -> list[dict]:
    """Return the changes of the most accurate try with each augmentation (of a queue: the best two)."""
    tries = [
        row for row in table().rows() if row["family"] == family and int(row["epochs"]) == epochs
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
        values = options.family, json.dumps(changes), options.epochs, options.seed
        key = dict(zip(KEY, values, strict=True))
        if table().has(key):
            continue
        config = settings(options.family, changes, options.epochs, options.seed)
        dataset = dataset or validation_split(
            config.labels_per_class, options.seed, options.data_root
        )
        found = key | try_out(config, dataset)
        table().add(found)
        print(found, flush=True)


if __name__ == "__main__":
    main()
