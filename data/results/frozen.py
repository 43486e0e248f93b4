"""Options of the loss on frozen features: temperature, head, similarity, weighting, softness of a teacher.

    python data/results/frozen.py runs/cifar10_small/genscl_mix/seed0              # 30 seeds, seconds a run
    python data/results/frozen.py --figure data/results/frozen.png

The encoder of a finished run stays as it is; a head is trained on the features of blends of the images that the
run had labels of. The teacher is the read-out of the same features, softened. Each option is changed alone,
temperature and softness together too. Accuracies are of latents, on validation images (``studies.py``).
"""

import itertools
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import studies
import torch
from torch import Generator, Tensor, nn

from genscl_lite import gen_supcon_loss, gen_supcon_loss_parts
from genscl_lite.mixing import mix
from genscl_lite.runs.tables import markdown_table
from genscl_lite.runs.trained import Encoder
from genscl_lite.train.augment import as_unit_float
from genscl_lite.train.evaluate import classifier_accuracy, knn_accuracy
from genscl_lite.train.read_out import fit_read_out

TABLE = Path(__file__).with_name("frozen.csv")
OPTIONS = {
    "temperature": (0.1, 0.03, 0.05, 0.2, 0.5, 1.0),
    "head": ("mlp", "linear", "mlp_batch_norm"),
    "similarity": ("cosine", "inner_product", "bhattacharyya"),
    "weighting": ("normalized", "eq2"),
    "teacher_temperature": (0.0, 0.5, 1.0, 2.0, 4.0, 8.0),
}
"""What is tried; the first value is the one that stays while others change. 0: no teacher."""
MAP = ("temperature", "teacher_temperature")
KEY = ("model", *OPTIONS, "steps", "seed")
COLUMNS = (*KEY, "accuracy", "knn_accuracy", "share_of_the_way", "cpu_seconds", "machine", "config")
ROWS, COPIES, LATENT_DIM, NEIGHBORS = 250, 8, 64, 20
BLENDS = 2000  # of validation images, at most, that the loss is measured on
LEARNING_RATE = 1e-3  # of AdamW


class Features(NamedTuple):
    """Standardized features of an encoder, with labels."""

    blends: Tensor  # (COPIES * N, F)
    blend_labels: Tensor  # (COPIES * N, C)
    teacher: Tensor  # (COPIES * N, C) logits of the read-out
    whole: Tensor  # (N, F)
    labels: Tensor  # (N,)
    validation: Tensor
    validation_labels: Tensor
    validation_blends: Tensor
    validation_blend_labels: Tensor
    config: str


def features_of(model: str, root: str | None) -> Features:
    """Pass whole images and blends through a finished run's encoder, once."""
    encoder = Encoder.load(model, device="cpu")
    config = encoder.config
    data = studies.validation_split(config.labels_per_class, config.seed, root, config.dataset)
    generator, classes = Generator().manual_seed(config.seed), data.num_classes
    options = {"num_classes": classes, "per_image": True, "generator": generator}
    images, tested = as_unit_float(data.train_images), as_unit_float(data.test_images[:BLENDS])
    copies = [mix(images, data.train_labels, **options) for _ in range(COPIES)]
    blends = torch.cat([encoder.features(mixed) for mixed, _ in copies])
    mixed, mixed_labels = mix(tested, data.test_labels[:BLENDS], **options)
    whole = encoder.features(data.train_images)
    std, mean = torch.std_mean(whole, dim=0)
    std = std.clamp(min=1e-6 * float(std.max()))

    def standardized(rows: Tensor) -> Tensor:
        return (rows - mean) / std

    with torch.no_grad():
        teacher = fit_read_out(whole, data.train_labels, classes)(blends)
    return Features(
        standardized(blends),
        torch.cat([labels for _, labels in copies]),
        teacher,
        standardized(whole),
        data.train_labels,
        standardized(encoder.features(data.test_images)),
        data.test_labels,
        standardized(encoder.features(mixed)),
        mixed_labels,
        studies.described(config),
    )


def tries() -> list[dict]:
    """Return all combinations: each option changed alone, and the two of ``MAP`` together."""
    base = {name: values[0] for name, values in OPTIONS.items()}
    alone = [base | {name: value} for name, values in OPTIONS.items() for value in values]
    together = [base | dict(zip(MAP, pair, strict=True)) for pair in itertools.product(*(OPTIONS[name] for name in MAP))]  # fmt: skip
    both = alone + together
    return [found for k, found in enumerate(both) if found not in both[:k]]


def make_head(kind: str, features: int) -> nn.Sequential:
    if kind == "linear":
        return nn.Sequential(nn.Linear(features, LATENT_DIM))
    norm = [nn.BatchNorm1d(features)] if kind == "mlp_batch_norm" else []
    return nn.Sequential(
        nn.Linear(features, features), *norm, nn.ReLU(), nn.Linear(features, LATENT_DIM)
    )


