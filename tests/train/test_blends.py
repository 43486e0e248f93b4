"""The three numbers of blends against what must come out for spaces built by hand."""

import numpy as np
import pytest
import torch
from torch.nn.functional import one_hot

from genscl_lite import gen_supcon_loss_parts, mixup
from genscl_lite.train.blends import blend_measures, class_shares, share_of_first


@pytest.fixture
def arrays():
    """Forty blends of two of four classes, sixty whole images; latents are made of the labels themselves."""
    draw = torch.Generator().manual_seed(0)
    classes = torch.arange(100) % 4
    labels = one_hot(classes).float()
    _, mixed = mixup(torch.zeros(40, 1, 2, 2), labels[:40], per_image=True, generator=draw)
    made = {"labels": classes, "latents": labels, "mixed_labels": mixed, "mixed_latents": mixed}
    return {name: tensor.numpy() for name, tensor in made.items()}


def test_the_kl_is_the_losss_own(arrays):
    noise = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
    arrays |= {
        "mixed_latents": noise,
        "latents": np.random.default_rng(1).normal(size=(100, 8)).astype(np.float16),
    }
    parts = gen_supcon_loss_parts(
        torch.from_numpy(noise),
        torch.from_numpy(arrays["mixed_labels"]),
        temperature=0.3,
    )
    assert blend_measures(arrays, 0.3)["blend_kl"] == pytest.approx(float(parts.kl), abs=1e-5)


def test_a_classifier_that_predicts_the_label_is_at_no_distance(arrays):
    arrays["mixed_latents"] = np.log(np.maximum(arrays["mixed_labels"], 1e-12))
    found = blend_measures(arrays, None)
    assert found == pytest.approx(
        {"blend_kl": 0, "blend_share_gap": 0, "blend_correlation": 1}, abs=1e-4
    )
    arrays["mixed_latents"] = (
        100 * np.eye(4, dtype=np.float32)[arrays["labels"][:40]]
    )  # surely the first class
    sure = blend_measures(arrays, None)
    assert (
        sure["blend_share_gap"] > 0.2
        and sure["blend_kl"] > 0.1
        and sure["blend_correlation"] is None
    )


def test_shares_of_latents_are_means_over_the_images_of_a_class(arrays):
    shares = class_shares(arrays, 0.5)
    z = arrays["mixed_latents"] / np.linalg.norm(arrays["mixed_latents"], axis=1, keepdims=True)
    by_hand = np.exp(z / 0.5) / np.exp(z / 0.5).sum(
        axis=1, keepdims=True
    )  # all whole latents of a class are e_c
    assert np.allclose(shares, by_hand, atol=1e-6)
    first = torch.from_numpy(arrays["labels"][:40])
    of_labels = share_of_first(
        torch.from_numpy(arrays["mixed_labels"]), torch.from_numpy(arrays["mixed_labels"]), first
    )
    two = (arrays["mixed_labels"] > 0).sum(axis=1) == 2
    assert np.allclose(of_labels, arrays["mixed_labels"][np.arange(40), first][two])
