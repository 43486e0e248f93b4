"""What a folder of runs holds and says of each claim, and other ways to read the same runs.

A way to read is a function from a frame of runs to one whose ``accuracy_last`` is another number.
"""

from pathlib import Path
from typing import NamedTuple

import pandas as pd

from genscl_lessons.report import difference_of, varied
from genscl_lite.datasets.files import as_path
from genscl_lite.runs.claims import labels_said, make_ledger, read_predictions, with_read_out
from genscl_lite.runs.statistics import Interval
from genscl_lite.runs.tables import read_summaries
from genscl_lite.train.methods import METHODS

READ_OUTS = {
    "converged": "one linear probe",
    "sgd": "the first read-out",
}
DATASETS = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "digits": "digits"}


class Book(NamedTuple):
    """Runs of a folder and what they say of each claim."""

    runs: pd.DataFrame
    ledger: pd.DataFrame
    noisy: pd.DataFrame = pd.DataFrame()
    """Runs beside it, trained with wrong labels."""

    @property
    def run(self) -> pd.Series:
        """Return the first run that is no expert's."""
        return with_read_out(self.runs[self.runs.method != "expert"]).iloc[0]

    @property
    def name(self) -> str:
        """Name the data set; where nothing is said of labels, a run had some of them."""
        name = DATASETS.get(self.run.dataset, self.run.dataset)
        return name if self.run.labels_per_class else f"{name}, {labels_said(0)}"

    @property
    def setting(self) -> str:
        """Say what was trained, for how long, and how it was read."""
        few = self.run.labels_per_class
        labels = f", {labels_said(few)}" if few else ""
        return f"{self.name}{labels}, {self.run.epochs} epochs, {READ_OUTS[self.run.read_out]}"

    def claim(self, better: str, worse: str):
        """Return the ledger's row about two rows of the table."""
        [row] = self.ledger[
            (self.ledger.better == better) & (self.ledger.worse == worse)
        ].itertuples()
        return row


def read_book(folder: str | Path) -> Book:
    """Read the runs below a folder, and hold the claims against them."""
    folder = as_path(folder)
    runs = read_summaries(folder)
    ledger = make_ledger(runs, predictions=read_predictions(folder))
    return Book(runs, ledger, varied(folder, "label_noise"))


def by_neighbors(runs: pd.DataFrame) -> pd.DataFrame:
    """Read runs by a vote of nearest neighbors, which old and new ones have in common."""
    runs = runs.dropna(subset="knn_accuracy")
    return runs.assign(accuracy_last=runs.knn_accuracy, read_out="neighbors")


def by_probe(runs: pd.DataFrame) -> pd.DataFrame:
    """Keep the runs that are read by one probe for all rows."""
    return runs[with_read_out(runs).read_out == "converged"]


def by_own_head(runs: pd.DataFrame) -> pd.DataFrame:
    """Read classifiers by the head that they were trained with; the first read-out did so."""
    own = runs.accuracy_last if "head_accuracy" not in runs else runs.head_accuracy
    return runs.assign(accuracy_last=own.fillna(runs.accuracy_last))


def by_search(runs: pd.DataFrame) -> pd.DataFrame:
    """Read runs by how well test images find others of their class: mean average precision."""
    if "mean_average_precision" not in runs:
        return runs[:0]
    return runs.assign(accuracy_last=runs.mean_average_precision)


OWN_HEAD = "by GenSCL's probe against CE's own head"
WAYS = {
    "by the same probe": by_probe,
    OWN_HEAD: by_own_head,
    "by a vote of neighbors": by_neighbors,
    "by a search": by_search,
}


def by_each_way(runs: pd.DataFrame, first: str, second: str) -> dict[str, Interval]:
    """Return the interval of first - second by each of ``WAYS`` that the runs allow; latents have no head of their own."""
    ways = {name: way for name, way in WAYS.items() if len(runs)}
    if not METHODS[second].classifies:
        ways.pop(OWN_HEAD, None)
    found = {name: difference_of(way(runs), first, second) for name, way in ways.items()}
    return {name: interval for name, interval in found.items() if interval}
