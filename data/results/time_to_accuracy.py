"""Operations and seconds until the validation accuracy passes 70, 75, 80, 85, 90 %, of three recipes.

    python data/results/time_to_accuracy.py                   # 500 labels a class
    python data/results/time_to_accuracy.py --labels all
    python data/results/time_to_accuracy.py --figure data/results/time_to_accuracy.png

The recipes: this kit's, its first one (plain SGD, its own network), and SupContrast's optimizer, schedule and
augmentation on the network of this kit's. Each is trained for several lengths, since a schedule that
ends later is slower on its way; what counts is the least that any of them needed. Features are read out on
validation images a dozen times a run, which is not counted. An interrupted run goes on from its checkpoint.
"""

import sys
from pathlib import Path

import pandas as pd
import studies

from genscl_lite.runs.claims import labels_said
from genscl_lite.runs.tables import markdown_table
from genscl_lite.train.config import TrainConfig
from genscl_lite.train.methods import METHODS
from genscl_lite.train.state import Run

TABLE = Path(__file__).with_name("time_to_accuracy.csv")
KEY = ("labels_per_class", "recipe", "method", "epochs", "seed", "epoch")
COLUMNS = (*KEY, "accuracy", "knn_accuracy", "loss", "pflop", "cpu_seconds", "machine", "config")
THRESHOLDS = (0.70, 0.75, 0.80, 0.85, 0.90)
METHODS_TRIED = ("supcon", "genscl_mix")
READ_OUTS = 12  # of a run
WORK = ["pflop", "cpu_seconds"]

SUPCONTRAST = {
    "optimizer": "sgd",
    "batch_size": 1024,
    "learning_rate": 0.5,
    "warmup_share": 0.0,
    "warmup_epochs": 10,
    "warmup_from": 0.01,
    "weight_decay": 0.0001,
    "decay_1d": True,
    "base_temperature": 0.07,
    "augmentation": "crop_jitter",
    "mix_per_image": False,
}
"""The recipe of its README for CIFAR-10, whose learning rate belongs to a loss times temperature / 0.07."""
OURS = "recipe"
TITLES = {OURS: "this kit's recipe", "first recipe": "its first one, plain SGD"}
RECIPES = {
    500: {
        OURS: ("cifar10_small", {}, (10, 20, 40, 80)),
        "first recipe": ("cifar10_small_sgd", {}, (40, 80, 160)),
        "SupContrast's": ("cifar10_small", SUPCONTRAST, (80, 320)),
    },
    0: {
        OURS: ("cifar10_cpu", {"arch": "whitened_small"}, (4, 16)),
        "first recipe": ("cifar10_cpu_sgd", {"arch": "convnet_small"}, (24,)),
        "SupContrast's": ("cifar10_cpu", SUPCONTRAST | {"arch": "whitened_small"}, (24,)),
    },
}
"""Labels of a class -> recipe -> preset, what is changed, epochs. The presets of all labels have larger networks,
which would take a core four times as long."""


def reading_epochs(epochs: int) -> list[int]:
    """Return the epochs after which features are read out, the last one among them.

    >>> reading_epochs(24)[:3], reading_epochs(4)
    ([2, 4, 6], [1, 2, 3, 4])
    """
    return sorted({round(epochs * k / READ_OUTS) for k in range(1, READ_OUTS + 1)} - {0})


def follow(config: TrainConfig, key: dict, dataset, table: studies.Tries, folder: Path) -> None:
    """Train a run and add a line for each of its read-outs."""
    pflop_of_epoch = (
        studies.step_flops(config, dataset) * studies.steps_of_epoch(config, dataset) / 1e15
    )
    due = reading_epochs(config.epochs)

    def look(run: Run) -> None:
        found = key | {"epoch": run.epoch}
        if run.epoch not in due or table.has(found):
            return
        found |= studies.read_out(run, dataset) | studies.cost(run)
        found |= {
            "loss": round(run.log[-1]["loss"], 4),
            "pflop": round(run.epoch * pflop_of_epoch, 6),
            "config": studies.described(config),
        }
        table.add(found)
        print(
            {name: found[name] for name in (*KEY, "accuracy", "pflop", "cpu_seconds")}, flush=True
        )

    look(studies.train(config, dataset, folder=folder, on_epoch=look))


def times(tries: pd.DataFrame) -> pd.DataFrame:
    """Return the least operations that any length needed for each threshold, and the seconds of that one, means over seeds.

    A row for each number of labels, recipe, row of the table and threshold that a run reached. A threshold
    that only some seeds reached has the mean of those; ``seeds`` says how many.
    """
    rows, by = [], ["labels_per_class", "recipe", "method"]
    for names, own in tries.groupby(by, sort=False):
        for threshold in THRESHOLDS:
            least = own[own.accuracy >= threshold].sort_values(WORK).groupby("seed").first()
            if len(least):
                rows.append((*names, threshold, *least[WORK].mean(), len(least)))
    return pd.DataFrame(rows, columns=[*by, "threshold", "pflop", "cpu_seconds", "seeds"])


