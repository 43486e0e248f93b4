"""Where labels have something in common: CIFAR-100 with its superclasses, 80 classes trained, 20 never seen.

    python data/results/superclasses.py                                  # a look: 20 epochs, one seed
    python data/results/superclasses.py --epochs 80 --seeds 3 --test     # the verdict, on test images

One class of each of the 20 superclasses is left out. Rows: SupCon; GenSCL with a similarity of classes
(``within`` a superclass 0.05, 0.1, 0.3); cross-entropy, and cross-entropy on the very shares that this similarity
asks for; each with mixing and without. Measured: accuracy of classes and of superclasses, how severe mistakes are,
and how well images of classes never seen find each other, by features and by latents.
"""

import dataclasses
import json
import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import studies
import torch
import torch.nn.functional as F
from torch import Tensor

from genscl_lite import ClassSimilarity, gen_supcon_loss, superclass_similarity
from genscl_lite.datasets import Dataset, load_dataset
from genscl_lite.datasets.builtin import check_cifar
from genscl_lite.runs.tables import markdown_table
from genscl_lite.train.evaluate import extract, knn_accuracy, retrieval
from genscl_lite.train.methods import METHODS
from genscl_lite.train.read_out import fit_read_out
from genscl_lite.train.state import Run

TABLE = Path(__file__).with_name("superclasses.csv")
KEY = ("preset", "row", "within", "mixing", "labels_per_class", "images", "epochs", "seed")
MEASURES = ("fine", "fine_knn", "coarse", "severity", "unseen_recall_at_1", "unseen_map", "latent_recall_at_1",
            "latent_map")  # fmt: skip
COLUMNS = (*KEY, *MEASURES, "cpu_seconds", "machine", "config")
WITHIN = (0.05, 0.1, 0.3)
ROWS = [(row, 0.0) for row in ("supcon", "ce")] + [(row, w) for w in WITHIN for row in ("genscl", "ce_soft")]  # fmt: skip
METHOD = {"supcon": "supcon", "genscl": "supcon", "ce": "ce", "ce_soft": "ce"}
TITLES = {
    "supcon": "SupCon",
    "genscl": "GenSCL, class similarity",
    "ce": "CE",
    "ce_soft": "CE on the same shares",
}
UNSEEN_IMAGES = 3000


@dataclasses.dataclass
class Split:
    """What is trained and tested on, and the images of classes that training never sees."""

    dataset: Dataset  # of the classes seen
    groups: Tensor  # (classes seen,) superclass of each
    unseen_images: Tensor
    unseen_labels: Tensor


def coarse_labels(root: str | None) -> list[int]:
    """Return the superclass of each of CIFAR-100's 100 classes, from its own file."""
    with (check_cifar("cifar100", root) / "train").open("rb") as file:
        found = pickle.load(file, encoding="latin1")
    pairs = dict(zip(found["fine_labels"], found["coarse_labels"], strict=True))
    return [pairs[label] for label in range(len(pairs))]


def leave_out(groups: list[int], seed: int) -> list[int]:
    """Return one class of each superclass, drawn by the seed."""
    generator = torch.Generator().manual_seed(seed)
    left_out = []
    for group in sorted(set(groups)):
        members = [label for label, own in enumerate(groups) if own == group]
        left_out.append(members[int(torch.randint(len(members), (), generator=generator))])
    return left_out


