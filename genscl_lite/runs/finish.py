"""Result files: what a finished run leaves behind, and the table made of many."""

import math
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Generator

from genscl_lite.datasets import Dataset, files
from genscl_lite.mixing import mixup
from genscl_lite.runs.machine import machine
from genscl_lite.train.augment import as_unit_float, build_augment
from genscl_lite.train.evaluate import Probe, expected_calibration_error, extract, linear_probe
from genscl_lite.train.loop import OutOfTime
from genscl_lite.train.run_folder import is_finished
from genscl_lite.train.state import Run, compiled, is_classifier, kept_parts, precision
from genscl_lite.train.weights import save_weights

KEPT_IMAGES, KEPT_MIXTURES = 2000, 256


def finish_run(run: Run, dataset: Dataset, folder: str | Path, *, deadline: float = math.inf) -> dict:
    """Test a trained run by its configuration, write its result files and return its summary; once done, only read it.

    ``accuracy_last`` is the result; ``accuracy_best``, the best seen on the test images, is there for comparison only.

    Raises:
        OutOfTime: the deadline, a time of ``time.monotonic()``, came before the test began.
    """
    with files.locked(folder, wait=5):
        if is_finished(folder, asdict(run.config)):
            return files.read_json(Path(folder) / "summary.json")
        if time.monotonic() > deadline:
            raise OutOfTime("trained, but not tested yet; the same command goes on from there")
        dataset, started = dataset.to(run.device), time.perf_counter()
        probe = probe_run(run, dataset)
        summary = summarize(run, probe, dataset, time.perf_counter() - started)
        files.write_arrays(Path(folder) / "embeddings.npz", **embeddings(run, dataset))
        save_weights(Path(folder) / "model.safetensors", kept_parts(run.result, probe and probe.classifier),
                     config=asdict(run.config), summary=summary, data=describe(dataset))
        files.write_json(Path(folder) / "summary.json", summary)  # last: it marks the run as finished
        return summary


def probe_run(run: Run, dataset: Dataset) -> Probe | None:
    """Train the linear probe the configuration asks for; None for a classifier, which needs none."""
    config = run.config
    if is_classifier(config):
        return None
    return linear_probe(
        compiled(run.result.encoder, config, run.device), dataset, build_augment(config.probe_augmentation),
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
