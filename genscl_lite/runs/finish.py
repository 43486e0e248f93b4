"""Test a trained run and write what it leaves: summary, predictions, weights, embeddings of some images."""

import math
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn.functional import one_hot

from genscl_lite.datasets import Dataset, files
from genscl_lite.mixing import Mixture, blend
from genscl_lite.runs.machine import machine
from genscl_lite.train.augment import as_unit_float, build_augment
from genscl_lite.train.blends import blend_measures
from genscl_lite.train.corruptions import CORRUPTIONS
from genscl_lite.train.evaluate import (
    Probe,
    classifier_accuracy,
    confusion_matrix,
    expected_calibration_error,
    extract,
    linear_probe,
    retrieval,
)
from genscl_lite.train.read_out import fit_read_out
from genscl_lite.train.run_folder import is_finished
from genscl_lite.train.state import Run, compiled, is_classifier, kept_parts
from genscl_lite.train.weights import save_weights

KEPT_IMAGES, KEPT_MIXTURES = 2000, 256
MOST_CLASSES = 100
"""With more, ``summary.json`` has no matrix of confusions; ``predictions.npz`` has what it is made of."""


def finish_run(run: Run, dataset: Dataset, folder: str | Path) -> dict:
    """Test a trained run, write its result files and return its summary; where that is done, only read it.

    ``accuracy_last`` is the result; ``accuracy_best``, chosen by test images, is there for comparison only.
    """
    folder = files.as_path(folder)
    with files.locked(folder, wait=5):
        if is_finished(folder, asdict(run.config)):
            return files.read_json(folder / "summary.json")
        dataset, started = dataset.to(run.device), time.perf_counter()
        probe = probe_run(run, dataset)
        said = probe.probabilities if probe else class_probabilities(run, dataset)
        summary = summarize(run, probe, said, dataset, time.perf_counter() - started)
        summary |= corrupted_accuracies(run, probe, dataset)
        summary |= retrieved(run, dataset) | by_class(said, dataset)
        files.write_arrays(folder / "predictions.npz", **predictions(said, dataset))
        arrays = embeddings(run, dataset)
        files.write_arrays(folder / "embeddings.npz", **arrays)
        classifies = is_classifier(run.config)
        summary |= blend_measures(arrays, None if classifies else run.config.temperature)
        parts = kept_parts(run.result, None if classifies else probe.classifier)
        about = {"config": asdict(run.config), "summary": summary, "data": describe(dataset)}
        save_weights(folder / "model.safetensors", parts, **about)
        files.write_json(folder / "summary.json", summary)  # last: it marks the run as finished
        return summary


def probe_run(run: Run, dataset: Dataset) -> Probe | None:
    """Read features out as the configuration asks for; None: a classifier that is read by its own head."""
    config, encoder = run.config, compiled(run.result.encoder, run.compiles)
    if config.read_out == "converged":
        train, test = (
            extract(encoder, dataset, images, dtype=run.dtype)
            for images in (dataset.train_images, dataset.test_images)
        )
        layer = fit_read_out(train, dataset.train_labels, dataset.num_classes, config.seed)
        logits = layer(test).detach()
        accuracy = classifier_accuracy(logits, dataset.test_labels)
        return Probe(layer, logits.softmax(dim=1), accuracy)
    if is_classifier(config):
        return None
    return linear_probe(
        encoder,
        dataset,
        build_augment(config.probe_augmentation),
        epochs=config.probe_epochs,
        batch_size=config.probe_batch_size,
        learning_rate=config.probe_learning_rate,
        dtype=run.dtype,
        generator=Generator().manual_seed(config.seed),
    )


def describe(dataset: Dataset) -> dict:
    """Return what a model must know of its data: classes, mean and deviation, shape and intensity."""
    mean, std = ([float(value) for value in values] for values in (dataset.mean, dataset.std))
    class_names = [str(name) for name in dataset.class_names]
    return {
        "name": dataset.name,
        "class_names": class_names,
        "mean": mean,
        "std": std,
        "image_shape": list(dataset.image_shape),
        "intensity": dataset.intensity and list(dataset.intensity),
    }


def class_probabilities(run: Run, dataset: Dataset) -> Tensor:
    """Return the (T, C) probabilities a classifier gives of the test images, as for the log's accuracy."""
    features = extract(run.result.encoder, dataset, dataset.test_images, dtype=run.dtype)
    return run.result.head(features).softmax(dim=1).detach()


def corrupted_accuracies(run: Run, probe: Probe | None, dataset: Dataset) -> dict[str, float]:
    """Return how accurate the same classifier is on worse copies of the test images."""
    right = dict.fromkeys(CORRUPTIONS, 0)
    pieces = zip(dataset.test_images.split(1000), dataset.test_labels.split(1000), strict=True)
    for images, labels in pieces:
        for name, corrupt in CORRUPTIONS.items():
            worse = corrupt(as_unit_float(images))
            features = extract(run.result.encoder, dataset, worse, dtype=run.dtype)
            logits = (probe.classifier if probe else run.result.head)(features)
            right[name] += int((logits.argmax(dim=1) == labels).sum())
    return {f"accuracy_{name}": count / len(dataset.test_labels) for name, count in right.items()}


