"""Test a trained run and write what it leaves: summary, predictions, weights, embeddings of some images."""

import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import confusion_matrix
from torch import Generator, Tensor
from torch.nn.functional import one_hot

from genscl_lite.datasets import Dataset, files
from genscl_lite.datasets.images import ImageFiles
from genscl_lite.mixing import Mixture, blend
from genscl_lite.runs.machine import describe_machine
from genscl_lite.train.augment import as_unit_float, build_augment
from genscl_lite.train.blends import blend_measures
from genscl_lite.train.corruptions import CORRUPTIONS
from genscl_lite.train.evaluate import (
    Probe,
    classifier_accuracy,
    expected_calibration_error,
    extract,
    linear_probe,
    retrieval,
)
from genscl_lite.train.methods import METHODS
from genscl_lite.train.read_out import fit_read_out
from genscl_lite.train.run_folder import is_finished
from genscl_lite.train.state import Run, compiled, kept_parts
from genscl_lite.train.weights import save_weights

KEPT_IMAGES, KEPT_MIXTURES = 2000, 256
MOST_CLASSES = 100
"""With more, ``summary.json`` has no matrix of confusions; ``predictions.npz`` has what it is made of."""


def finish_run(run: Run, dataset: Dataset, folder: str | Path) -> dict:
    """Test a trained run, write its result files and return its summary; if that is done, only read it.

    ``accuracy_last`` is the result; ``accuracy_best``, chosen by test images, is there for comparison only.
    """
    folder = files.as_path(folder)
    with files.locked(folder, wait=5):
        if is_finished(folder, run.config):
            return files.read_json(folder / "summary.json")
        dataset, started = dataset.to(run.device), time.perf_counter()
        features = encode(run, dataset, dataset.test_images)
        probe = probe_run(run, dataset, features)
        summary = summarize(run, probe, dataset, time.perf_counter() - started)
        summary |= corrupted_accuracies(run, probe, dataset)
        summary |= retrieval(features, dataset.test_labels)
        summary |= by_class(probe.probabilities, dataset)
        files.write_arrays(folder / "predictions.npz", **predictions(probe.probabilities, dataset))
        arrays = embeddings(run, dataset)
        files.write_arrays(folder / "embeddings.npz", **arrays)
        classifies = METHODS[run.config.method].classifies
        summary |= blend_measures(arrays, None if classifies else run.config.temperature)
        if classifies and run.config.read_out == "converged":
            summary["head"] = of_head(run, features, dataset)
        parts = kept_parts(run.result, None if classifies else probe.classifier)
        about = {"config": asdict(run.config), "summary": summary, "data": describe(dataset)}
        save_weights(folder / "model.safetensors", parts, **about)
        files.write_json(folder / "summary.json", summary)  # last: it marks the run as finished
        return summary


def encode(run: Run, dataset: Dataset, images: Tensor | ImageFiles) -> Tensor:
    """Return (N, F) features of images, as the log's accuracies are measured by."""
    return extract(compiled(run.result.encoder, run.compiles), dataset, images, dtype=run.dtype)


