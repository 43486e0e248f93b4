"""What a queue does to a run, and why: keys, momentum, queries, size and start, at equal operations.

    python data/results/queue_autopsy.py                             # the recipe, three seeds
    python data/results/queue_autopsy.py --preset cifar10_small_sgd  # the first recipe
    python data/results/queue_autopsy.py --figure data/results/queue_autopsy.png

A step with a queue sends half as many views through the backward pass. So epochs are counted by operations: as
many as the row without a queue needs for --epochs. Each epoch's loss and its level of chance are kept; notebook 06 draws them. Accuracies
are those of validation images (``studies.py``).
"""

import json
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import studies
import torch
from torch import nn

from genscl_lessons.figures.momentum_contrast import plot_long_runs
from genscl_lessons.plots import set_style
from genscl_lite.datasets import Dataset
from genscl_lite.runs.finish import finish_run
from genscl_lite.runs.tables import markdown_table
from genscl_lite.train.config import TrainConfig
from genscl_lite.train.state import Run, new_model

TABLE = Path(__file__).with_name("queue_autopsy.csv")
KEY = ("preset", "method", "changes", "equal_to_epochs", "seed")
COLUMNS = (*KEY, "epochs", "accuracy", "knn_accuracy", "left_chance", "pflop", "cpu_seconds", "machine",
           "config")  # fmt: skip
CURVE_KEY = (*KEY, "epoch")
CURVE_COLUMNS = (*CURVE_KEY, "loss", "label_entropy", "chance")
NEAR_CHANCE = 0.02  # nats below chance that count as having left it
ALONE, QUEUED = "genscl_mix", "genscl_mix_queue"
WITHOUT = "share_without_queue"
"""Of a try: this share of the operations goes first into a run without a queue, from whose weights (encoder and
head) the one with a queue begins. Each has a schedule of its own, with warm-up."""
MEMORY = "batch_norm_momentum"
"""Of a try: the share of a step's statistics in BatchNorm's averages, 0.1 in torch, 0.4 in the whitened networks."""
TRIES = [
    (ALONE, {}),
    (QUEUED, {}),  # keys by the statistics of their batch, momentum and size of the preset
    (QUEUED, {"momentum": 0.9}),
    (QUEUED, {"momentum": 0.0}),
    (QUEUED, {"key_statistics": "running"}),
    (QUEUED, {"key_statistics": "running", "momentum": 0.9}),
    (QUEUED, {"key_statistics": "running", "momentum": 0.0}),
    (QUEUED, {"queries": "all"}),
    (QUEUED, {"queries": "all", "momentum": 0.0}),
    (QUEUED, {"queue_size": 500}),
    (QUEUED, {"queue_size": 4000}),
    (QUEUED, {"queue_size": 500, "queries": "all"}),
    (QUEUED, {WITHOUT: 0.25}),
    (QUEUED, {"key_statistics": "running", MEMORY: 0.1}),
    (QUEUED, {"key_statistics": "running", MEMORY: 0.4}),
]
STATED = {"key_statistics": "batch", "momentum": 0.99}
"""What a try has where it says nothing else, whatever the preset says."""


def equal_epochs(config: TrainConfig, alone: TrainConfig, dataset: Dataset) -> int:
    """Return the epochs in which a run does about the operations that the run without a queue does in its own."""
    ratio = studies.step_flops(alone, dataset) / studies.step_flops(config, dataset)
    return max(1, round(alone.epochs * ratio))


def left_chance(log: list[dict]) -> int | None:
    """Return the first epoch from which on the loss stays below chance; None: it never left it."""
    below = [row["loss"] < row["chance"] - NEAR_CHANCE for row in log]
    if not below[-1]:
        return None
    return log[len(below) - below[::-1].index(False) if False in below else 0]["epoch"]


def runs_of(key: dict, dataset: Dataset) -> list[Run]:
    """Train one try; return its run, after the one without a queue that it begins from, if it does."""
    preset, method, changes, epochs, seed = key.values()
    alone = studies.settings(ALONE, {}, epochs, seed, preset)
    if method == ALONE:
        return [studies.train(alone, dataset)]
    changes = STATED | json.loads(changes)
    share, memory = changes.pop(WITHOUT, 0.0), changes.pop(MEMORY, 0.0)
    config = studies.settings(method, changes, epochs, seed, preset)
    queued_epochs = max(1, round((1 - share) * equal_epochs(config, alone, dataset)))
    config = replace(config, epochs=queued_epochs)
    if memory:
        encoder = network(config, dataset)
        for layer in encoder.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.momentum = memory
        return [studies.train(replace(config, arch="custom"), dataset, encoder=encoder)]
    if not share:
        return [studies.train(config, dataset)]
    first = studies.train(replace(alone, epochs=max(1, round(share * epochs))), dataset)
    with TemporaryDirectory() as folder:
        finish_run(first, dataset, folder)
        return [first, studies.train(replace(config, weights=folder), dataset)]


