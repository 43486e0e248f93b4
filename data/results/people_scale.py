"""How well do people predict people? A scale for runs that are compared with them, on CIFAR-10H's held-out images.

    python -m genscl_lessons.cifar10h download
    python data/results/people_scale.py

Nothing is trained: it takes seconds, and writes people_scale.csv.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from genscl_lessons.cifar10h import HELD_OUT, read_counts, shares_of, similarity_correlations
from genscl_lite.runs.tables import markdown_table, write_table

TABLE = Path(__file__).with_suffix(".csv")
DIVISIONS = 10
"""So often people are divided at random."""
WHAT = {
    "half": "one half of the people, the other half",
    "averages": "the averages of the classes, on other images",
    "class": "the class alone",
}


def scale(counts: np.ndarray) -> pd.DataFrame:
    """Correlate cosines of pairs of held-out images with those of people's distributions.

    The class of an image is the one that most people chose.

    Args:
        counts: (N, C), how many people chose each class.
    """
    held_out = counts[-HELD_OUT:]
    rows = []
    for seed in range(DIVISIONS):
        rng = np.random.default_rng(seed)
        half = np.stack([rng.multivariate_hypergeometric(row, row.sum() // 2) for row in held_out])
        rows.append(("half", shares_of(half), shares_of(held_out - half)))
    others, classes = counts[:-HELD_OUT], np.eye(counts.shape[1])
    chosen = others.argmax(axis=1)
    averages = np.stack([shares_of(others[chosen == c]).mean(axis=0) for c in range(len(classes))])
    for name, vectors in (("averages", averages), ("class", classes)):
        rows.append((name, vectors[held_out.argmax(axis=1)], shares_of(held_out)))
    return pd.DataFrame(
        {"what": name}
        | similarity_correlations(torch.from_numpy(vectors), torch.from_numpy(people))
        for name, vectors, people in rows
    )


def render(table: Path = TABLE) -> str:
    """Render the scale as Markdown: means over the divisions."""
    means = pd.read_csv(table).groupby("what", sort=False).mean()
    head = ["what predicts people", "`all`", "`between`, Spearman", "`between`, Pearson"]
    rows = [
        [WHAT[name], *("" if np.isnan(value) else f"{value:.2f}" for value in row)]
        for name, row in means.iterrows()
    ]
    return markdown_table(head, rows)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data-root", help="folder of people's answers; default: data")
    parser.add_argument("--out", type=Path, default=TABLE, help="CSV file to write")
    options = parser.parse_args(arguments)
    write_table(options.out, scale(read_counts(options.data_root)))
    print(render(options.out))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