def probe_run(run: Run, dataset: Dataset, features: Tensor) -> Probe:
    """Read the encoder out as the configuration asks for; ``features`` (T, F) are those of the test images."""
    config = run.config
    if config.read_out == "converged":
        train = encode(run, dataset, dataset.train_images)
        layer = fit_read_out(train, dataset.train_labels, dataset.num_classes, config.seed)
        logits = layer(features).detach()
        accuracy = classifier_accuracy(logits, dataset.test_labels)
        return Probe(layer, logits.softmax(dim=1), accuracy)
    if METHODS[config.method].classifies:  # by its own head, as in SupContrast
        accuracies = [row["accuracy"] for row in run.log if row["accuracy"] is not None]
        probabilities = run.result.head(features).softmax(dim=1).detach()
        return Probe(run.result.head, probabilities, run.log[-1]["accuracy"], max(accuracies))
    return linear_probe(
        compiled(run.result.encoder, run.compiles),
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
    channels = dataset.image_shape[0]
    mean, std = (list(v) * (channels if len(v) == 1 else 1) for v in (dataset.mean, dataset.std))
    return {
        "name": dataset.name,
        "class_names": list(dataset.class_names),
        "mean": mean,
        "std": std,
        "image_shape": list(dataset.image_shape),
        "intensity": dataset.intensity and list(dataset.intensity),
        "tests": dataset.sides[1],
    }


def corrupted_accuracies(run: Run, probe: Probe, dataset: Dataset) -> dict[str, float]:
    """Return how accurate the same classifier is on worse copies of the test images."""
    right = dict.fromkeys(CORRUPTIONS, 0)
    pieces = zip(dataset.test_images.split(1000), dataset.test_labels.split(1000), strict=True)
    for images, labels in pieces:
        for name, corrupt in CORRUPTIONS.items():
            worse = corrupt(as_unit_float(images))
            features = extract(run.result.encoder, dataset, worse, dtype=run.dtype)
            right[name] += int((probe.classifier(features).argmax(dim=1) == labels).sum())
    return {f"accuracy_{name}": count / len(dataset.test_labels) for name, count in right.items()}


def by_class(probabilities: Tensor, dataset: Dataset) -> dict[str, object]:
    """Return each class's images, recall and precision; up to ``MOST_CLASSES`` all counts, too."""
    truth, predicted = dataset.test_labels.cpu(), probabilities.argmax(dim=1).cpu()
    right, there, named = (
        part.bincount(minlength=dataset.num_classes).tolist()
        for part in (truth[truth == predicted], truth, predicted)
    )
    results = {
        name: {
            "images": there[c],
            "recall": right[c] / there[c] if there[c] else None,
            "precision": right[c] / named[c] if named[c] else None,
        }
        for c, name in enumerate(dataset.class_names)
    }
    if dataset.num_classes > MOST_CLASSES:
        return {"by_class": results}
    counts = confusion_matrix(truth, predicted, labels=range(dataset.num_classes))
    return {"by_class": results, "confusion": counts.tolist()}


def of_head(run: Run, features: Tensor, dataset: Dataset) -> dict[str, object]:
    """Return what a classifier's own head, which predicts for users, makes of (T, F) features of the test images."""
    probabilities = run.result.head(features).softmax(dim=1).detach()
    error = expected_calibration_error(probabilities, dataset.test_labels)
    return {"calibration_error": error, **by_class(probabilities, dataset)}


def predictions(probabilities: Tensor, dataset: Dataset) -> dict[str, np.ndarray]:
    """Return of each test image, in as few bytes as do: its label, the predicted class, and its probability in percent."""
    classes = np.min_scalar_type(dataset.num_classes - 1)
    confidence, predicted = (part.cpu().numpy() for part in probabilities.max(dim=1))
    return {
        "labels": dataset.test_labels.cpu().numpy().astype(classes),
        "predicted": predicted.astype(classes),
        "confidence_percent": np.rint(100 * confidence).astype(np.uint8),
    }


def summarize(
    run: Run,
    probe: Probe,
    dataset: Dataset,
    probe_seconds: float = 0.0,
) -> dict:
    """Return what ``summary.json`` holds; accuracies are fractions, seconds those of training."""
    config, last_epoch = run.config, run.log[-1]
    described = ("dataset", "labels_per_class", "label_noise", "arch", "method", "seed", "epochs")
    return {
        **{name: getattr(config, name) for name in described},
        "accuracy_last": probe.accuracy_last,
        "accuracy_best": probe.accuracy_best,
        "read_out": config.read_out,
        "knn_accuracy": last_epoch["knn_accuracy"],
        "head_accuracy": last_epoch["accuracy"],
        "calibration_error": expected_calibration_error(probe.probabilities, dataset.test_labels),
        "precision": run.precision,
        "seconds": round(run.seconds, 2),
        "cpu_seconds": round(run.cpu_seconds, 2),
        "probe_seconds": round(probe_seconds, 2),
        "images_per_second": round(
            float(np.median([epoch["images_per_second"] for epoch in run.log])), 1
        ),
        "peak_memory_bytes": run.peak_bytes or None,
        **describe_machine(dataset.train_images.device),
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
    features = extract(run.result.encoder, dataset, images)
    arrays = {
        "features": features.half(),
        "latents": run.result.head(features).detach().half(),
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
