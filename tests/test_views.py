import math

import pytest
import torch

from genscl_lite.augment import build_augment
from genscl_lite.mixing import mix
from genscl_lite.views import Views, compiled, draw_epoch


def generator():
    return torch.Generator().manual_seed(3)


@pytest.mark.parametrize("images, batch", [(30, 12), (30, 10), (30, 29), (30, 30), (7, 50)])
def test_every_batch_is_full_and_every_image_is_seen(images, batch, quick):
    draws = draw_epoch(quick(batch_size=batch), torch.zeros(images, dtype=torch.long), (8, 8), generator())
    steps, size = draws.index.shape
    assert size == min(batch, images) and steps == math.ceil(images / size)
    order = draws.index.flatten()
    assert sorted(order[:images].tolist()) == list(range(images))  # each once, and then the first again
    assert torch.equal(order[images:], order[: len(order) - images])
    assert all(len(row.unique()) == size for row in draws.index[:-1])


@pytest.mark.parametrize("augmentation, per_image", [("affine", True), ("crop", False)])
def test_views_are_augmented_normalized_and_mixed_in_the_order_of_the_draws(augmentation, per_image, quick, digits):
    config = quick("genscl_mix", augmentation=augmentation, mix_per_image=per_image)
    draws, by_hand = draw_epoch(config, digits.train_labels, (8, 8), generator()), generator()
    assert torch.equal(draws.index.flatten()[:30], torch.randperm(30, generator=by_hand))
    for step in range(3):
        index = draws.index[step]
        images, labels = Views.of(config, digits)(digits.train_images[index], draws.step(step))
        one_hot = torch.eye(10)[digits.train_labels[index]]
        for view, label in zip(images.split(12), labels.split(12), strict=True):
            expected = digits.normalize(build_augment(augmentation)(digits.train_images[index], by_hand))
            expected, expected_label = mix(expected, one_hot, per_image=per_image, generator=by_hand)
            assert torch.allclose(view, expected, atol=1e-5) and torch.allclose(label[:, 0], expected_label)


def test_methods_without_mixing_keep_their_labels(quick, digits):
    draws = draw_epoch(quick("supcon", views=3), digits.train_labels, (8, 8), generator()).step(1)
    images, labels = Views.of(quick("supcon"), digits)(digits.train_images[draws.index], draws)
    labels = labels[:, 0]
    assert draws.mixture is None and images.shape == (36, 1, 8, 8)
    assert torch.equal(labels.argmax(dim=1), digits.train_labels[draws.index].repeat(3)) and (labels.sum(dim=1) == 1).all()
    assert images.is_contiguous(memory_format=torch.channels_last)


def test_it_is_one_piece_for_the_compiler(quick, rgb):
    """One graph without breaks, which gives the same, for all that CIFAR's recipe does."""
    config = quick("genscl_mix", augmentation="crop_jitter", mix_per_image=False)
    views, draws = Views.of(config, rgb), draw_epoch(config, rgb.train_labels, (32, 32), generator())
    whole = torch.compile(views, fullgraph=True, dynamic=False, backend="aot_eager")
    for step in range(2):
        batch = rgb.train_images[draws.index[step]], draws.step(step)
        assert all(torch.allclose(ours, theirs, atol=1e-4) for ours, theirs in zip(whole(*batch), views(*batch), strict=True))


def test_nothing_is_compiled_unless_it_is_wanted():
    assert compiled(torch.sin, wanted=False) is torch.sin and compiled(torch.sin, wanted=True) is not torch.sin
