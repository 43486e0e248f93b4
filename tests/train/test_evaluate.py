import dataclasses

import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

from genscl_lite.train.augment import Augment, build_augment
from genscl_lite.train.evaluate import expected_calibration_error, extract, knn_accuracy, linear_probe
from tests import oracle

G = torch.Generator().manual_seed(0)


@pytest.mark.parametrize("chunk", [7, 1000])
@pytest.mark.parametrize("neighbours", [1, 5, 20])
def test_knn_equals_scikit_learn(chunk, neighbours):
    train, test = torch.randn(60, 4, generator=G, dtype=torch.float64), torch.randn(50, 4, generator=G, dtype=torch.float64)
    labels, truth = torch.randint(3, (60,), generator=G), torch.randint(3, (50,), generator=G)
    ours = knn_accuracy(train.float(), labels, test.float(), truth, neighbours=neighbours, chunk=chunk)
    theirs = KNeighborsClassifier(neighbours, metric="cosine", algorithm="brute",
                                  weights=lambda d: torch.exp(-torch.from_numpy(d) / 0.07).numpy())
    assert ours == theirs.fit(train.numpy(), labels.numpy()).score(test.numpy(), truth.numpy())


def test_knn_asks_the_training_rows():
    train, test = torch.eye(2), torch.tensor([[1.0, 0.1], [0.1, 1.0]])
    assert knn_accuracy(train, torch.tensor([0, 1]), test, torch.tensor([1, 0]), neighbours=1) == 0.0


def test_knn_with_more_neighbours_than_rows():
    assert knn_accuracy(torch.eye(3), torch.arange(3), torch.eye(3), torch.arange(3), neighbours=200) == 1.0


@pytest.mark.parametrize("sharpness", [0.5, 3, 50])
def test_calibration_error_equals_the_loops(sharpness):
    probabilities = (sharpness * torch.randn(200, 4, generator=G, dtype=torch.float64)).softmax(1)
    labels = torch.randint(4, (200,), generator=G)
    expected = oracle.calibration_error(probabilities.tolist(), labels.tolist(), 15)
    assert abs(expected_calibration_error(probabilities, labels) - expected) < 1e-12


def test_extract_is_in_evaluation_mode_and_by_parts(digits):
    encoder = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Dropout(0.5)).train()
    before = encoder[1].running_mean.clone()
    parts = extract(encoder, digits, digits.test_images, chunk=100)
    assert torch.equal(parts, extract(encoder, digits, digits.test_images)) and parts.shape == (797, 64)
    assert torch.equal(encoder[1].running_mean, before) and encoder.training and not parts.requires_grad


def test_the_probe_learns_what_is_linear_and_only_that(digits):
    def separable(images, labels):
        return dataclasses.replace(digits, train_images=images, train_labels=labels, test_images=images, test_labels=labels)

    labels = torch.arange(10).repeat(20)
    marked = torch.zeros(200, 1, 8, 8, dtype=torch.uint8)
    marked.flatten(1)[torch.arange(200), labels] = 255
    options = {"epochs": 20, "batch_size": 50, "learning_rate": 1.0, "generator": torch.Generator().manual_seed(0)}
    probe = linear_probe(nn.Flatten(), separable(marked, labels), Augment(), **options)
    assert probe.accuracy_last == probe.accuracy_best == 1.0
    blank = linear_probe(nn.Flatten(), separable(torch.zeros_like(marked), labels), Augment(), **options)
    assert blank.accuracy_last == 0.1


def test_the_probes_learning_rate_falls_three_times(digits, monkeypatch):
    rates = []
    step = torch.optim.SGD.step
    monkeypatch.setattr(torch.optim.SGD, "step", lambda self, *a: rates.append(self.param_groups[0]["lr"]) or step(self, *a))
    linear_probe(nn.Flatten(), digits, Augment(), epochs=20, batch_size=30, learning_rate=5.0)
    assert torch.allclose(torch.tensor(rates), torch.tensor([5.0] * 12 + [1.0] * 3 + [0.2] * 3 + [0.04] * 2))


def test_the_probe_leaves_the_encoder_and_repeats(digits):
    encoder = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 16))
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    first, again = (linear_probe(encoder, digits, build_augment("affine"), epochs=10, batch_size=20, learning_rate=0.5,
                                 generator=torch.Generator().manual_seed(1)) for _ in range(2))
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())
    assert first.accuracy_last == again.accuracy_last and torch.equal(first.classifier.weight, again.classifier.weight)
    assert first.accuracy_best >= first.accuracy_last > 0.3
    predicted = first.classifier(extract(encoder, digits, digits.test_images)).argmax(1)
    assert (predicted == digits.test_labels).double().mean() == first.accuracy_last