def network(config: TrainConfig, dataset: Dataset) -> nn.Module:
    """Build the encoder that a run would begin with."""
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        return new_model(config, dataset).encoder


def try_out(key: dict, dataset: Dataset, curves: studies.Tries) -> dict:
    """Train one try and keep its curve; return the columns that are not the key."""
    runs = runs_of(key, dataset)
    log = [row for run in runs for row in run.log]
    log = [row | {"epoch": epoch} for epoch, row in enumerate(log, start=1)]
    for row in log:
        found = key | {name: row[name] for name in ("epoch", "loss", "label_entropy", "chance")}
        if not curves.has(found):
            curves.add(found)
    alone = studies.settings(ALONE, {}, key["equal_to_epochs"], 0, key["preset"])
    # the folder of weights is gone, and "custom" builds no network
    configs = [replace(run.config, weights="", arch=alone.arch) for run in runs]
    operations = sum(studies.flops(config, dataset) for config in configs)
    return {
        "epochs": len(log),
        **studies.read_out(runs[-1], dataset),
        "left_chance": left_chance(log),
        "pflop": round(operations / 1e15, 6),
        **studies.cost(*runs),
        "config": studies.described(configs[-1]),
    }


def in_words(method: str, changes: str) -> str:
    """Say what a try was.

    >>> in_words("genscl_mix_queue", '{"momentum": 0.9}')
    'queue, momentum 0.9'
    """
    own = json.loads(changes)
    parts = [f"{name.replace('_', ' ')} {value}" for name, value in own.items()]
    return ", ".join(["queue" if method == QUEUED else "no queue", *parts])


def render(table: Path = TABLE) -> str:
    """Render accuracies of each try, how far it is from the row without a queue, and when it leaves chance."""
    tries = pd.read_csv(table)
    head = ["preset", "row", "epochs", "accuracy, %", "minus no queue, points", "neighbors, %",
            "leaves chance in epoch", "seeds"]  # fmt: skip
    alone = tries[tries.method == ALONE].set_index(["preset", "seed"]).accuracy
    rows, by_try = [], ["preset", "method", "changes"]
    tries = tries.sort_values("preset", kind="stable")
    for (preset, method, changes), own in tries.groupby(by_try, sort=False):
        behind = (own.set_index(["preset", "seed"]).accuracy - alone).dropna()
        left = ", ".join("never" if pd.isna(epoch) else f"{epoch:.0f}" for epoch in own.left_chance)
        rows.append([
            preset, in_words(method, changes), str(own.epochs.iloc[0]), _percent(own.accuracy),
            _percent(behind, "+") if method != ALONE else "", _percent(own.knn_accuracy), left,
            str(len(own)),
        ])  # fmt: skip
    return markdown_table(head, rows)


def _percent(fractions: pd.Series, sign: str = "") -> str:
    return studies.with_interval(100 * fractions, f"{sign}.1f")


def main(arguments: list[str] | None = None) -> int:
    parser = studies.parser_of(__doc__, TABLE, epochs=20, seeds=3)
    parser.add_argument("--try", dest="tries", action="append", type=int, metavar="K",
                        help=f"this one of the {len(TRIES)} tries, from 0; may be repeated")  # fmt: skip
    parser.add_argument("--figure", type=Path, help="PNG to draw the curves to, and stop")
    options = parser.parse_args(arguments)
    table = studies.Tries(options.out, COLUMNS, KEY)
    beside = options.out.with_name(f"{options.out.stem}_curves.csv")
    if options.figure:
        set_style()
        plot_long_runs(pd.read_csv(beside)).savefig(options.figure, dpi=100)
        return 0
    curves = studies.Tries(beside, CURVE_COLUMNS, CURVE_KEY)
    chosen = TRIES if options.tries is None else [TRIES[k] for k in options.tries]
    tries = [(method, json.dumps(changes)) for method, changes in chosen]
    studies.do_missing(table, tries, options, partial(try_out, curves=curves))
    return 0


if __name__ == "__main__":
    sys.exit(main())