def retrieved(run: Run, dataset: Dataset) -> dict[str, float | None]:
    """Return how well test images find others of their class; None where no class has two."""
    features = extract(run.result.encoder, dataset, dataset.test_images, dtype=run.dtype)
    found = retrieval(features, dataset.test_labels)
    return {name: None if math.isnan(value) else value for name, value in found.items()}


def by_class(probabilities: Tensor, dataset: Dataset) -> dict[str, object]:
    """Return each class's images, recall and precision; up to ``MOST_CLASSES`` all counts, too."""
    predicted, classes = probabilities.argmax(dim=1), dataset.num_classes
    counts = confusion_matrix(predicted, dataset.test_labels, classes).cpu()
    right, there, said = counts.diag().tolist(), counts.sum(1).tolist(), counts.sum(0).tolist()
    results = {
        str(name): {
            "images": there[c],
            "recall": right[c] / there[c] if there[c] else None,
            "precision": right[c] / said[c] if said[c] else None,
        }
        for c, name in enumerate(dataset.class_names)
    }
    few = classes <= MOST_CLASSES
    return {"by_class": results} | ({"confusion": counts.tolist()} if few else {})


def predictions(probabilities: Tensor, dataset: Dataset) -> dict[str, np.ndarray]:
    """Return of each test image, in bytes: its label, the class said, and how surely, in percent."""
    classes = np.uint8 if dataset.num_classes <= 256 else np.uint16
    confidence, predicted = (part.cpu().numpy() for part in probabilities.max(dim=1))
    return {
        "labels": dataset.test_labels.cpu().numpy().astype(classes),
        "predicted": predicted.astype(classes),
        "confidence_percent": np.rint(100 * confidence).astype(np.uint8),
    }


def summarize(
    run: Run,
    probe: Probe | None,
    probabilities: Tensor,
    dataset: Dataset,
    probe_seconds: float = 0.0,
) -> dict:
    """Return what ``summary.json`` holds; accuracies are fractions, seconds those of training."""
    config, last_epoch = run.config, run.log[-1]
    if probe:
        accuracy_last, accuracy_best = probe.accuracy_last, probe.accuracy_best
    else:  # by its own head, as in SupContrast
        accuracy_last = last_epoch["accuracy"]
        accuracy_best = max(epoch["accuracy"] for epoch in run.log if epoch["accuracy"] is not None)
    described = ("dataset", "labels_per_class", "label_noise", "arch", "method", "seed", "epochs")
    return {
        **{name: getattr(config, name) for name in described},
        "accuracy_last": accuracy_last,
        "accuracy_best": accuracy_best,
        "read_out": config.read_out,
        "knn_accuracy": last_epoch["knn_accuracy"],
        "head_accuracy": last_epoch["accuracy"],
        "calibration_error": expected_calibration_error(probabilities, dataset.test_labels),
        "precision": run.precision,
        "seconds": round(run.seconds, 2),
        "cpu_seconds": round(run.cpu_seconds, 2),
        "probe_seconds": round(probe_seconds, 2),
        "images_per_second": round(
            float(np.median([epoch["images_per_second"] for epoch in run.log])), 1
        ),
        "peak_memory_bytes": run.peak_bytes or None,
        **machine(dataset.train_images.device),
    }


def embeddings(run: Run, dataset: Dataset) -> dict[str, np.ndarray]:
    """Return features, latents and labels of the first test images; latents and labels of MixUp pairs."""
    images = torch.cat(
        list(dataset.test_images[:KEPT_IMAGES].split(KEPT_MIXTURES))
    )  # out of files too
    labels = dataset.test_labels[:KEPT_IMAGES]
    mixtures = min(KEPT_MIXTURES, len(images) // 2)
    pairs = (
        as_unit_float(images[:mixtures]),
        one_hot(labels[:mixtures], dataset.num_classes).float(),
    )
    mixed, mixed_labels = fixed_blends(*pairs)
    arrays = {
        "features": extract(run.result.encoder, dataset, images).half(),
        "latents": extract(run.result, dataset, images).half(),
        "labels": labels,
        "mixed_latents": extract(run.result, dataset, mixed).half(),
        "mixed_labels": mixed_labels,
    }
    return {name: tensor.cpu().numpy() for name, tensor in arrays.items()}


def fixed_blends(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Blend (N, ...) images and (N, C) labels by the one MixUp that all runs, also stored ones, are measured by."""
    generator, count = Generator().manual_seed(0), len(images)
    seed = torch.randint(2**62, (), generator=generator).item()
    lam = torch.from_numpy(np.random.default_rng(seed).beta(1.0, 1.0, count).astype(np.float32))
    nowhere = torch.zeros(count, dtype=torch.long)
    partner = torch.randperm(count, generator=generator)
    mixture = Mixture(lam, nowhere, nowhere, nowhere > 0, partner)
    return blend(images, labels, Mixture(*(part.to(images.device) for part in mixture)))
