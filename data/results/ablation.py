"""What the parts of the whitened network and of its recipe buy: each one removed, all else as it is.

    python data/results/ablation.py                      # 20 epochs, three seeds, SupCon and GenSCL + mix
    python data/results/ablation.py --only relu --only batch_norm_momentum
    python data/results/ablation.py --preset digits --epochs 80 --seeds 10 --only nothing  # rows that see blends alone

Accuracies are those of validation images (``studies.py``). Each run is read twice, with BatchNorm as the
training left it and with the statistics of whole training images.
"""

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import studies
import torch
from torch import nn

from genscl_lite.datasets import Dataset
from genscl_lite.runs.tables import markdown_table
from genscl_lite.train.methods import METHODS
from genscl_lite.train.networks import build_encoder
from genscl_lite.train.state import some_images

TABLE = Path(__file__).with_name("ablation.csv")
KEY = ("preset", "part", "method", "epochs", "seed")
COLUMNS = (*KEY, "accuracy", "knn_accuracy", "settled_accuracy", "settled_knn_accuracy", "cpu_seconds",
           "machine", "config")  # fmt: skip
METHODS_TRIED = ("supcon", "genscl_mix")

WHOLE = "nothing"
CONFIGURED = {
    "muon": {"optimizer": "nesterov"},
    "warmup": {"warmup_share": 0.0, "warmup_epochs": 0},
}
"""Parts that are a matter of the configuration: what is changed without them."""


def learned(encoder: nn.Module) -> None:
    """Train the whitening filters like any others; they only begin as a whitening."""
    frozen = encoder[0].weight
    encoder[0] = nn.Conv2d(frozen.shape[1], len(frozen), kernel_size=2, bias=False)
    encoder[0].weight.data.copy_(frozen)


def random_first_layer(encoder: nn.Module) -> None:
    """Begin with torch's own random filters, and train them."""
    frozen = encoder[0].weight
    encoder[0] = nn.Conv2d(frozen.shape[1], len(frozen), kernel_size=2, bias=False)


def one_sign(encoder: nn.Module) -> None:
    """Keep each filter without its negative."""
    whitening, first = encoder[0], convolutions(encoder)[0]
    whitening.weight = whitening.weight[: len(whitening.weight) // 2].clone()
    fewer = nn.Conv2d(
        len(whitening.weight), first.out_channels, kernel_size=3, padding=1, bias=False
    )
    nn.init.dirac_(fewer.weight.data[: fewer.in_channels])
    encoder[list(encoder).index(first)] = fewer


def random_convolutions(encoder: nn.Module) -> None:
    for layer in convolutions(encoder):
        layer.reset_parameters()


def learned_scale(encoder: nn.Module) -> None:
    for layer in encoder:
        if isinstance(layer, nn.BatchNorm2d):
            layer.weight.requires_grad_(True)


def slow_batch_norm(encoder: nn.Module) -> None:
    for layer in encoder:
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 0.1


def relu(encoder: nn.Module) -> None:
    for place, layer in enumerate(encoder):
        if isinstance(layer, nn.GELU):
            encoder[place] = nn.ReLU()


BUILT: dict[str, Callable[[nn.Module], None]] = {
    "frozen_whitening": learned,
    "both_signs": one_sign,
    "whitening": random_first_layer,
    "dirac": random_convolutions,
    "batch_norm_without_scale": learned_scale,
    "batch_norm_momentum": slow_batch_norm,
    "gelu": relu,
}
"""Parts of the network: what is done to it to remove them."""
PARTS = (WHOLE, *BUILT, *CONFIGURED)


def convolutions(encoder: nn.Module) -> list[nn.Conv2d]:
    return [layer for layer in encoder if isinstance(layer, nn.Conv2d)]


def network_without(part: str, arch: str, dataset: Dataset, seed: int) -> nn.Module:
    """Build a whitened network, fitted to the training images, with one of its parts removed; or another as it is."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoder = build_encoder(arch, dataset.image_shape[0])
        if not arch.startswith("whitened"):
            return encoder
        encoder.fit(some_images(dataset))
        encoder = nn.Sequential(*encoder)  # it is fitted, and shall stay as it is made here
        BUILT.get(part, lambda _: None)(encoder)
    return encoder


def try_out(key: dict, dataset: Dataset) -> dict:
    """Train without a part, and read the run out twice; return the columns that are not the key."""
    preset, part, method, epochs, seed = key.values()
    config = studies.settings(method, CONFIGURED.get(part, {}), epochs, seed, preset)
    encoder = network_without(part, config.arch, dataset, seed)
    config = dataclasses.replace(config, arch="custom")
    run = studies.train(config, dataset, encoder=encoder)
    settled = studies.read_out(run, dataset, settled=True)
    return {
        **studies.read_out(run, dataset),
        **{f"settled_{name}": value for name, value in settled.items()},
        **studies.cost(run),
        "config": studies.described(config),
    }


def render(table: Path = TABLE) -> str:
    """Render what each part buys, in percentage points, as Markdown: the whole network minus that without it."""
    everywhere = pd.read_csv(table)
    tries = everywhere[everywhere.preset == everywhere.preset.iloc[0]]
    head = ["without", "row", "accuracy, %", "worth, points", "neighbors, points", "seeds"]
    rows = []
    index = ["preset", "method", "epochs", "seed"]
    whole = tries[tries.part == WHOLE].set_index(index)
    for (part, method), own in tries.groupby(["part", "method"], sort=False):
        own = own.set_index(index)
        both = own.index.intersection(whole.index)
        cells = [
            studies.with_interval(100 * (whole.loc[both, name] - own.loc[both, name]))
            for name in ("accuracy", "knn_accuracy")
        ]
        if part == WHOLE:
            cells = ["", ""]
        accuracy = f"{100 * own.accuracy.mean():.1f}"
        title = METHODS[method].title
        rows.append([part.replace("_", " "), title, accuracy, *cells, str(len(own))])
    settled = [
        f"{preset}, {METHODS[method].title} {studies.with_interval(100 * (own.settled_accuracy - own.accuracy))}"
        for (preset, method), own in everywhere[everywhere.part == WHOLE].groupby(["preset", "method"], sort=False)
    ]  # fmt: skip
    note = f"BatchNorm with the statistics of whole images before the read-out changes, in points: {'; '.join(settled)}."
    return "\n".join([markdown_table(head, rows), "", note])


def main(arguments: list[str] | None = None) -> int:
    parser = studies.parser_of(__doc__, TABLE, epochs=20, seeds=3)
    parser.add_argument("--only", action="append", choices=PARTS, help="this part; may be repeated")
    parser.add_argument("--method", action="append", choices=METHODS, help="may be repeated")
    options = parser.parse_args(arguments)
    methods = options.method or METHODS_TRIED
    tries = [(part, method) for part in options.only or PARTS for method in methods]
    studies.do_missing(studies.Tries(options.out, COLUMNS, KEY), tries, options, try_out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