def split(labels_per_class: int, seed: int, root: str | None, test: bool) -> Split:
    """Split the classes and their images; ``test``: measure on test images, else on validation images.

    Which classes are never seen does not change with the seed, which decides the labeled images.
    """
    groups = coarse_labels(root)
    unseen = torch.tensor(leave_out(groups, seed=0))
    seen = torch.tensor([label for label in range(len(groups)) if label not in unseen.tolist()])
    if test:
        whole = load_dataset("cifar100", root, labels_per_class, seed)
    else:
        whole = studies.validation_split(labels_per_class, seed, root, "cifar100")
    place = torch.full((len(groups),), -1)
    place[seen] = torch.arange(len(seen))
    train, tested = place[whole.train_labels] >= 0, place[whole.test_labels] >= 0
    dataset = dataclasses.replace(
        whole,
        train_images=whole.train_images[train],
        train_labels=place[whole.train_labels[train]],
        test_images=whole.test_images[tested],
        test_labels=place[whole.test_labels[tested]],
        class_names=tuple(whole.class_names[label] for label in seen.tolist()),
    )
    return Split(
        dataset,
        torch.tensor(groups)[seen],
        whole.test_images[~tested][:UNSEEN_IMAGES],
        whole.test_labels[~tested][:UNSEEN_IMAGES],
    )


def loss_of(row: str, within: float, groups: Tensor) -> Callable | None:
    """Return the loss of a row; None: the method's own."""
    if row == "genscl":
        similarity = ClassSimilarity(superclass_similarity(groups, within))
        return lambda latents, labels, temperature: gen_supcon_loss(
            latents, labels, temperature=temperature, similarity=similarity, validate=False
        )
    if row == "ce_soft":
        shares = F.normalize(superclass_similarity(groups, within), p=1, dim=1)
        return lambda logits, labels, temperature: F.cross_entropy(logits, labels @ shares)
    return None


def searched(features: Tensor, labels: Tensor) -> tuple[float, float]:
    """Return recall at 1 and mean average precision of each image's search among all others."""
    found = retrieval(features, labels)
    return found["recall_at_1"], found["mean_average_precision"]


def measure(run: Run, data: Split) -> dict:
    """Return ``MEASURES`` of a run.

    ``severity`` is the mean height of the lowest common ancestor of what was said and what is right, over
    mistakes alone: 1 within a superclass, 2 between two.
    """
    dataset, encoder = data.dataset, run.result.encoder
    train, test, unseen = (
        extract(encoder, dataset, images, dtype=run.dtype)
        for images in (dataset.train_images, dataset.test_images, data.unseen_images)
    )
    layer = fit_read_out(train, dataset.train_labels, dataset.num_classes, run.config.seed)
    said, truth = layer(test).argmax(dim=1), dataset.test_labels
    wrong, related = said != truth, data.groups[said] == data.groups[truth]
    pair = dataset.train_labels, test, truth
    by_features = searched(unseen, data.unseen_labels)
    by_latents = None, None
    if not METHODS[run.config.method].classifies:
        latents = run.result.head(unseen).detach()
        by_latents = searched(latents, data.unseen_labels)
    found = (
        float((~wrong).float().mean()),
        knn_accuracy(train, *pair, run.config.knn_neighbors),
        float(related.float().mean()),
        float(2 - related[wrong].float().mean()) if wrong.any() else None,
        *by_features,
        *by_latents,
    )
    return dict(zip(MEASURES, found, strict=True))


def try_out(key: dict, data: Split) -> dict:
    """Train one row and measure it."""
    method = METHOD[key["row"]] if not key["mixing"] else {"supcon": "genscl_mix", "ce": "ce_mix"}[METHOD[key["row"]]]  # fmt: skip
    changes = {"labels_per_class": key["labels_per_class"]}
    config = studies.settings(method, changes, key["epochs"], key["seed"], key["preset"])
    loss = loss_of(key["row"], key["within"], data.groups)
    run = studies.train(config, data.dataset, loss=loss)
    return measure(run, data) | studies.cost(run) | {"config": studies.described(config)}


SHOWN = {
    "fine": "fine, %",
    "coarse": "coarse, %",
    "severity": "severity",
    "unseen_recall_at_1": "unseen: recall at 1, %",
    "unseen_map": "unseen: mean average precision, %",
    "latent_map": "by latents, %",
}
WHERE = {"test": "test images", "validation": "validation images"}
DIFFERENCES = (("supcon", "ce"), ("genscl", "supcon"), ("genscl", "ce"), ("genscl", "ce_soft"), ("ce_soft", "ce"))  # fmt: skip
"""Rows that are subtracted, seed by seed; those with a similarity at the same one."""


