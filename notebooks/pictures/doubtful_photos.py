"""``python notebooks/pictures/doubtful_photos.py FOLDER RUN``: ask a classifier about photographs in doubt.

FOLDER holds the files of CIFAR-10, RUN is the folder of a finished classifier on it, such as ce_mix/seed0.
Its answers become a picture and a table, which are committed: the course must run without the photographs.
"""

import sys
from pathlib import Path

import pandas as pd

from genscl_lessons.figures.digits import show_label_bars
from genscl_lessons.plots import set_style
from genscl_lite.datasets import load_dataset
from genscl_lite.runs.trained import Encoder
from genscl_lite.train.augment import as_unit_float

PHOTOGRAPHS = [103, 3343, 275, 5426, 12]
"""Cats and dogs, by their numbers among the test images."""

if __name__ == "__main__":
    cifar, teacher = load_dataset("cifar10", sys.argv[1]), Encoder.load(sys.argv[2], device="cpu")
    photographs = as_unit_float(cifar.test_images[PHOTOGRAPHS])
    said = teacher.probabilities(photographs).numpy()
    names = list(cifar.class_names)
    out = Path(__file__)
    table = pd.DataFrame(said, index=pd.Index(PHOTOGRAPHS, name="photograph"), columns=names)
    table.round(3).to_csv(out.with_suffix(".csv"))
    set_style()
    titles = [f"number {k}\n{names[cifar.test_labels[k]]}" for k in PHOTOGRAPHS]
    axes = show_label_bars(photographs.numpy(), {"teacher": said}, titles, named=0.2, names=names)
    axes[0, 0].figure.savefig(out.with_suffix(".png"), dpi=100)
    print(
        f"{teacher.config.method}, {100 * teacher.summary['accuracy_last']:.1f} % of the test images right"
    )
    print(table.round(2))
