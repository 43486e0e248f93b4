"""``python notebooks/experiments/train_all.py``: run the experiments of notebooks 01, 04 and 05 at all their settings.

Each notebook lets its reader turn one dial; what we found at all settings lies in a CSV beside this file, a
line for each training. It is made by the notebook's own functions: the cells tagged ``experiment`` are
executed first, then the settings are run here. Five minutes on a quiet core.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import pandas as pd

FOLDER = Path(__file__).parent
TAUS = 0.02, 0.05, 0.1, 0.3, 1.0, 3.0
WAYS = {"off": 0.0, "half": 0.5, "on": 1.0}  # of notebook 04: share of the images that is mixed


def names_of(notebook: str, **parameters) -> dict:
    """Execute the cells of a notebook that are tagged ``experiment``; return the names they define."""
    cells = json.loads((FOLDER.parent / f"{notebook}.ipynb").read_text(encoding="utf-8"))["cells"]
    names: dict = {}
    for cell in cells:
        tags = cell["metadata"].get("tags", [])
        if "experiment" in tags:
            exec("".join(cell["source"]), names)
            if "parameters" in tags:
                names |= parameters
    return names


def temperatures(seeds: int = 2) -> Iterator[dict]:
    """Train notebook 01's network at each temperature."""
    for seed in range(seeds):
        names = names_of("01_binary_supcon", seed=seed)
        few, classes, labels = names["few"], names["classes"], names["train_labels"]
        seen = names["torch"].isin(few.test_labels, classes)
        seen_labels = few.test_labels[seen]
        same = seen_labels[:, None] == seen_labels
        for tau in TAUS:
            encoder, head, history = names["train"](tau)
            known, test = (
                names["both_layers"](encoder, head, images)
                for images in (names["train_images"], few.test_images[seen])
            )
            cosine = test["latents"] @ test["latents"].T
            knn = names["knn_accuracy"](
                known["features"], labels, test["features"], seen_labels, neighbors=5
            )
            yield {
                "tau": tau,
                "seed": seed,
                "between": cosine[~same].mean().item(),
                "within": cosine[same.fill_diagonal_(False)].mean().item(),
                "knn": 100 * knn,
                "loss": history[-1],
            }


def mixing(seeds: int = 4) -> Iterator[dict]:
    """Train notebook 04's network with mixing off, half and on, in a short and a longer training."""
    train = names_of("04_mixup_cutmix")["train"]
    for seed in range(seeds):
        for steps in (100, 400):
            for way, share in WAYS.items():
                knn = train(seed, share, steps=steps)
                yield {"seed": seed, "steps": steps, "way": way, "knn": knn}


def wrong_labels(seeds: int = 4) -> Iterator[dict]:
    """Train notebook 05's teachers and students on labels of which a part is wrong."""
    names = names_of("05_distillation")
    for fraction in (0.2, 0.4):
        for seed in range(seeds):
            learned = names["learn_wrong_labels"](fraction, seed)
            sure = names["learn_wrong_labels"](fraction, seed, "ce")
            truth, repeats = names["on_the_wrong_ones"](*learned)
            yield {
                "fraction": fraction,
                "seed": seed,
                "names_truth": truth,
                "repeats": repeats,
                "repeats_whole_images": names["on_the_wrong_ones"](*sure)[1],
            } | names["students_of"](*learned)


if __name__ == "__main__":
    matplotlib.use("agg")
    asked = sys.argv[1:] or ["temperatures", "mixing", "wrong_labels"]
    for name in asked:
        rows = []
        for row in globals()[name]():
            rows.append(row)
            table = pd.DataFrame(rows).round(3)
            table.to_csv(FOLDER / f"{name}.csv", index=False, lineterminator="\n")
