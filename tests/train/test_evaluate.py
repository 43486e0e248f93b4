import dataclasses

import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from genscl_lite.distillation import Teacher
from genscl_lite.mixing import MIXINGS, mix
from genscl_lite.runs.finish import encode, probe_run, summarize
from genscl_lite.train.augment import AUGMENTATIONS, Augment, build_augment
from genscl_lite.train.evaluate import (
    classifier_accuracy,
    expected_calibration_error,
    extract,
    knn_accuracy,
    linear_probe,
    retrieval,
)
from genscl_lite.train.loop import pretrain
from tests import oracle

G = torch.Generator().manual_seed(0)


@pytest.mark.parametrize("neighbors, chunk", [(1, 7), (5, 1000), (20, 7)])
def test_knn_equals_scikit_learn(neighbors, chunk):
    train, test = (
        torch.randn(60, 4, generator=G, dtype=torch.float64),
        torch.randn(50, 4, generator=G, dtype=torch.float64),
    )
    labels, truth = torch.randint(3, (60,), generator=G), torch.randint(3, (50,), generator=G)
    ours = knn_accuracy(
        train.float(), labels, test.float(), truth, neighbors=neighbors, chunk=chunk
    )
    theirs = KNeighborsClassifier(
        neighbors,
        metric="cosine",
        algorithm="brute",
        weights=lambda d: torch.exp(-torch.from_numpy(d) / 0.07).numpy(),
    )
    assert ours == theirs.fit(train.numpy(), labels.numpy()).score(test.numpy(), truth.numpy())


@pytest.mark.parametrize(
    "dtype, features",
    [
        (torch.uint8, torch.float16),
        (torch.uint16, torch.bfloat16),
        (torch.int32, torch.float32),
        (torch.uint8, torch.float64),
    ],
)
def test_knn_takes_class_numbers_and_features_of_any_type(dtype, features):
    """Classes need not be on both sides, nor their numbers small: neither costs memory."""
    train, labels = torch.eye(4, dtype=features), torch.tensor([3, 0, 250, 3])
    test, truth = torch.eye(4, dtype=features)[[0, 1, 2, 3, 0]], torch.tensor([3, 0, 1, 3, 9])
    assert knn_accuracy(train, labels.to(dtype), test, truth.to(dtype), neighbors=1) == 3 / 5
    assert knn_accuracy(train, labels * 10**15, test, truth * 10**15, neighbors=1) == 3 / 5


def test_far_neighbors_vote_at_any_temperature():
    """At a cosine of -0.6, exp((cosine - 1) / temperature) would be 0 for all of them: class 0 would always win."""
    train, test = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[-0.8, -0.6], [-0.6, -0.8]])
    for temperature in (0.001, 0.07, 1e-30):
        assert (
            knn_accuracy(train, torch.tensor([2, 5]), test, torch.tensor([5, 2]), 2, temperature)
            == 1.0
        )
    assert knn_accuracy(1e25 * train, torch.tensor([2, 5]), test, torch.tensor([5, 2])) == 1.0


