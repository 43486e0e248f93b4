import dataclasses

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import one_hot

from genscl_lite.datasets import files
from genscl_lite.datasets.files import RunFolderError
from genscl_lite.runs import finish
from genscl_lite.runs.finish import encode, finish_run, probe_run, summarize
from genscl_lite.train.blends import blend_measures
from genscl_lite.train.corruptions import add_noise, blur
from genscl_lite.train.evaluate import Probe, classifier_accuracy, extract
from genscl_lite.train.loop import pretrain
from genscl_lite.train.read_out import fit_read_out


def probed(run, data):
    return probe_run(run, data, encode(run, data, data.test_images))


def test_the_result_is_the_last_epoch_and_not_the_best(quick, digits):
    run = pretrain(quick(), digits)
    sure = one_hot(digits.test_labels, 10).float()
    summary = summarize(run, Probe(nn.Linear(1, 1), sure, 0.8, accuracy_best=0.9), digits)
    assert (summary["accuracy_last"], summary["accuracy_best"], summary["calibration_error"]) == (
        0.8,
        0.9,
        0,
    )
    classifier = pretrain(quick("ce", read_out="sgd"), digits)
    classifier.log[1]["accuracy"] = 0.99
    summary = summarize(classifier, probed(classifier, digits), digits)
    assert (
        summary["accuracy_last"] == classifier.log[-1]["accuracy"]
        and summary["accuracy_best"] == 0.99
    )


def test_supcontrasts_probe_is_trained_as_published(quick, digits, monkeypatch):
    run, asked = pretrain(quick(read_out="sgd"), digits), []
    monkeypatch.setattr(finish, "linear_probe", lambda encoder, *a, **o: asked.append((encoder, o)))
    probed(run, digits)
    assert asked[0][0] is run.model.encoder
    assert asked[0][1].items() >= {"epochs": 2, "batch_size": 100, "learning_rate": 1.0}.items()
    classifier = pretrain(quick("ce", read_out="sgd"), digits)
    assert probed(classifier, digits).classifier is classifier.model.head and len(asked) == 1


@pytest.mark.parametrize("method", ["ce", "supcon"])
def test_all_rows_are_read_out_alike(method, quick, digits):
    run = pretrain(quick(method), digits)
    probe = probed(run, digits)
    train, test = (
        extract(run.model.encoder, digits, images)
        for images in (digits.train_images, digits.test_images)
    )
    logits = fit_read_out(train, digits.train_labels, 10)(test)
    assert torch.allclose(probe.probabilities, logits.softmax(dim=1), atol=1e-5)
    assert probe.accuracy_last == classifier_accuracy(logits, digits.test_labels)


def test_embeddings_are_of_the_same_images_and_mixtures_for_all_methods(quick, digits, tmp_path):
    stored = []
    for method in ("supcon", "ce"):
        finish_run(pretrain(quick(method), digits, tmp_path / method), digits, tmp_path / method)
        stored.append(np.load(tmp_path / method / "embeddings.npz"))
    for name in ("labels", "mixed_labels"):
        assert np.array_equal(stored[0][name], stored[1][name])
    assert stored[0]["latents"].shape == (150, 16) and stored[1]["latents"].shape == (150, 10)
    assert stored[0]["mixed_latents"].shape == (75, 16) and np.allclose(
        stored[0]["mixed_labels"].sum(1), 1, atol=1e-6
    )


def test_a_summary_says_what_becomes_of_blends(quick, digits, tmp_path):
    for method, temperature in (("supcon", 0.1), ("ce", None)):
        summary = finish_run(
            pretrain(quick(method), digits, tmp_path / method), digits, tmp_path / method
        )
        stored = dict(np.load(tmp_path / method / "embeddings.npz"))
        assert (
            summary.items() >= blend_measures(stored, temperature).items()
            and summary["blend_kl"] > 0
        )


def test_predictions_are_those_of_the_accuracy(quick, digits, tmp_path):
    for method in ("supcon", "ce"):
        summary = finish_run(
            pretrain(quick(method), digits, tmp_path / method), digits, tmp_path / method
        )
        said = np.load(tmp_path / method / "predictions.npz")
        assert (
            np.array_equal(said["labels"], digits.test_labels)
            and said["predicted"].dtype == np.uint8
        )
        assert (said["predicted"] == said["labels"]).mean() == pytest.approx(
            summary["accuracy_last"], abs=1e-12
        )
        assert 10 <= said["confidence_percent"].min() <= said["confidence_percent"].max() <= 100


def test_a_classifier_in_bfloat16_says_what_the_log_was_told(quick, digits):
    run = pretrain(quick("ce", precision="bfloat16", read_out="sgd"), digits)
    features = extract(run.result.encoder, digits, digits.test_images, dtype=torch.bfloat16)
    assert torch.equal(probed(run, digits).probabilities, run.result.head(features).softmax(dim=1))


def test_worse_images_are_tested_by_the_same_classifier(quick, digits, monkeypatch):
    """Where a corruption changes nothing, the accuracy is that of the run; blank images are all of one class."""
    monkeypatch.setattr(
        finish, "CORRUPTIONS", {"none": lambda images: images, "blank": lambda images: 0 * images}
    )
    for method in ("supcon", "ce"):
        run = pretrain(quick(method), digits)
        probe = probed(run, digits)
        worse = finish.corrupted_accuracies(run, probe, digits)
        assert worse["accuracy_none"] == summarize(run, probe, digits)["accuracy_last"]
        assert round(150 * worse["accuracy_blank"]) in digits.test_labels.bincount().tolist()


def test_blur_is_binomial_and_noise_has_its_deviation():
    point = torch.zeros(1, 3, 8, 8)
    point[0, :, 0, 4] = 1
    down, across = (
        torch.tensor([0.75, 0.25]),
        torch.tensor([0.25, 0.5, 0.25]),
    )  # the edge is repeated
    assert torch.allclose(blur(point)[0, :, :2, 3:6], (down[:, None] * across).expand(3, 2, 3))
    gray = torch.full((100, 1, 8, 8), 0.5)
    assert abs((add_noise(gray) - gray).std() - 0.1) < 0.005 and torch.equal(
        add_noise(gray), add_noise(gray)
    )
    assert add_noise(torch.ones(9, 1, 8, 8)).max() == 1


def test_a_finished_run_is_read_not_tested_again(quick, digits, tmp_path, monkeypatch):
    run = pretrain(quick(), digits, tmp_path)
    first = finish_run(run, digits, tmp_path)
    monkeypatch.setattr(finish, "probe_run", None)
    assert finish_run(run, digits, tmp_path) == first
    with pytest.raises(RunFolderError, match="another configuration"):
        finish_run(dataclasses.replace(run, config=quick(temperature=0.3)), digits, tmp_path)


def test_nobody_else_works_in_the_folder_while_it_is_tested(quick, digits, tmp_path, monkeypatch):
    def look(*words):
        with pytest.raises(RunFolderError, match="another run"), files.locked(tmp_path):
            pass
        return probe_run(*words)

    monkeypatch.setattr(finish, "probe_run", look)
    finish_run(pretrain(quick("ce"), digits, tmp_path), digits, tmp_path)
