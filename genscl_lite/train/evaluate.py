"""How good is a representation: linear probe on frozen features, kNN, accuracy and calibration."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from genscl_lite._checks import (
    check_labels,
    check_rows,
    require_instances,
    require_positive,
    require_whole,
)
from genscl_lite.datasets import Dataset
from genscl_lite.datasets.images import ImageFiles
from genscl_lite.distillation import evaluation_mode
from genscl_lite.losses import unit_rows
from genscl_lite.train import memory
from genscl_lite.train.augment import Augment, as_unit_float
from genscl_lite.train.precision import autocast

FEATURES_HELD = 2**16  # images whose features the linear probe holds at once


@dataclass(frozen=True)
class Probe:
    """A linear classifier on frozen features and how it did on the test images (fractions in [0, 1])."""

    classifier: nn.Linear
    probabilities: Tensor  # (T, C): what it says of each test image
    accuracy_last: float  # converged, or after the last epoch: the result
    # the best epoch on the test images, only to compare with work that reports it; None: no epochs
    accuracy_best: float | None = None


@torch.no_grad()
def extract(
    module: nn.Module,
    dataset: Dataset,
    images: Tensor | ImageFiles,
    chunk: int | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    augment: Augment | None = None,
    generator: Generator | None = None,
) -> Tensor:
    """Pass images through a module in evaluation mode.

    Args:
        module: from normalized images to (N, F).
        dataset: knows how to normalize.
        images: (N, channels, H, W) uint8, or floating point in [0, 1]; or images in files.
        chunk: images at a time; None: as many of ``memory.PIECES`` as memory suffices for.
        dtype: bfloat16: autocast to it; the (N, F) returned are float32.
        augment: passes a random view of each image instead, drawn from ``generator``.
    """
    if chunk is None:
        state = generator and generator.get_state()

        def in_pieces_of(number: int) -> Tensor:
            if generator:
                generator.set_state(state)
            options = {"dtype": dtype, "augment": augment, "generator": generator}
            return extract(module, dataset, images, number, **options)

        return memory.in_pieces(in_pieces_of, images.device)
    views, outputs = map(as_unit_float, images.split(chunk)), []
    if augment:
        views = _views(images, chunk, augment, generator)
    with evaluation_mode(module):
        for part in views:
            part = dataset.normalize(part).contiguous(memory_format=torch.channels_last)
            with autocast(dtype, part.device):
                outputs.append(module(part).float())
    return torch.cat(outputs)


def _views(
    images: Tensor | ImageFiles, chunk: int, augment: Augment, generator: Generator | None
) -> Iterator[Tensor]:
    """Give one random view of each image, (chunk, channels, H, W) at a time."""
    uniforms = augment.draw(len(images), generator).to(images.device).split(chunk, dim=1)
    if isinstance(images, Tensor):
        parts = images.split(chunk)
    else:
        seed = int(torch.randint(2**31, (), generator=generator))
        order = torch.arange(len(images)).split(chunk)
        geometry = {"scale": augment.crop_scale, "ratio": augment.crop_ratio}
        crops = images.random_crops(order, seed=seed, epoch=0, views=1, **geometry)
        parts, augment = (views[0] for views in crops), augment.without_crop()
    for part, drawn in zip(parts, uniforms, strict=True):
        yield augment.apply(part, drawn)


def linear_probe(
    encoder: nn.Module,
    dataset: Dataset,
    augment: Augment,
    *,
    epochs: int = 100,
    batch_size: int = 512,
    learning_rate: float = 5.0,
    generator: Generator | None = None,
    dtype: torch.dtype = torch.float32,
) -> Probe:
    """Train a linear classifier on the frozen features of augmented training images, and test it.

    The protocol of SupContrast and GenSCL v1: SGD with momentum 0.9, no weight decay, learning rate times 0.2
    after 60, 75 and 90 % of the epochs. The features are the encoder's, not the head's.

    Differs: the result is the last epoch; the reference code reports the best on the test images.

    Args:
        encoder: module from normalized images to (N, F), used in evaluation mode.
        dataset: on the encoder's device.
        augment: of the training images, anew in each epoch.
        epochs, batch_size, learning_rate: of the probe.
        generator: source of order, augmentation and first weights.
        dtype: of features (bfloat16: autocast); the classifier is trained in float32.

    >>> from genscl_lite.datasets import load_dataset
    >>> digits = load_dataset("digits")
    >>> probe = linear_probe(nn.Flatten(), digits, Augment(), epochs=5, batch_size=100, learning_rate=0.1)
    >>> probe.accuracy_last > 0.8
    True
    """
    device = dataset.train_images.device
    test = extract(encoder, dataset, dataset.test_images, dtype=dtype)
    classifier = nn.Linear(test.shape[1], dataset.num_classes).to(device)
    bound = test.shape[1] ** -0.5
    with torch.no_grad():
        classifier.weight.copy_(
            bound * (2 * torch.rand(classifier.weight.shape, generator=generator) - 1)
        )
        classifier.bias.zero_()
    optimizer = torch.optim.SGD(classifier.parameters(), lr=learning_rate, momentum=0.9)
    milestones = [round(epochs * share) for share in (0.6, 0.75, 0.9)]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, gamma=0.2)
    accuracies = []
    for _ in range(epochs):
        order = torch.randperm(len(dataset.train_labels), generator=generator).to(device)
        for indices in order.split(max(1, FEATURES_HELD // batch_size) * batch_size):
            # the encoder does not change, so the features of many batches can be had at once
            features = extract(
                encoder,
                dataset,
                dataset.train_images[indices],
                dtype=dtype,
                augment=augment,
                generator=generator,
            )
            labels = dataset.train_labels[indices]
            for x, y in zip(features.split(batch_size), labels.split(batch_size), strict=True):
                loss = F.cross_entropy(classifier(x), y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        schedule.step()
        accuracies.append(classifier_accuracy(classifier(test), dataset.test_labels))
    return Probe(
        classifier, classifier(test).softmax(dim=1).detach(), accuracies[-1], max(accuracies)
    )


@torch.no_grad()
def knn_accuracy(
    features: Tensor,
    labels: Tensor,
    test_features: Tensor,
    test_labels: Tensor,
    neighbors: int = 200,
    temperature: float = 0.07,
    chunk: int = 1000,
) -> float:
    """Let the nearest training images of each test image vote on its class; return the share that is right.

    Neighbors by cosine; a vote weighs exp(cosine / temperature) (arXiv 1805.01978). By hand, on the
    features' device, ``chunk`` test images at a time.

    Args:
        features, labels: (N, F) and (N,) class numbers.
        test_features, test_labels: (T, F) and (T,).
        neighbors: k; at most N are used.

    >>> knn_accuracy(torch.eye(3), torch.arange(3), torch.eye(3), torch.tensor([0, 1, 1]), neighbors=1)
    0.6666666666666666
    """
    _check_rows(features=features, labels=labels)
    _check_rows(features, test_features=test_features, test_labels=test_labels)
    require_whole("neighbors", neighbors)
    require_whole("chunk", chunk)
    require_positive("temperature", temperature)
    dtype = torch.promote_types(features.dtype, torch.float32)
    features, test_features = unit_rows(features, dtype), unit_rows(test_features, dtype)
    (classes, place), right = labels.long().unique(return_inverse=True), 0  # those of the voters
    for part, truth in zip(
        test_features.split(chunk), test_labels.long().split(chunk), strict=True
    ):
        k = min(neighbors, len(features))
        cosine, nearest = (part @ features.T).topk(k, dim=1)  # (chunk, k)
        votes = torch.zeros(len(part), len(classes), dtype=dtype, device=part.device)
        votes.scatter_add_(1, place[nearest], ((cosine - cosine[:, :1]) / temperature).exp())
        right += int((classes[votes.argmax(dim=1)] == truth).sum())
    return right / len(test_labels)


QUERIES = 2000


@torch.no_grad()
def retrieval(features: Tensor, labels: Tensor, chunk: int = 100) -> dict[str, float | None]:
    """Let images look for others of their class, nearest by cosine first.

    Recall at k is the share of queries with one of their class among the first k; average precision is the
    mean of the precisions at each place where one stands. Queries are all images that have another of their
    class; of more than ``QUERIES`` that many, evenly spaced. Each looks among all others, shuffled, so that of
    images with one and the same cosine those that the data set lists first are not found first.

    Args:
        features, labels: (N, F) and (N,) class numbers.
        chunk: queries at a time.

    Returns:
        recall_at_1, recall_at_5 and mean_average_precision, fractions; None if no class has two images.

    >>> retrieval(torch.tensor([[1.0, 0], [0.9, 0.1], [0.5, 0.5], [0, 1.0]]), torch.tensor([0, 0, 1, 1]))
    {'recall_at_1': 0.75, 'recall_at_5': 1.0, 'mean_average_precision': 0.833...}
    """
    _check_rows(features=features, labels=labels)
    require_whole("chunk", chunk)
    features = unit_rows(features, torch.promote_types(features.dtype, torch.float32))
    queries = (labels.long().bincount()[labels.long()] > 1).nonzero()[:, 0]
    names = "recall_at_1", "recall_at_5", "mean_average_precision"
    if not len(queries):
        return dict.fromkeys(names)
    queries = queries[:: -(-len(queries) // QUERIES)]
    shuffled = torch.randperm(len(labels), generator=Generator().manual_seed(0)).to(labels.device)
    gallery, gallery_labels, own_place = features[shuffled], labels[shuffled], shuffled.argsort()
    totals = torch.zeros(3)
    for part in queries.split(chunk):
        cosine = features[part] @ gallery.T  # (n, N)
        cosine.scatter_(1, own_place[part, None], -torch.inf)  # itself stands last
        order = cosine.argsort(dim=1, descending=True, stable=True)[:, :-1]
        hits = (gallery_labels[order] == labels[part, None]).float()
        places = torch.arange(1, hits.shape[1] + 1, device=hits.device)
        precision = (hits * hits.cumsum(dim=1) / places).sum(dim=1) / hits.sum(dim=1)
        found = hits[:, 0].sum(), hits[:, :5].amax(dim=1).sum(), precision.sum()
        totals += torch.stack(found).cpu()
    return dict(zip(names, (totals / len(queries)).tolist(), strict=True))


def classifier_accuracy(logits: Tensor, labels: Tensor) -> float:
    """Return the share of images whose largest of C logits is at the label.

    >>> classifier_accuracy(torch.tensor([[0.1, 0.9], [0.8, 0.2]]), torch.tensor([1, 1]))
    0.5
    """
    _check_rows(validate=False, logits=logits, labels=labels)
    return int((logits.argmax(dim=1) == labels.long()).sum()) / len(labels)


def expected_calibration_error(probabilities: Tensor, labels: Tensor, bins: int = 15) -> float:
    """Return the mean gap, in [0, 1], of confidence and accuracy over bins of equal width (arXiv 1706.04599).

    ``probabilities`` are (N, C), rows summing to 1; ``labels`` (N,) class numbers. Summed on the host, in
    Python's precision, as not every device has float64.

    >>> expected_calibration_error(torch.tensor([[0.75, 0.25]] * 4), torch.tensor([0, 0, 0, 1]))
    0.0
    """
    _check_rows(probabilities=probabilities, labels=labels)
    check_labels("probabilities", probabilities, len(labels))
    require_whole("bins", bins)
    confidence, predicted = probabilities.max(dim=1)
    gaps = [0.0] * bins
    for share, right in zip(
        confidence.tolist(), (predicted == labels.long()).tolist(), strict=True
    ):
        gaps[min(max(math.ceil(share * bins), 1), bins) - 1] += share - right
    return sum(map(abs, gaps)) / len(labels)


def _check_rows(like: Tensor | None = None, validate: bool = True, **pair: Tensor) -> None:
    """Raise ValueError unless the pair is (N, F) floating point, F that of ``like``, and (N,) integers."""
    require_instances(Tensor, **pair)
    (name, rows), (label_name, labels) = pair.items()
    check_rows(name, rows, like, validate)
    if labels.ndim != 1:
        raise ValueError(
            f"{label_name}: expected class numbers ({len(rows)},), got {tuple(labels.shape)}"
        )
    check_labels(label_name, labels, len(rows), validate)
