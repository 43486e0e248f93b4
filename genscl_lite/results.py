"""Result files: what a finished run leaves behind, and the table made of many."""

import math
import platform
import shutil
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torchvision
from torch import Generator

from genscl_lite import runfolder
from genscl_lite.augment import as_unit_float, build_augment
from genscl_lite.config import METHODS
from genscl_lite.data import Dataset
from genscl_lite.evaluation import Probe, expected_calibration_error, extract, linear_probe
from genscl_lite.mixing import mixup
from genscl_lite.runs import Run, is_classifier, kept_parts
from genscl_lite.training import OutOfTime, compiles, precision
from genscl_lite.views import compiled
from genscl_lite.weights import save_weights

PROJECT = Path(__file__).resolve().parents[1]
RESULTS = PROJECT / "data" / "results"
PUBLISHED = PROJECT / "data" / "published.csv"
TABLE_COLUMNS = ("method", "dataset", "arch", "epochs", "seeds", "accuracy_mean", "accuracy_sd", "published", "source", "seconds")
COST_COLUMNS = ("method", "dataset", "arch", "epochs", "seconds", "probe_seconds", "images_per_second", "peak_memory_bytes",
                "device")  # fmt: skip
SUMMARIES = "*/seed*/summary.json"
KEPT_IMAGES, KEPT_MIXTURES = 2000, 256


def finish_run(run: Run, dataset: Dataset, folder: str | Path, *, deadline: float = math.inf) -> dict:
    """Test a trained run by its configuration, write its result files and return its summary; once done, only read it.

    ``accuracy_last`` is the result; ``accuracy_best``, the best seen on the test images, is there for comparison only.

    Raises:
        OutOfTime: the deadline, a time of ``time.monotonic()``, came before the test began.
    """
    with runfolder.locked(folder, wait=5):
        if is_finished(folder, asdict(run.config)):
            return runfolder.read_json(Path(folder) / "summary.json")
        if time.monotonic() > deadline:
            raise OutOfTime("trained, but not tested yet; the same command goes on from there")
        dataset, started = dataset.to(run.device), time.perf_counter()
        probe = probe_run(run, dataset)
        summary = summarize(run, probe, dataset, time.perf_counter() - started)
        runfolder.write_arrays(Path(folder) / "embeddings.npz", **embeddings(run, dataset))
        save_weights(Path(folder) / "model.safetensors", kept_parts(run.result, probe and probe.classifier),
                     config=asdict(run.config), summary=summary, data=describe(dataset))
        runfolder.write_json(Path(folder) / "summary.json", summary)  # last: it marks the run as finished
        return summary


def probe_run(run: Run, dataset: Dataset) -> Probe | None:
    """Train the linear probe the configuration asks for; None for a classifier, which needs none."""
    config = run.config
    if is_classifier(config):
        return None
    return linear_probe(
        compiled(run.result.encoder, compiles(config, run.device)), dataset, build_augment(config.probe_augmentation),
        epochs=config.probe_epochs, batch_size=config.probe_batch_size, learning_rate=config.probe_learning_rate,
        generator=Generator().manual_seed(config.seed), dtype=precision(config, run.device),
    )  # fmt: skip


def describe(dataset: Dataset) -> dict:
    """Return what a model must know of its data set to be used: classes, mean and deviation, and the images' shape."""
    return {
        "name": dataset.name,
        "class_names": [str(name) for name in dataset.class_names],
        "mean": [float(value) for value in dataset.mean],
        "std": [float(value) for value in dataset.std],
        "image_shape": list(dataset.image_shape),
    }


