import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genscl_lite.datasets.images import ImageFiles
from genscl_lite.mixing import mix
from genscl_lite.train import batches
from genscl_lite.train.augment import AUGMENTATIONS, build_augment
from genscl_lite.train.batches import Views, balanced_order, draw_epoch


def generator():
    return torch.Generator().manual_seed(3)


@pytest.mark.parametrize("images, batch", [(30, 12), (30, 10), (30, 29), (30, 30), (7, 50)])
def test_every_batch_is_full_and_every_image_is_seen(images, batch, quick):
    draws = draw_epoch(
        quick(batch_size=batch), torch.zeros(images, dtype=torch.long), (8, 8), generator()
    )
    steps, size = draws.index.shape
    assert size == min(batch, images) and steps == math.ceil(images / size)
    order = draws.index.flatten()
    assert sorted(order[:images].tolist()) == list(
        range(images)
    )  # each once, and then the first again
    assert torch.equal(order[images:], order[: len(order) - images])
    assert all(len(row.unique()) == size for row in draws.index[:-1])


@pytest.mark.parametrize("augmentation, per_image", [("affine", True), ("crop", False)])
def test_views_are_augmented_normalized_and_mixed_in_the_order_of_the_draws(
    augmentation, per_image, quick, digits
):
    config = quick("genscl_mix", augmentation=augmentation, mix_per_image=per_image)
    draws, by_hand = draw_epoch(config, digits.train_labels, (8, 8), generator()), generator()
    assert torch.equal(draws.index.flatten()[:30], torch.randperm(30, generator=by_hand))
    for step in range(3):
        index = draws.index[step]
        pixels = digits.train_images[index].expand(2, -1, -1, -1, -1)
        images, labels = Views.of(config, digits)(pixels, draws.step(step))
        one_hot = torch.eye(10)[digits.train_labels[index]]
        for view, label in zip(images.split(12), labels.split(12), strict=True):
            expected = digits.normalize(
                build_augment(augmentation)(digits.train_images[index], by_hand)
            )
            expected, expected_label = mix(
                expected, one_hot, per_image=per_image, generator=by_hand
            )
            assert torch.allclose(view, expected, atol=1e-5) and torch.allclose(
                label[:, 0], expected_label
            )


def test_methods_without_mixing_keep_their_labels(quick, digits):
    draws = draw_epoch(quick("supcon", views=3), digits.train_labels, (8, 8), generator()).step(1)
    pixels = digits.train_images[draws.index].expand(3, -1, -1, -1, -1)
    images, labels = Views.of(quick("supcon"), digits)(pixels, draws)
    assert draws.mixture is None and images.shape == (36, 1, 8, 8)
    assert torch.equal(labels, digits.train_labels[draws.index].repeat(3))  # numbers, of any many
    assert images.is_contiguous(memory_format=torch.channels_last)


def test_it_is_one_piece_for_the_compiler(quick, rgb):
    """One graph without breaks, which gives the same, for all that CIFAR's recipe does."""
    config = quick("genscl_mix", augmentation="crop_jitter", mix_per_image=False)
    plain, draws = (
        Views.of(config, rgb),
        draw_epoch(config, rgb.train_labels, (32, 32), generator()),
    )
    whole = torch.compile(plain, fullgraph=True, dynamic=False, backend="eager")
    for step in range(2):
        batch = rgb.train_images[draws.index[step]].expand(2, -1, -1, -1, -1), draws.step(step)
        assert all(
            torch.allclose(ours, theirs, atol=1e-4)
            for ours, theirs in zip(whole(*batch), plain(*batch), strict=True)
        )


