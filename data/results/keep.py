"""``python data/results/keep.py runs/digits data/results/digits``: copy the small files of finished runs."""

import argparse
import shutil
import sys
from pathlib import Path

import pandas as pd

from genscl_lessons.costs import make_cost_table
from genscl_lite.datasets import files
from genscl_lite.runs.tables import read_summaries, run_files, write_table


def keep_results(runs: str | Path, kept: str | Path, embeddings: bool = True) -> None:
    """Copy summaries and predictions; of each method's first seed also config, log and embeddings.

    Of another seed's log, the epochs are kept in which an accuracy was measured.
    """
    runs, kept = files.as_path(runs), files.as_path(kept)
    costs = make_cost_table(read_summaries(runs))
    first = {}
    for method, seed, summary in run_files(runs, "summary.json"):
        names = ["summary.json"]
        if summary.with_name("predictions.npz").exists():
            names.append("predictions.npz")
        if first.setdefault(method, seed) == seed:
            names += ["config.json", "log.csv"] + ["embeddings.npz"] * embeddings
        folder = kept / summary.relative_to(runs).parent
        folder.mkdir(parents=True, exist_ok=True)
        if "log.csv" not in names and summary.with_name("log.csv").exists():
            log = pd.read_csv(summary.with_name("log.csv"))
            measured = log[["knn_accuracy", "accuracy"]].notna().any(axis=1)
            write_table(folder / "log.csv", log[measured])
        for name in names:
            shutil.copyfile(summary.with_name(name), folder / name)
    shutil.copyfile(runs / "table.csv", kept / "table.csv")
    write_table(kept / "cost.csv", costs)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Copy the small files of finished runs.")
    parser.add_argument("runs", help="folder of METHOD/seedN runs, for instance runs/digits")
    parser.add_argument("kept", help="folder to copy to, for instance data/results/digits")
    parser.add_argument(
        "--no-embeddings", action="store_true", help="leave out what notebook 10 draws"
    )
    options = parser.parse_args(arguments)
    try:
        keep_results(options.runs, options.kept, embeddings=not options.no_embeddings)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
