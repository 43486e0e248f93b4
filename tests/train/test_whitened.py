import dataclasses

import pytest
import torch
import torch.nn.functional as F

from genscl_lite.train.loop import pretrain
from genscl_lite.train.networks import build_encoder
from genscl_lite.train.state import new_model
from genscl_lite.train.weights import load_weights, save_weights
from genscl_lite.train.whitened import WhitenedConvNet, Whitening


def correlated_images(count=200, channels=3, seed=0):
    """Images whose neighboring pixels and channels are alike, as in photographs."""
    noise = torch.randn(count, channels, 10, 10, generator=torch.Generator().manual_seed(seed))
    smooth = F.avg_pool2d(noise, 3, stride=1) + 0.5 * noise[:, :1, 1:-1, 1:-1]
    return smooth + 0.05 * noise[:, :, :-2, :-2]


@pytest.mark.parametrize("channels", [1, 3])
def test_whitened_patches_are_uncorrelated_and_of_unit_variance(channels):
    images = correlated_images(channels=channels)
    layer = Whitening(channels, eps=0.0).fit(images)
    responses = (
        layer(images).transpose(0, 1).flatten(1)[: 4 * channels]
    )  # the other half is minus these
    covariance = torch.cov(responses)
    assert torch.allclose(covariance, torch.eye(4 * channels), atol=1e-3)


def test_filters_come_in_pairs_of_opposite_sign():
    weight = Whitening(3).fit(correlated_images()).weight
    assert torch.equal(weight[:12], -weight[12:])


def test_the_fit_does_not_depend_on_threads_or_a_rerun():
    images = correlated_images()
    assert torch.equal(Whitening(3).fit(images).weight, Whitening(3).fit(images).weight)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(5, 3, 8, 8), "constant"),
        (torch.full((5, 3, 8, 8), 0.3), "constant"),
        (torch.rand(5, 3, 1, 1), "at least 2 x 2 pixels, got 1 x 1"),
    ],
)
def test_images_that_cannot_be_whitened_are_named(images, message):
    with pytest.raises(ValueError, match=message):
        Whitening(3).fit(images)


def test_convolutions_begin_by_passing_their_channels_on():
    encoder = WhitenedConvNet(3)
    second = [layer for layer in encoder if isinstance(layer, torch.nn.Conv2d)][1]
    images = torch.rand(2, 24, 5, 5)
    assert torch.equal(second(images), images)


def test_the_scale_of_batch_norm_and_the_whitening_do_not_learn(quick, rgb):
    config = quick("supcon", arch="whitened_small", optimizer="muon", weight_decay=0.1)
    model = new_model(config, rgb)
    fitted = model.encoder[0].weight.clone()
    run = pretrain(config, rgb)
    scales = [p for name, p in run.model.named_parameters() if not p.requires_grad]
    assert torch.equal(run.model.encoder[0].weight, fitted) and fitted.abs().max() > 1
    assert len(scales) == 6 and all(bool((scale == 1).all()) for scale in scales)


def test_saved_weights_hold_the_whitening(quick, rgb, tmp_path):
    config = quick("supcon", arch="whitened_small")
    model = new_model(config, rgb)
    save_weights(tmp_path / "model.safetensors", model)
    none = torch.empty(0, 3, 32, 32, dtype=torch.uint8)
    empty = dataclasses.replace(
        rgb, train_images=none, train_labels=torch.empty(0, dtype=torch.long)
    )
    loaded = new_model(config, empty)  # as a trained model is read: there are no images to fit to
    load_weights(tmp_path / "model.safetensors", loaded)
    assert torch.equal(loaded.encoder[0].weight, model.encoder[0].weight)


@pytest.mark.parametrize(
    ("arch", "features"),
    [("whitened_small", 96), ("whitened_medium", 256), ("whitened_large", 512)],
)
def test_sizes(arch, features):
    assert build_encoder(arch, 1)(torch.zeros(2, 1, 28, 28)).shape == (2, features)