def summarize(run: Run, probe: Probe | None, dataset: Dataset, probe_seconds: float = 0.0) -> dict:
    """Return what ``summary.json`` holds: accuracies are fractions of the test images, seconds those of training."""
    config, last = run.config, run.log[-1]
    if probe is None:
        logits = extract(run.result, dataset, dataset.test_images, dtype=precision(config, run.device))
        accuracies = last["accuracy"], max(row["accuracy"] for row in run.log if row["accuracy"] is not None)
        calibration = expected_calibration_error(logits.softmax(dim=1), dataset.test_labels)
    else:
        accuracies, calibration = (probe.accuracy_last, probe.accuracy_best), probe.calibration_error
    return {
        **{name: getattr(config, name) for name in ("dataset", "labels_per_class", "arch", "method", "seed", "epochs")},
        "accuracy_last": accuracies[0],
        "accuracy_best": accuracies[1],
        "knn_accuracy": last["knn_accuracy"],
        "calibration_error": calibration,
        "seconds": round(run.seconds, 2),
        "probe_seconds": round(probe_seconds, 2),
        "images_per_second": round(float(np.median([row["images_per_second"] for row in run.log])), 1),
        "peak_memory_bytes": run.peak_bytes or None,
        **machine(dataset.train_images.device),
    }


