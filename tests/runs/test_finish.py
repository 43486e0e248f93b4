import dataclasses

import numpy as np
import pytest
from torch import nn
from torch.nn.functional import one_hot

from genscl_lite.datasets import files
from genscl_lite.datasets.files import RunFolderError
from genscl_lite.runs import finish
from genscl_lite.runs.finish import finish_run, probe_run, summarize
from genscl_lite.train.blends import blend_measures
from genscl_lite.train.evaluate import Probe
from genscl_lite.train.loop import pretrain


def test_the_result_is_the_last_epoch_and_not_the_best(quick, digits):
    run = pretrain(quick(), digits)
    sure = one_hot(digits.test_labels, 10).float()
    summary = summarize(run, Probe(nn.Linear(1, 1), sure, accuracy_last=0.8, accuracy_best=0.9), sure, digits)
    assert (summary["accuracy_last"], summary["accuracy_best"], summary["calibration_error"]) == (0.8, 0.9, 0)
    classifier = pretrain(quick("ce"), digits)
    classifier.log[1]["accuracy"] = 0.99
    summary = summarize(classifier, None, sure, digits)
    assert summary["accuracy_last"] == classifier.log[-1]["accuracy"] and summary["accuracy_best"] == 0.99


def test_the_probe_is_of_the_features(quick, digits, monkeypatch):
    run, probed = pretrain(quick(), digits), []
    monkeypatch.setattr(finish, "linear_probe", lambda encoder, *a, **o: probed.append((encoder, o)))
    probe_run(run, digits)
    assert probed[0][0] is run.model.encoder
    assert probed[0][1].items() >= {"epochs": 2, "batch_size": 100, "learning_rate": 1.0}.items()
    assert probe_run(pretrain(quick("ce"), digits), digits) is None


def test_embeddings_are_of_the_same_images_and_mixtures_for_all_methods(quick, digits, tmp_path):
    stored = []
    for method in ("supcon", "ce"):
        finish_run(pretrain(quick(method), digits, tmp_path / method), digits, tmp_path / method)
        stored.append(np.load(tmp_path / method / "embeddings.npz"))
    for name in ("labels", "mixed_labels"):
        assert np.array_equal(stored[0][name], stored[1][name])
    assert stored[0]["latents"].shape == (797, 16) and stored[1]["latents"].shape == (797, 10)
    assert stored[0]["mixed_latents"].shape == (256, 16) and np.allclose(
        stored[0]["mixed_labels"].sum(1), 1, atol=1e-6
    )


def test_a_summary_says_what_becomes_of_blends(quick, digits, tmp_path):
    for method, temperature in (("supcon", 0.1), ("ce", None)):
        summary = finish_run(pretrain(quick(method), digits, tmp_path / method), digits, tmp_path / method)
        stored = dict(np.load(tmp_path / method / "embeddings.npz"))
        assert summary.items() >= blend_measures(stored, temperature).items() and summary["blend_kl"] > 0


def test_predictions_are_those_of_the_accuracy(quick, digits, tmp_path):
    for method in ("supcon", "ce"):
        summary = finish_run(pretrain(quick(method), digits, tmp_path / method), digits, tmp_path / method)
        said = np.load(tmp_path / method / "predictions.npz")
        assert np.array_equal(said["labels"], digits.test_labels) and said["predicted"].dtype == np.uint8
        assert (said["predicted"] == said["labels"]).mean() == pytest.approx(summary["accuracy_last"], abs=1e-12)
        assert 10 <= said["confidence_percent"].min() <= said["confidence_percent"].max() <= 100


def test_a_finished_run_is_read_not_tested_again(quick, digits, tmp_path, monkeypatch):
    run = pretrain(quick(), digits, tmp_path)
    first = finish_run(run, digits, tmp_path)
    monkeypatch.setattr(finish, "probe_run", None)
    assert finish_run(run, digits, tmp_path) == first
    with pytest.raises(RunFolderError, match="another configuration"):
        finish_run(dataclasses.replace(run, config=quick(temperature=0.3)), digits, tmp_path)


def test_nobody_else_works_in_the_folder_while_it_is_tested(quick, digits, tmp_path, monkeypatch):
    def look(run, dataset):
        with pytest.raises(RunFolderError, match="another run"), files.locked(tmp_path):
            pass

    monkeypatch.setattr(finish, "probe_run", look)
    finish_run(pretrain(quick("ce"), digits, tmp_path), digits, tmp_path)