def try_out(found: dict, data: Features, steps: int, seed: int) -> dict:
    """Train a head and measure its latents."""
    started, generator = time.process_time(), Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        head = make_head(found["head"], data.whole.shape[1])
    optimizer = torch.optim.AdamW(head.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    options = {name: found[name] for name in ("temperature", "similarity", "weighting")}
    rows = min(ROWS, len(data.blends))
    for _ in range(steps):
        index = torch.randperm(len(data.blends), generator=generator)[:rows]
        targets = [(1.0, data.blend_labels[index])]
        if found["teacher_temperature"]:
            taught = (data.teacher[index] / found["teacher_temperature"]).softmax(dim=1)
            targets.append((1.0, taught))
        loss = gen_supcon_loss(head(data.blends[index]), targets, validate=False, **options)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return measure(head.eval(), data, options) | {
        "cpu_seconds": round(time.process_time() - started, 1),
        "machine": studies.cpu_name(),
        "config": data.config,
    }


@torch.no_grad()
def measure(head: nn.Module, data: Features, options: dict) -> dict:
    """Return accuracies of latents, and how far the loss of blends came from chance to its floor."""
    train, test = head(data.whole), head(data.validation)
    layer = fit_read_out(train, data.labels, data.blend_labels.shape[1])
    options = options | {"weighting": "normalized"}  # eq2 has no chance to compare with
    parts = gen_supcon_loss_parts(
        head(data.validation_blends), data.validation_blend_labels, **options
    )
    way = (parts.chance - parts.loss) / (parts.chance - parts.entropy)
    return {
        "accuracy": classifier_accuracy(layer(test), data.validation_labels),
        "knn_accuracy": knn_accuracy(train, data.labels, test, data.validation_labels, NEIGHBORS),
        "share_of_the_way": round(float(way), 4),
    }


def render(table: Path = TABLE) -> str:
    """Render what each option changes, as Markdown: means over seeds, and differences from the first values."""
    found = pd.read_csv(table)
    base = {name: values[0] for name, values in OPTIONS.items()}
    head = ["option", "value", "accuracy, %", "neighbors, %", "difference, points", "way to the floor, %", "seeds"]  # fmt: skip
    rows = []
    whole = _where(found, base).set_index(["model", "seed"])
    for name, values in OPTIONS.items():
        for value in values:
            own = _where(found, base | {name: value}).set_index(["model", "seed"])
            if own.empty:
                continue
            both = own.index.intersection(whole.index)
            gain = 100 * (own.loc[both, "accuracy"] - whole.loc[both, "accuracy"])
            difference = "" if value == values[0] else studies.with_interval(gain)
            percents = (f"{100 * own[name].mean():.1f}" for name in ("accuracy", "knn_accuracy"))
            way = f"{100 * own.share_of_the_way.mean():.0f}"
            about = [name.replace("_", " "), str(value or "none")]
            rows.append([*about, *percents, difference, way, str(len(own))])
    return markdown_table(head, rows)


def _where(found: pd.DataFrame, values: dict) -> pd.DataFrame:
    chosen = pd.Series(True, found.index)
    for name, value in values.items():
        chosen &= found[name] == value
    return found[chosen]


def draw(table: Path, figure: Path) -> None:
    """Draw accuracy and the way to the floor for temperature against softness of the teacher."""
    from matplotlib import pyplot as plt

    base = {name: values[0] for name, values in OPTIONS.items() if name not in MAP}
    own = _where(pd.read_csv(table), base)
    _, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    titles = {
        "accuracy": "accuracy of latents, %",
        "share_of_the_way": "way from chance to the floor, %",
    }
    for axis, (name, title) in zip(axes, titles.items(), strict=True):
        values = 100 * own.pivot_table(index=MAP[1], columns=MAP[0], values=name)
        axis.imshow(values, cmap="viridis", aspect="auto")
        for (y, x), value in zip(itertools.product(*map(range, values.shape)), values.to_numpy().ravel(), strict=True):  # fmt: skip
            bright = value > (values.min().min() + values.max().max()) / 2
            axis.text(x, y, f"{value:.1f}", ha="center", va="center", color="black" if bright else "white")  # fmt: skip
        axis.set_xticks(range(values.shape[1]), [f"{value:g}" for value in values.columns])
        axis.set_yticks(
            range(len(values)), [f"{value:g}" if value else "no teacher" for value in values.index]
        )
        axis.set(xlabel="temperature", ylabel="softness of the teacher")
        axis.set_title(title, loc="left")
    plt.savefig(figure, dpi=100)
    plt.close()


def main(arguments: list[str] | None = None) -> int:
    parser = studies.parser_of(__doc__, TABLE, epochs=0, seeds=30)
    parser.add_argument("models", nargs="*", help="folders of finished runs (METHOD/seedN)")
    parser.add_argument("--steps", type=int, default=300, help="of a head")
    parser.add_argument("--figure", type=Path, help="PNG to draw the map to, and stop")
    options = parser.parse_args(arguments)
    if options.figure:
        draw(options.out, options.figure)
        return 0
    if not options.models:
        parser.error("give the folder of a finished run, or --figure")
    table = studies.Tries(options.out, COLUMNS, KEY)
    for model in options.models:
        data, name = None, "/".join(Path(model).absolute().parts[-3:])  # FOLDER/METHOD/seedN
        for seed in studies.seeds_of(options):
            for found in tries():
                key = {"model": name} | found | {"steps": options.steps, "seed": seed}
                if table.has(key):
                    continue
                data = data or features_of(model, options.data_root)
                line = key | try_out(found, data, options.steps, seed)
                table.add(line)
                print({name: line[name] for name in COLUMNS[:-2]}, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
