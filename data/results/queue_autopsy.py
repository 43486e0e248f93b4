"""What a queue does to a run, and why: keys, momentum, queries and size, at equal operations.

    python data/results/queue_autopsy.py                             # the recipe, three seeds
    python data/results/queue_autopsy.py --preset cifar10_small_sgd  # the first recipe
    python data/results/queue_autopsy.py --figure data/results/queue_autopsy.png

A step with a queue sends half as many views through the backward pass. So epochs are counted by operations: as
many as the row without a queue needs for --epochs. Each epoch's loss and its level of chance are kept. Accuracies
are those of validation images (``studies.py``).
"""

import json
import sys
from pathlib import Path

import pandas as pd
import studies

from genscl_lite.datasets import Dataset
from genscl_lite.runs.statistics import t_interval
from genscl_lite.train.config import TrainConfig

TABLE = Path(__file__).with_name("queue_autopsy.csv")
KEY = ("preset", "method", "changes", "equal_to_epochs", "seed")
COLUMNS = (*KEY, "epochs", "accuracy", "knn_accuracy", "left_chance", "pflop", "cpu_seconds", "machine",
           "config")  # fmt: skip
CURVE_KEY = (*KEY, "epoch")
CURVE_COLUMNS = (*CURVE_KEY, "loss", "label_entropy", "chance")
NEAR_CHANCE = 0.02  # nats below chance that count as having left it
ALONE, QUEUED = "genscl_mix", "genscl_mix_queue"
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


def try_out(key: dict, changes: dict, dataset: Dataset, curves: studies.Tries) -> dict:
    """Train one try and keep its curve; return its line of the table."""
    preset, seed, epochs = key["preset"], key["seed"], key["equal_to_epochs"]
    alone = studies.settings(ALONE, {}, epochs, seed, preset)
    if key["method"] == QUEUED:
        changes = STATED | changes
    config = studies.settings(key["method"], changes, epochs, seed, preset)
    if key["method"] == QUEUED:
        config = studies.settings(
            key["method"], changes, equal_epochs(config, alone, dataset), seed, preset
        )
    run = studies.train(config, dataset)
    for row in run.log:
        found = key | {name: row[name] for name in ("epoch", "loss", "label_entropy", "chance")}
        if not curves.has(found):
            curves.add(found)
    operations = studies.step_flops(config, dataset) * studies.steps_of_epoch(config, dataset)
    return {
        "epochs": config.epochs,
        **studies.read_out(run, dataset),
        "left_chance": left_chance(run.log),
        "pflop": round(operations * config.epochs / 1e15, 6),
        **studies.cost(run),
        "config": studies.described(config),
    }


def in_words(method: str, changes: str) -> str:
    """Say what a try was.

    >>> in_words("genscl_mix_queue", '{"momentum": 0.9}')
    'queue, momentum 0.9'
    """
    own = json.loads(changes)
    parts = [f"{name.replace('_', ' ')} {value}" for name, value in own.items()]
    return ", ".join(["queue" if method == QUEUED else "no queue", *parts])


def curves_beside(table: Path) -> Path:
    return table.with_name(f"{table.stem}_curves.csv")


def render(table: Path = TABLE) -> str:
    """Render accuracy, neighbours' accuracy and the epoch that leaves chance of each try, as Markdown."""
    tries = pd.read_csv(table)
    lines = [
        "| preset | row | epochs | accuracy, % | neighbours, % | leaves chance in epoch | seeds |",
        "|---" * 7 + "|",
    ]
    for (preset, method, changes), own in tries.groupby(
        ["preset", "method", "changes"], sort=False
    ):
        cells = [_percent(own[name]) for name in ("accuracy", "knn_accuracy")]
        left = ", ".join("never" if pd.isna(epoch) else f"{epoch:.0f}" for epoch in own.left_chance)
        lines.append(
            f"| {preset} | {in_words(method, changes)} | {own.epochs.iloc[0]} | {cells[0]} | {cells[1]} "
            f"| {left} | {len(own)} |"
        )
    return "\n".join(lines)


def _percent(accuracies: pd.Series) -> str:
    mean, low, high, count = t_interval(100 * accuracies)
    return f"{mean:.1f}" + (f" ({low:.1f} to {high:.1f})" if count > 1 else "")


def draw(table: Path, figure: Path) -> None:
    """Draw how far below chance each try's loss is, epoch by epoch; mean over seeds, a panel a preset."""
    from matplotlib import pyplot as plt

    curves = pd.read_csv(curves_beside(table))
    panels = list(curves.groupby("preset", sort=False))
    _, axes = plt.subplots(
        1, len(panels), figsize=(6.5 * len(panels), 4.5), squeeze=False, layout="constrained"
    )
    for axis, (preset, own) in zip(axes[0], panels, strict=True):
        for (method, changes), tries in own.groupby(["method", "changes"], sort=False):
            mean = (tries.chance - tries.loss).groupby(tries.epoch).mean()
            axis.plot(mean.index, mean, ".-", linewidth=1, label=in_words(method, changes))
        axis.axhline(0, color="black", linestyle=":", label="chance")
        axis.set(xlabel="epoch", ylabel="loss below chance, nats")
        axis.set_title(preset, loc="left")
    axes[0, -1].legend(frameon=False, fontsize=8)
    plt.savefig(figure, dpi=100)
    plt.close()


def main(arguments: list[str] | None = None) -> int:
    parser = studies.parser_of(__doc__, TABLE, epochs=20, seeds=3)
    parser.add_argument("--try", dest="tries", action="append", type=int, metavar="K",
                        help=f"this one of the {len(TRIES)} tries, from 0; may be repeated")  # fmt: skip
    parser.add_argument("--figure", type=Path, help="PNG to draw the curves to, and stop")
    options = parser.parse_args(arguments)
    if options.figure:
        draw(options.out, options.figure)
        return 0
    table = studies.Tries(options.out, COLUMNS, KEY)
    curves = studies.Tries(curves_beside(options.out), CURVE_COLUMNS, CURVE_KEY)
    chosen = TRIES if options.tries is None else [TRIES[k] for k in options.tries]
    for seed in studies.seeds_of(options):
        dataset = None
        for method, changes in chosen:
            values = options.preset, method, json.dumps(changes), options.epochs, seed
            key = dict(zip(KEY, values, strict=True))
            if table.has(key):
                continue
            config = studies.settings(method, {}, options.epochs, seed, options.preset)
            dataset = dataset or studies.validation_split(
                config.labels_per_class, seed, options.data_root
            )
            found = key | try_out(key, changes, dataset, curves)
            table.add(found)
            print({name: found[name] for name in COLUMNS[:-2]}, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