def saving_lines(tries: pd.DataFrame) -> list[str]:
    """Say of each other recipe and seed what ``OURS`` needs for the best accuracy that it reached, and how much less that is."""
    lines = []
    for (labels, method, seed), own in tries.groupby(
        ["labels_per_class", "method", "seed"], sort=False
    ):
        ours = own[own.recipe == OURS]
        for recipe, theirs in own[own.recipe != OURS].groupby("recipe", sort=False):
            best = theirs.sort_values(["accuracy", "pflop"], ascending=[False, True]).iloc[0]
            enough = ours[ours.accuracy >= best.accuracy].sort_values(WORK)
            line = (
                f"{METHODS[method].title}, {labels_said(labels)}, seed {seed}: "
                f"{recipe} reaches {100 * best.accuracy:.1f} % at best "
                f"(epoch {best.epoch} of {best.epochs}, {best.pflop:.3g} PFLOP, {best.cpu_seconds:.0f} s); the present one "
            )
            if enough.empty:
                line += "does not reach that here."
            else:
                least = enough.iloc[0]
                line += (
                    f"has as much after {least.pflop:.3g} PFLOP and {least.cpu_seconds:.0f} s, "
                    f"{best.pflop / least.pflop:.1f} times fewer operations and "
                    f"{best.cpu_seconds / least.cpu_seconds:.1f} times fewer seconds."
                )
            lines.append(line)
    return lines


def render(table: Path = TABLE) -> str:
    """Render PFLOP and seconds to each threshold as Markdown, and what this recipe saves."""
    tries = pd.read_csv(table)
    found = times(tries).set_index(["labels_per_class", "recipe", "method", "threshold"])
    thresholds = [f"{100 * threshold:.0f} %" for threshold in THRESHOLDS]
    head, rows = ["labels a class", "recipe", "row", *thresholds], []
    for labels, recipe, method in tries.groupby(
        ["labels_per_class", "recipe", "method"], sort=False
    ).groups:
        cells = []
        for threshold in THRESHOLDS:
            place = (labels, recipe, method, threshold)
            row = found.loc[place] if place in found.index else None
            cells.append("" if row is None else f"{row.pflop:.3g} PFLOP, {row.cpu_seconds:.0f} s")
        named = "present recipe" if recipe == OURS else recipe
        rows.append([str(labels or "all"), named, METHODS[method].title, *cells])
    note = f"Seconds of a processor: {'; '.join(tries.machine.unique())}."
    return "\n".join(
        [markdown_table(head, rows), "", *(f"- {line}" for line in saving_lines(tries)), "", note]
    )


def draw(table: Path, path: Path) -> None:
    """Draw accuracy against operations and seconds: a color a recipe, a line a run, a panel a row and number of labels."""
    from matplotlib import pyplot as plt

    tries = pd.read_csv(table)
    panels = list(tries.groupby(["labels_per_class", "method"], sort=False))
    figure, axes = plt.subplots(
        len(panels),
        2,
        figsize=(10, 3.2 * len(panels)),
        squeeze=False,
        layout="constrained",
        sharex="col",
        sharey=True,
    )
    for pair, ((labels, method), own) in zip(axes, panels, strict=True):
        for axis, name, unit in zip(
            pair, ("pflop", "cpu_seconds"), ("PFLOP", "seconds of a processor"), strict=True
        ):
            for number, (recipe, runs) in enumerate(own.groupby("recipe", sort=False)):
                for place, (_, run) in enumerate(runs.groupby(["epochs", "seed"])):
                    axis.plot(
                        run[name], 100 * run.accuracy, ".-", color=f"C{number}", alpha=0.7,
                        linewidth=1, label=TITLES.get(recipe, recipe) if not place else None,
                    )  # fmt: skip
                    end = run.iloc[-1]
                    axis.plot(end[name], 100 * end.accuracy, "o", color=f"C{number}")
            axis.set(xscale="log", xlabel=unit)
            axis.label_outer()
            axis.xaxis.set_major_formatter("{x:g}")
            axis.grid(alpha=0.4)
        pair[0].set(ylabel="validation accuracy, %")
        pair[0].set_title(f"{METHODS[method].title}, {labels_said(labels)}", loc="left")
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False
    )
    plt.savefig(path, dpi=100)
    plt.close()


def main(arguments: list[str] | None = None) -> int:
    parser = studies.parser_of(__doc__, TABLE, epochs=0, seeds=1)
    parser.add_argument("--labels", default="500", choices=["500", "all"], help="of each class")
    parser.add_argument("--recipe", action="append", help="this one; may be repeated")
    parser.add_argument("--method", action="append", choices=METHODS_TRIED, help="may be repeated")
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/time_to_accuracy"), help="checkpoints"
    )
    parser.add_argument("--figure", type=Path, help="PNG to draw the table to, and stop")
    options = parser.parse_args(arguments)
    if options.figure:
        draw(options.out, options.figure)
        return 0
    labels = 0 if options.labels == "all" else int(options.labels)
    table = studies.Tries(options.out, COLUMNS, KEY)
    for seed in studies.seeds_of(options):
        dataset = studies.validation_split(labels, seed, options.data_root)
        for recipe, (preset, changes, lengths) in RECIPES[labels].items():
            for epochs in [options.epochs] if options.epochs else lengths:
                for method in options.method or METHODS_TRIED:
                    key = dict(
                        zip(KEY, (labels, recipe, method, epochs, seed, epochs), strict=True)
                    )
                    if (options.recipe and recipe not in options.recipe) or table.has(key):
                        continue
                    long = studies.settings(method, changes, 1000, seed, preset)
                    short = epochs <= long.warmup_epochs and not long.warmup_share
                    own = changes | ({"warmup_epochs": epochs // 8} if short else {})
                    config = studies.settings(method, own, epochs, seed, preset)
                    name = f"{labels}_{recipe.replace(' ', '_')}_{method}_{epochs}_seed{seed}"
                    follow(config, key, dataset, table, options.runs / name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
