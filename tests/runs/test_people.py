"""How near latents lie to what people see, on numbers that can be checked by hand."""

import dataclasses

import pytest
import torch
from scipy.stats import spearmanr
from torch.nn.functional import one_hot

from genscl_lite.datasets import files
from genscl_lite.runs.finish import finish_run
from genscl_lite.runs.people import similarity_correlations
from genscl_lite.train.loop import pretrain


def test_latents_that_are_the_labels_agree_wholly():
    soft = torch.rand(50, 4, generator=torch.Generator().manual_seed(0)).softmax(dim=1)
    assert similarity_correlations(3 * soft, soft) == {"all": 1, "between": 1, "between_pearson": 1}


def test_all_pairs_and_those_between_classes():
    """Two rows of one class and two of another: of six pairs, four lie between."""
    soft = torch.tensor([[1.0, 0, 0], [0.7, 0.3, 0], [0.1, 0.9, 0], [0, 0.8, 0.2]])
    latents = torch.randn(4, 6, generator=torch.Generator().manual_seed(1))
    pairs = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    latent, label = (
        [float(torch.cosine_similarity(x[i], x[j], dim=0)) for i, j in pairs]
        for x in (latents, soft)
    )
    found = similarity_correlations(latents, soft)
    assert found["all"] == pytest.approx(spearmanr(latent, label).statistic, abs=1e-4)
    assert found["between"] == pytest.approx(spearmanr(latent[1:5], label[1:5]).statistic, abs=1e-4)
    pearson = torch.corrcoef(torch.tensor([latent[1:5], label[1:5]]))[0, 1]
    assert found["between_pearson"] == pytest.approx(float(pearson), abs=1e-4)


def test_classes_told_apart_agree_over_all_pairs_and_say_nothing_between():
    soft = torch.tensor([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8], [0.1, 0.9], [0.3, 0.7]])
    found = similarity_correlations(one_hot(soft.argmax(dim=1), 2).float(), soft)
    assert found["all"] > 0.8 and found["between"] is found["between_pearson"] is None


def test_pairs_of_a_single_class_say_nothing():
    assert set(similarity_correlations(torch.eye(3), torch.ones(3, 1)).values()) == {None}


@pytest.mark.parametrize("method", ["supcon", "ce"])
def test_a_finished_run_says_how_it_compares(method, quick, digits, tmp_path):
    soft = 0.9 * one_hot(digits.test_labels, 10).float() + 0.01
    data = dataclasses.replace(
        digits, held_out_images=digits.test_images[:60], held_out_distributions=soft[:60]
    )
    finish_run(pretrain(quick(method), data, tmp_path), data, tmp_path)
    found = files.read_json(tmp_path / "summary.json")["people"]
    assert found["images"] == 60 and found["entropy"] == pytest.approx(0.5003, abs=1e-3)
    assert found["cross_entropy"] > found["entropy"]
    for space in ("features", "outputs"):
        assert (
            set(found[space]) == {"all", "between", "between_pearson"}
            and abs(found[space]["all"]) <= 1
        )


def test_nothing_is_said_without_people(quick, digits, tmp_path):
    assert "people" not in finish_run(pretrain(quick(), digits, tmp_path), digits, tmp_path)