ROWS, NUMBERS = torch.randn(6, 3), torch.arange(6)
BAD = {
    "labels: expected class numbers >= 0, got -1": dict(labels=NUMBERS - 1),
    "test_labels: expected class numbers >= 0, got -1": dict(test_labels=NUMBERS - 1),
    r"labels: expected class numbers \(6,\), got \(6, 1\)": dict(labels=NUMBERS[:, None]),
    "labels: expected 6 rows": dict(labels=NUMBERS[:5]),
    "labels: expected integers as class numbers": dict(labels=NUMBERS.float()),
    "labels: expected a Tensor, got list": dict(labels=[0] * 6),
    "features: expected at least one row": dict(features=ROWS[:0], labels=NUMBERS[:0]),
    "test_features: expected at least one row": dict(
        test_features=ROWS[:0], test_labels=NUMBERS[:0]
    ),
    "test_features: expected latent size 3, got 2": dict(test_features=ROWS[:, :2]),
    "features: holds NaN or infinity in 6 of 6 rows": dict(features=ROWS * float("nan")),
    "neighbors: expected a whole number of at least 1, got 0": dict(neighbors=0),
    "chunk: expected a whole number of at least 1, got 0": dict(chunk=0),
    "temperature: expected a number above 0, got 0": dict(temperature=0),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_neighbors_are_named(message):
    with pytest.raises(ValueError, match=f"^{message}"):
        knn_accuracy(
            **{"features": ROWS, "labels": NUMBERS, "test_features": ROWS, "test_labels": NUMBERS}
            | BAD[message]
        )


@pytest.mark.parametrize(
    "rows, labels, message",
    [
        (
            ROWS.softmax(1) * 3,
            NUMBERS,
            "probabilities: expected distributions, but row 0 sums to 3",
        ),
        (ROWS.softmax(1), NUMBERS[:, None], r"labels: expected class numbers \(6,\), got \(6, 1\)"),
        (ROWS.softmax(1), -NUMBERS, "labels: expected class numbers >= 0, got -5"),
        (ROWS * float("nan"), NUMBERS, "probabilities: holds NaN"),
        (ROWS[:0], NUMBERS[:0], "probabilities: expected at least one row"),
    ],
)
def test_bad_probabilities_are_named(rows, labels, message):
    with pytest.raises(ValueError, match=message):
        expected_calibration_error(rows, labels)
    with pytest.raises(ValueError, match="logits: expected at least one row"):
        classifier_accuracy(ROWS[:0], NUMBERS[:0])
    with pytest.raises(
        ValueError, match="labels: expected class numbers"
    ):  # would be compared all with all
        classifier_accuracy(ROWS, NUMBERS[:, None])


class NoFloat64(TorchDispatchMode):
    """A device without float64, as Apple's is."""

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        made = [tensor for tensor in tree_leaves(result) if isinstance(tensor, torch.Tensor)]
        assert all(tensor.dtype != torch.float64 for tensor in made), function
        return result


@pytest.mark.parametrize("method", ["ce_mix", "simclr", "genscl_mix_kd", "genscl_mix_kd_queue"])
def test_training_and_evaluation_need_no_float64(method, quick, digits):
    teacher = Teacher(nn.Sequential(nn.Flatten(), nn.Linear(64, 10))) if "kd" in method else None
    with NoFloat64():
        config = quick(method, epochs=1, warmup_epochs=0, ema=0.9, read_out="sgd")
        run = pretrain(config, digits, teacher=teacher)
        probe = probe_run(run, digits, encode(run, digits, digits.test_images))
        summary = summarize(run, probe, digits)
        assert 0 <= summary["calibration_error"] <= 1


def test_views_and_mixtures_need_no_float64():
    images, labels = torch.rand(4, 3, 8, 8), torch.eye(4)
    with NoFloat64():
        for mixing in MIXINGS:
            mix(images, labels, mixing=mixing, per_image=True)
        for augment in AUGMENTATIONS.values():
            augment(images)
    with pytest.raises(AssertionError):
        with NoFloat64():
            images.double()


def test_knn_asks_the_training_rows():
    train, test = torch.eye(2), torch.tensor([[1.0, 0.1], [0.1, 1.0]])
    assert knn_accuracy(train, torch.tensor([0, 1]), test, torch.tensor([1, 0]), neighbors=1) == 0.0


def test_knn_with_more_neighbors_than_rows():
    assert (
        knn_accuracy(torch.eye(3), torch.arange(3), torch.eye(3), torch.arange(3), neighbors=200)
        == 1.0
    )


@pytest.mark.parametrize("sharpness", [0.5, 3, 50])
def test_calibration_error_equals_the_loops(sharpness):
    probabilities = (sharpness * torch.randn(200, 4, generator=G, dtype=torch.float64)).softmax(1)
    labels = torch.randint(4, (200,), generator=G)
    expected = oracle.calibration_error(probabilities.tolist(), labels.tolist(), 15)
    assert abs(expected_calibration_error(probabilities, labels) - expected) < 1e-12


def test_a_single_image_finds_nothing():
    assert set(retrieval(torch.ones(1, 3), torch.tensor([0])).values()) == {None}


def test_extract_is_in_evaluation_mode_and_by_parts(digits):
    encoder = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Dropout(0.5)).train()
    before = encoder[1].running_mean.clone()
    parts = extract(encoder, digits, digits.test_images, chunk=100)
    assert torch.equal(parts, extract(encoder, digits, digits.test_images)) and parts.shape == (
        150,
        64,
    )
    assert (
        torch.equal(encoder[1].running_mean, before)
        and encoder.training
        and not parts.requires_grad
    )
    encoder[1].eval()  # frozen, say: each part has its own mode back
    extract(encoder, digits, digits.test_images[:9])
    assert [part.training for part in encoder] == [True, False, True]


def test_the_probe_learns_what_is_linear_and_only_that(digits):
    def separable(images, labels):
        return dataclasses.replace(
            digits, train_images=images, train_labels=labels, test_images=images, test_labels=labels
        )

    labels = torch.arange(10).repeat(20)
    marked = torch.zeros(200, 1, 8, 8, dtype=torch.uint8)
    marked.flatten(1)[torch.arange(200), labels] = 255
    options = {
        "epochs": 20,
        "batch_size": 50,
        "learning_rate": 1.0,
        "generator": torch.Generator().manual_seed(0),
    }
    probe = linear_probe(nn.Flatten(), separable(marked, labels), Augment(), **options)
    assert probe.accuracy_last == probe.accuracy_best == 1.0
    blank = linear_probe(
        nn.Flatten(), separable(torch.zeros_like(marked), labels), Augment(), **options
    )
    assert blank.accuracy_last == 0.1


def test_the_probes_learning_rate_falls_three_times(digits, monkeypatch):
    rates = []
    step = torch.optim.SGD.step
    monkeypatch.setattr(
        torch.optim.SGD,
        "step",
        lambda self, *a: rates.append(self.param_groups[0]["lr"]) or step(self, *a),
    )
    linear_probe(nn.Flatten(), digits, Augment(), epochs=20, batch_size=30, learning_rate=5.0)
    assert torch.allclose(
        torch.tensor(rates), torch.tensor([5.0] * 12 + [1.0] * 3 + [0.2] * 3 + [0.04] * 2)
    )


def test_the_probe_leaves_the_encoder_and_repeats(digits):
    encoder = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 16))
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    first, again = (
        linear_probe(
            encoder,
            digits,
            build_augment("affine"),
            epochs=10,
            batch_size=20,
            learning_rate=0.5,
            generator=torch.Generator().manual_seed(1),
        )
        for _ in range(2)
    )
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())
    assert first.accuracy_last == again.accuracy_last and torch.equal(
        first.classifier.weight, again.classifier.weight
    )
    assert first.accuracy_best >= first.accuracy_last > 0.3
    predicted = first.classifier(extract(encoder, digits, digits.test_images)).argmax(1)
    assert (predicted == digits.test_labels).double().mean() == first.accuracy_last