def embeddings(run: Run, dataset: Dataset) -> dict[str, np.ndarray]:
    """Return features, latents and labels of the first test images, and latents of fixed MixUp pairs with their labels.

    The pairs are drawn from a generator of their own, so that all runs of a data set show the same mixtures.
    """
    images = torch.cat(list(dataset.test_images[:KEPT_IMAGES].split(KEPT_MIXTURES)))  # out of their files, if need be
    labels = dataset.test_labels[:KEPT_IMAGES]
    mixtures = min(KEPT_MIXTURES, len(images) // 2)
    one_hot = torch.nn.functional.one_hot(labels[:mixtures], dataset.num_classes).float()
    mixed, mixed_labels = mixup(as_unit_float(images[:mixtures]), one_hot, per_image=True, generator=Generator().manual_seed(0))
    arrays = {
        "features": extract(run.result.encoder, dataset, images).half(),
        "latents": extract(run.result, dataset, images).half(),
        "labels": labels,
        "mixed_latents": extract(run.result, dataset, mixed).half(),
        "mixed_labels": mixed_labels,
    }
    return {name: tensor.cpu().numpy() for name, tensor in arrays.items()}


def machine(device: torch.device) -> dict:
    """Return device, versions and commit, for ``summary.json``."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{cpu_name()}, threads: {torch.get_num_threads()}"
    versions = {"python": platform.python_version(), "torch": torch.__version__, "torchvision": torchvision.__version__}
    try:
        commit = subprocess.run(["git", "-C", PROJECT, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        commit = commit.stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # not a checkout, or no git
        commit = ""
    return {"device": name, "versions": versions, "git_commit": commit}


def cpu_name() -> str:
    """Return the processor's name as Linux tells it, elsewhere as Python does."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def is_finished(folder: str | Path, config: dict) -> bool:
    """Tell whether the folder holds the finished run of this configuration.

    Raises:
        RunFolderError: it holds another configuration.
    """
    folder = Path(folder)
    if (folder / "config.json").exists():
        runfolder.check_same(folder / "config.json", config)
    return (folder / "summary.json").exists()


def read_summaries(folder: str | Path) -> pd.DataFrame:
    """Read every run below ``folder``, METHOD/seedN/summary.json, one row a run, in the order of the methods.

    Raises:
        FileNotFoundError: there is none.
    """
    paths = sorted(Path(folder).glob(SUMMARIES))
    if not paths:
        raise FileNotFoundError(f"{folder}: no finished run (METHOD/seedN/summary.json) in this folder")
    runs = pd.DataFrame([runfolder.read_json(path) for path in paths])
    order = {method: place for place, method in enumerate(METHODS)}
    return runs.sort_values(["method", "seed"], key=lambda column: column.replace(order)).reset_index(drop=True)


def make_table(runs: pd.DataFrame, published: pd.DataFrame | None = None) -> pd.DataFrame:
    """Average runs over seeds: one row a method, with ``TABLE_COLUMNS``; seconds are those of one run's training.

    Accuracies are fractions. The deviation is the sample's (n - 1), missing for one seed. Published numbers are joined
    by data set, architecture and method; ``source`` says where each stands.
    """
    published = pd.read_csv(PUBLISHED) if published is None else published
    keys = ["method", "dataset", "arch", "epochs"]
    table = runs.groupby(keys, sort=False).agg(
        seeds=("seed", "nunique"), accuracy_mean=("accuracy_last", "mean"), accuracy_sd=("accuracy_last", "std"),
        seconds=("seconds", "mean"),
    )  # fmt: skip
    table = table.reset_index().merge(published, how="left", on=["method", "dataset", "arch"])
    return table[list(TABLE_COLUMNS)].round({"accuracy_mean": 4, "accuracy_sd": 4, "seconds": 1})


def make_cost_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Say what a run of each method costs, with ``COST_COLUMNS``: means over seeds; memory is the most of any seed.

    Seconds are those of training; the probe's stand beside them, the teacher's in its own row. Images a second count each
    image once, however many views it has. Memory is a GPU's; on a CPU it is missing.
    """
    keys = ["method", "dataset", "arch", "epochs", "device"]
    table = runs.assign(peak_memory_bytes=runs.peak_memory_bytes.astype(float)).groupby(keys, sort=False).agg(
        seconds=("seconds", "mean"), probe_seconds=("probe_seconds", "mean"), images_per_second=("images_per_second", "mean"),
        peak_memory_bytes=("peak_memory_bytes", "max"),
    )  # fmt: skip
    return table.reset_index()[list(COST_COLUMNS)].round(1)


def write_table(path: str | Path, table: pd.DataFrame) -> None:
    with runfolder.written_whole(path) as temporary:
        table.to_csv(temporary, index=False)


def render_table(table: pd.DataFrame) -> str:
    """Render a table as Markdown, accuracies in percent."""
    lines = ["| method | epochs | seeds | accuracy, % | published, % | seconds a run |", "|---|---|---|---|---|---|"]
    for row in table.itertuples():
        spread = "" if pd.isna(row.accuracy_sd) else f" ± {100 * row.accuracy_sd:.1f}"
        published = "" if pd.isna(row.published) else f"{100 * row.published:.1f} ({row.source})"
        lines.append(f"| {METHODS[row.method].title} | {row.epochs} | {row.seeds} | {100 * row.accuracy_mean:.1f}{spread} "
                     f"| {published} | {row.seconds:.0f} |")
    return "\n".join(lines)


def render_cost_table(table: pd.DataFrame) -> str:
    """Render costs as Markdown, the machines below it."""
    lines = ["| method | encoder | epochs | training, s | probe, s | images/s | peak GPU memory |", "|---" * 7 + "|"]
    for row in table.itertuples():
        memory = "" if pd.isna(row.peak_memory_bytes) else f"{row.peak_memory_bytes / 2**30:.1f} GiB"
        lines.append(f"| {METHODS[row.method].title} | {row.arch} | {row.epochs} | {row.seconds:.0f} | {row.probe_seconds:.0f} "
                     f"| {row.images_per_second:.0f} | {memory} |")
    return "\n".join([*lines, "", f"On {'; '.join(table.device.unique())}."])


def keep_results(runs: str | Path, kept: str | Path) -> None:
    """Copy the small files of finished runs: every summary, and of each method's first seed config, log and embeddings."""
    for summary in sorted(Path(runs).glob(SUMMARIES)):
        names = ["summary.json"]
        if summary.parent == min(summary.parents[1].glob("seed*")):
            names += ["config.json", "log.csv", "embeddings.npz"]
        folder = Path(kept) / summary.relative_to(runs).parent
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            shutil.copyfile(summary.with_name(name), folder / name)
    shutil.copyfile(Path(runs) / "table.csv", Path(kept) / "table.csv")
    write_table(Path(kept) / "cost.csv", make_cost_table(read_summaries(runs)))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m genscl_lite.results RUNS KEPT, for instance runs/digits data/results/digits")
    keep_results(*sys.argv[1:])
