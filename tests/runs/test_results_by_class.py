"""Results by class, confusions and retrieval, against slow loops."""

import numpy as np
import pytest
import torch

from genscl_lite.datasets import files
from genscl_lite.runs.finish import by_class, finish_run
from genscl_lite.runs.trained import Encoder
from genscl_lite.train import evaluate
from genscl_lite.train.evaluate import (
    classifier_accuracy,
    expected_calibration_error,
    retrieval,
)
from genscl_lite.train.loop import pretrain
from tests import oracle


def test_retrieval_is_what_its_definition_says():
    random = torch.Generator().manual_seed(0)
    features = torch.randn(60, 5, generator=random)
    labels = torch.randint(9, (60,), generator=random)
    labels[0] = 20  # alone in its class
    found = retrieval(features, labels, chunk=7)
    assert np.allclose(list(found.values()), oracle.retrieval(features, labels), atol=1e-6)
    assert found == pytest.approx(retrieval(7 * features, labels))


def test_of_equal_features_none_is_found_first():
    """A collapsed encoder is at chance, however the data set is sorted."""
    labels = torch.arange(1000) // 100
    for features in (torch.ones(1000, 8), torch.zeros(1000, 8)):
        found = retrieval(features, labels)
        assert found["mean_average_precision"] == pytest.approx(0.1, abs=0.02)


def test_many_queries_are_thinned_evenly(monkeypatch):
    monkeypatch.setattr(evaluate, "QUERIES", 10)
    features, labels = torch.eye(40) + 0.01, torch.arange(40) // 2
    features[1::2] = features[::2]  # pairs
    assert retrieval(features, labels) == dict.fromkeys(
        ("recall_at_1", "recall_at_5", "mean_average_precision"), 1.0
    )


def test_without_two_of_a_class_there_is_nothing_to_retrieve():
    found = retrieval(torch.eye(3), torch.arange(3))
    assert list(found.values()) == [None] * 3


@pytest.mark.parametrize("method", ["ce", "genscl_mix"])
def test_a_summary_has_results_by_class(quick, digits, tmp_path, method):
    summary = finish_run(pretrain(quick(method), digits, tmp_path), digits, tmp_path)
    said = np.load(tmp_path / "predictions.npz")
    truth, predicted = said["labels"], said["predicted"]
    for c, name in enumerate(digits.class_names):
        own = summary["by_class"][name]
        assert own["images"] == (truth == c).sum()
        assert own["recall"] == pytest.approx((predicted == c)[truth == c].mean())
        if (predicted == c).any():
            assert own["precision"] == pytest.approx((truth == c)[predicted == c].mean())
        assert summary["confusion"][c] == np.bincount(predicted[truth == c], minlength=10).tolist()
    trace = sum(summary["confusion"][c][c] for c in range(10))
    assert trace / len(truth) == pytest.approx(summary["accuracy_last"])
    assert 0 < summary["mean_average_precision"] < summary["recall_at_5"] <= 1
    assert summary == files.read_json(tmp_path / "summary.json")


def test_a_classifier_that_the_probe_reads_has_its_own_results_beside(quick, digits, tmp_path):
    """They are of its head, which is what predicts for users."""
    config = quick("ce", read_out="converged")
    summary = finish_run(pretrain(config, digits, tmp_path), digits, tmp_path)
    confusion = summary["head"]["confusion"]
    right = sum(confusion[c][c] for c in range(10)) / len(digits.test_labels)
    assert right == pytest.approx(summary["head_accuracy"]) != summary["accuracy_last"]
    said = Encoder.load(tmp_path).probabilities(digits.test_images)
    assert right == pytest.approx(classifier_accuracy(said, digits.test_labels))
    error = expected_calibration_error(said, digits.test_labels)
    assert summary["head"]["calibration_error"] == pytest.approx(error, abs=1e-5)
    assert "head" not in finish_run(
        pretrain(quick("genscl_mix"), digits, tmp_path / "b"), digits, tmp_path / "b"
    )


def test_a_class_that_is_never_said_or_never_there(digits, monkeypatch):
    """Has None for what cannot be known; with many classes there is no matrix."""
    import dataclasses

    data = dataclasses.replace(digits, test_labels=torch.zeros_like(digits.test_labels))
    said = torch.eye(10)[torch.zeros(150, dtype=torch.long)]
    results = by_class(said, data)
    assert results["by_class"]["0"] == {"images": 150, "recall": 1.0, "precision": 1.0}
    assert results["by_class"]["1"] == {"images": 0, "recall": None, "precision": None}
    monkeypatch.setattr("genscl_lite.runs.finish.MOST_CLASSES", 9)
    assert "confusion" not in by_class(said, data)