def render(table: Path = TABLE) -> str:
    """Render all measures as Markdown, means over seeds with 95 % intervals of t; of test images differences, too."""
    tries = pd.read_csv(table)
    parts = []
    for images, own in tries.groupby("images"):
        parts += [f"On {WHERE[images]}:", measures_table(own)]
        if images == "test":
            note = "The same as differences, seed by seed, not corrected for their number:"
            parts += [note, differences_table(own)]
    return "\n\n".join(parts)


def measures_table(tries: pd.DataFrame) -> str:
    rows = []
    by = ["row", "within", "mixing", "labels_per_class", "epochs"]
    for (row, within, mixing, labels, epochs), own in tries.groupby(by, sort=False):
        title = "GenSCL" if row == "supcon" and mixing else TITLES[row]
        about = [title, str(within or ""), "yes" if mixing else "no", str(labels), str(epochs)]
        rows.append([*about, *(_with_interval(own[name], name) for name in SHOWN), str(len(own))])
    head = ["row", "within", "mixing", "labels a class", "epochs", *SHOWN.values(), "seeds"]
    return markdown_table(head, rows)


def differences_table(tries: pd.DataFrame) -> str:
    rows, names = [], list(SHOWN)
    for (mixing, labels, epochs), runs in tries.groupby(["mixing", "labels_per_class", "epochs"]):
        of = {key: own.set_index("seed")[names] for key, own in runs.groupby(["row", "within"])}
        for one, other in DIFFERENCES:
            for (first, within), own in of.items():
                theirs = of.get((other, within), of.get((other, 0.0)))
                if first != one or theirs is None:
                    continue
                difference = (own - theirs).dropna(how="all")
                title = f"{TITLES[one]}{f' {within}' if within else ''} minus {TITLES[other]}"
                about = [title, "yes" if mixing else "no", str(labels), str(epochs)]
                cells = [_with_interval(difference[name], name, "+") for name in names]
                rows.append([*about, *cells, str(len(difference))])
    head = ["difference", "mixing", "labels a class", "epochs", *SHOWN.values(), "seeds"]
    return markdown_table(head, rows)


def _with_interval(values: pd.Series, name: str, sign: str = "") -> str:
    factor, digits = (1, 2) if name == "severity" else (100, 1)
    return studies.with_interval(factor * values.dropna(), f"{sign}.{digits}f")


def main(arguments: list[str] | None = None) -> int:
    parser = studies.parser_of(__doc__, TABLE, epochs=20, seeds=1, preset="cifar100_small")
    parser.add_argument("--labels-per-class", type=int, default=100)
    parser.add_argument("--only", action="append", choices=METHOD, help="this row; may be repeated")
    parser.add_argument(
        "--within", action="append", type=float, help="this similarity; may be repeated"
    )
    parser.add_argument("--mixing", choices=["with", "without", "both"], default="both")
    parser.add_argument(
        "--test", action="store_true", help="measure on test images, once all is chosen"
    )
    options = parser.parse_args(arguments)
    table = studies.Tries(options.out, COLUMNS, KEY)
    rows = ROWS if not options.within else [(r, 0.0) for r in ("supcon", "ce")] + [(r, w) for w in options.within for r in ("genscl", "ce_soft")]  # fmt: skip
    mixings = {"with": [1], "without": [0], "both": [0, 1]}[options.mixing]
    for seed in studies.seeds_of(options):
        data = None
        for row, within in rows:
            for mixing in mixings:
                values = (options.preset, row, within, mixing, options.labels_per_class,
                          "test" if options.test else "validation", options.epochs, seed)  # fmt: skip
                key = dict(zip(KEY, values, strict=True))
                if (options.only and row not in options.only) or table.has(key):
                    continue
                data = data or split(
                    options.labels_per_class, seed, options.data_root, options.test
                )
                found = key | try_out(key, data)
                table.add(found)
                print(json.dumps({name: found[name] for name in (*KEY, *MEASURES)}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