@given(st.lists(st.integers(0, 4), min_size=1, max_size=40), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_a_balanced_order_has_each_class_and_each_image_of_a_class_equally_often(numbers, seed):
    """To one; a class that is not there, such as 3 of [0, 4], stays away."""
    labels = torch.tensor(numbers)
    order = balanced_order(labels, torch.Generator().manual_seed(seed))
    there, drawn = labels.unique(), order.bincount(minlength=len(labels))
    classes = labels[order].bincount(minlength=5)[there]
    assert len(order) == len(labels) and classes.max() - classes.min() <= 1
    for c in there:
        assert drawn[labels == c].max() - drawn[labels == c].min() <= 1
    assert torch.equal(order, balanced_order(labels, torch.Generator().manual_seed(seed)))


def test_a_balanced_order_is_random():
    """Classes are strewn about, and so is which class, and which image of a class, is there once more."""
    labels = torch.tensor([0] * 20 + [1] * 20 + [2])
    orders = [balanced_order(labels, torch.Generator().manual_seed(seed)) for seed in range(20)]
    assert all(len(labels[order[:12]].unique()) == 3 for order in orders)
    assert {labels[order].bincount().argmin().item() for order in orders} == {0, 1, 2}
    assert len({tuple(sorted(order.tolist())) for order in orders}) == 20


@pytest.mark.parametrize("balanced", [False, True])
def test_an_epoch_is_balanced_where_that_is_wanted(balanced, quick):
    labels = torch.tensor([0] * 27 + [1] * 3)
    draws = draw_epoch(quick(balanced=balanced), labels, (8, 8), generator())
    first, steps = draws.index.flatten()[:30], len(draws.index)
    assert steps == 3 and labels[first].bincount().tolist() == ([15, 15] if balanced else [27, 3])
    again = draw_epoch(quick(balanced=balanced), labels, (8, 8), generator())
    assert all(
        map(
            torch.equal,
            (draws.index, draws.uniforms, *draws.mixture),
            (again.index, again.uniforms, *again.mixture),
        )
    )


def test_label_distributions_of_the_data_stand_for_the_classes_own(quick, digits):
    soft = torch.rand(30, 10, generator=generator()).softmax(dim=1)
    labeled = dataclasses.replace(digits, train_distributions=soft)
    draws = draw_epoch(quick("supcon"), digits.train_labels, (8, 8), generator()).step(0)
    pixels = digits.train_images[draws.index].expand(2, -1, -1, -1, -1)
    _, targets = Views.of(quick("supcon"), labeled)(pixels, draws)
    assert torch.equal(targets, soft[draws.index].repeat(2, 1)[:, None])


@pytest.mark.parametrize("soft", [False, True])
def test_what_a_teacher_said_is_a_second_target_mixed_as_the_label_is(soft, quick, digits):
    said, labels = torch.rand(2, 30, 10, generator=generator()).softmax(dim=2)
    data = dataclasses.replace(digits, train_distributions=labels) if soft else digits
    config = quick("genscl_mix_kd", mixing="mixup")  # whose shares are those that are drawn
    draws = draw_epoch(config, digits.train_labels, (8, 8), generator()).step(0)
    pixels = digits.train_images[draws.index].expand(2, -1, -1, -1, -1)
    _, targets = Views.of(config, data, teacher_table=said)(pixels, draws)
    own = labels if soft else torch.eye(10)[digits.train_labels]
    assert targets.shape == (24, 2, 10)
    views = zip(
        targets.split(12), draws.mixture.lam.split(12), draws.mixture.partner.split(12), strict=True
    )
    for v, (rows, share, partner) in enumerate(views):
        for t, whole in enumerate((own[draws.index], said[draws.index])):
            other = whole[partner - 12 * v]
            assert torch.allclose(
                rows[:, t], share[:, None] * whole + (1 - share[:, None]) * other, atol=1e-6
            )
        assert 0 < share.min() and share.max() < 1


# Images out of files, which come cropped


def test_each_view_of_streamed_images_is_its_own_crop_and_no_other(quick, rgb, monkeypatch):
    """They are flipped, colored and mixed by the same numbers as images in memory."""
    streamed = dataclasses.replace(
        rgb, train_images=ImageFiles("nowhere", ["x"] * 30, 32, workers=0)
    )
    config = quick("genscl_mix", augmentation="crop_jitter")
    draws = draw_epoch(config, rgb.train_labels, (32, 32), generator()).step(0)
    crops = torch.stack([rgb.train_images[draws.index], rgb.train_images[draws.index].flip(3)])
    given, targets = Views.of(config, streamed)(crops, draws)
    uncropped = dataclasses.replace(
        build_augment("crop_jitter"), crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0)
    )
    monkeypatch.setattr(batches, "build_augment", lambda name: uncropped)
    for v, view in enumerate(given.split(12)):
        expected, labels = Views.of(config, rgb)(crops[[v, v]], draws)
        assert torch.equal(view, expected.split(12)[v]) and torch.equal(targets, labels)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_without_crop_all_else_stays(name, rgb):
    augment = AUGMENTATIONS[name]
    changed = {
        field.name
        for field in dataclasses.fields(augment)
        if getattr(augment, field.name) != getattr(augment.without_crop(), field.name)
    }
    assert changed == ({"crop_scale", "crop_ratio"} if "crop" in name else set())
    assert augment.without_crop().uniforms_per_image == augment.uniforms_per_image
