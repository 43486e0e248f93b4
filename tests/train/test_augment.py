import pytest
import torch
import torchvision.transforms.v2.functional as V
from torchvision.transforms import InterpolationMode

from genscl_lite.train.augment import (
    AUGMENTATIONS,
    Augment,
    affine_map,
    build_augment,
    turn_hue_,
    warp,
)

G = torch.Generator().manual_seed(0)
IMAGES = torch.rand(6, 3, 20, 20, generator=G)
ONE, ZERO = torch.ones(6), torch.zeros(6)


def each(function, *parameters):
    return torch.stack(
        [function(image, *values) for image, *values in zip(IMAGES, *parameters, strict=True)]
    )


@pytest.mark.parametrize(
    "change, theirs, middle, strength",
    [
        (0, V.adjust_brightness, 1, 1.0),
        (1, V.adjust_contrast, 1, 1.0),
        (2, V.adjust_saturation, 1, 1.0),
        (3, V.adjust_hue, 0, 0.5),
    ],
)
def test_color_changes_equal_torchvision_image_by_image(change, theirs, middle, strength):
    """One change at its largest strength, the others with none."""
    augment = Augment(
        jitter=tuple(strength if c == change else 0.0 for c in range(4)), jitter_probability=1
    )
    uniforms = augment.draw(6, G)
    factors = middle + strength * (2 * uniforms[13 + change] - 1)
    assert torch.allclose(
        augment.apply(IMAGES, uniforms), each(theirs, factors.tolist()), atol=1e-5
    )


def test_hue_of_gray_black_and_white_stays():
    gray = torch.tensor([0.0, 0.5, 1.0])[:, None, None, None].expand(3, 3, 4, 4)
    assert torch.equal(turn_hue_(gray.clone(), torch.full((3,), 0.3)), gray)


def test_grayscale_equals_torchvision():
    gray = Augment(grayscale=1.0)(IMAGES)
    assert torch.allclose(gray, each(lambda x: V.rgb_to_grayscale(x, 3)), atol=1e-6)


def test_turn_shift_and_zoom_equal_torchvision():
    angle, zoom = 60 * torch.rand(6, generator=G) - 30, 0.7 + 0.6 * torch.rand(6, generator=G)
    shift = torch.randint(-4, 5, (6, 2), generator=G)
    x, y = (-2 * shift / 20).unbind(1)
    ours = warp(IMAGES, affine_map(angle, zoom, x, y, ONE, ONE))

    def theirs(image, a, s, t):
        return V.affine(
            image,
            angle=a,
            translate=t,
            scale=s,
            shear=[0, 0],
            interpolation=InterpolationMode.BILINEAR,
            fill=None,
        )

    assert torch.allclose(
        ours, each(theirs, angle.tolist(), zoom.tolist(), shift.tolist()), atol=1e-3
    )


def test_turn_of_an_image_that_is_not_square():
    image = torch.rand(1, 3, 12, 24, generator=G)
    angle = torch.tensor([25.0])
    ours = warp(image, affine_map(angle, ONE[:1], ZERO[:1], ZERO[:1], ONE[:1], ONE[:1], aspect=2.0))
    assert torch.allclose(
        ours, V.rotate(image, -25.0, interpolation=InterpolationMode.BILINEAR), atol=1e-3
    )


def test_flip_equals_torchvision():
    ours = warp(IMAGES, affine_map(ZERO, ONE, ZERO, ZERO, -ONE, ONE))
    assert torch.allclose(ours, V.horizontal_flip(IMAGES), atol=1e-5)


def test_crop_equals_torchvision_inside():
    """At the rim of a crop torchvision repeats its outermost pixels; here the real neighbors are seen."""
    top, left, height, width = 3, 5, 10, 8
    x, y = (2 * left + width) / 20 - 1, (2 * top + height) / 20 - 1
    ours = warp(
        IMAGES,
        affine_map(ZERO, ONE, ZERO + x, ZERO + y, ONE * width / 20, ONE * height / 20),
        "border",
    )
    theirs = V.resized_crop(IMAGES, top, left, height, width, [20, 20], antialias=False)
    assert torch.allclose(ours[..., 2:-2, 2:-2], theirs[..., 2:-2, 2:-2], atol=1e-5)
    whole = warp(IMAGES, affine_map(ZERO, ONE, ZERO, ZERO, ONE, ONE), "border")
    assert torch.allclose(whole, IMAGES, atol=1e-5)


def windows(augment, n=4000):
    """Centre and size of n drawn windows, by augmenting pictures of their own coordinates."""
    ramp = (torch.arange(32) + 0.5) / 32
    pictures = torch.stack(
        [ramp.expand(32, 32), ramp[:, None].expand(32, 32), torch.zeros(32, 32)]
    ).expand(n, 3, 32, 32)
    x, y, _ = augment(pictures, torch.Generator().manual_seed(0)).unbind(1)
    return (
        (x[:, 16, 24] - x[:, 16, 8]) * 2,
        (y[:, 24, 16] - y[:, 8, 16]) * 2,
        x[:, 16, 16],
        y[:, 16, 16],
    )


def test_crops_have_the_asked_area_ratio_and_place():
    width, height, x, y = windows(
        Augment(crop_scale=(0.2, 0.6), crop_ratio=(3 / 4, 4 / 3), padding="border")
    )
    area, ratio = width * height, width / height
    assert area.min() > 0.19 and area.max() < 0.61 and abs(area.mean() - 0.4) < 0.02
    assert ratio.min() > 0.74 and ratio.max() < 1.35 and abs(ratio.log().mean()) < 0.02
    assert (x - width / 2 > -0.03).all() and (x + width / 2 < 1.03).all()
    assert abs(x.mean() - 0.5) < 0.02 and abs(y.mean() - 0.5) < 0.02 and x.std() > 0.1


def test_half_of_the_images_are_flipped():
    width, *_ = windows(Augment(flip=0.5))
    assert 0.45 < (width < 0).float().mean() < 0.55


def test_each_image_has_its_own_draw():
    same = torch.rand(1, 3, 16, 16, generator=G).expand(8, 3, 16, 16)
    for augment in (
        Augment(degrees=20),
        Augment(crop_scale=(0.3, 0.9)),
        Augment(jitter=(0.4, 0.4, 0.4, 0.1)),
    ):
        views = augment(same, torch.Generator().manual_seed(0)).flatten(1)
        assert len(views.unique(dim=0)) > 4


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_views_are_float32_in_range_and_repeatable(name):
    images = torch.randint(256, (16, 3, 32, 32), dtype=torch.uint8)
    state = torch.get_rng_state()
    first, again = (build_augment(name)(images, torch.Generator().manual_seed(1)) for _ in range(2))
    assert (
        first.dtype == torch.float32 and first.shape == images.shape and torch.equal(first, again)
    )
    assert first.min() >= 0 and first.max() <= 1
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(build_augment("none")(images), images / 255)


def test_how_often_color_changes():
    images = torch.rand(1, 3, 4, 4, generator=G).expand(2000, 3, 4, 4)

    def share(augment, changed):
        return changed(augment(images, torch.Generator().manual_seed(0))).float().mean()

    def any_change(views):
        return (views != images).flatten(1).any(1)

    def gray(views):
        return (views[:, :1] - views).abs().flatten(1).amax(1) < 1e-6

    assert (
        abs(share(Augment(jitter=(0.4, 0.4, 0.4, 0.1), jitter_probability=0.8), any_change) - 0.8)
        < 0.03
    )
    assert abs(share(Augment(grayscale=0.2), gray) - 0.2) < 0.03


def test_strengths_go_both_ways():
    augment, gray = (
        Augment(jitter=(0.4, 0, 0, 0), jitter_probability=1),
        torch.full((2000, 3, 2, 2), 0.5),
    )
    factors = augment(gray, torch.Generator().manual_seed(0))[:, 0, 0, 0] / 0.5
    assert (
        0.6 <= factors.min() < 0.62
        and 1.38 < factors.max() <= 1.4
        and abs(factors.mean() - 1) < 0.02
    )


def test_each_image_has_its_color_changed_in_an_order_of_its_own():
    """Against torchvision, one change after the other, with the same numbers."""
    strengths = (0.9, 0.8, 0.7, 0.3)
    augment, images = (
        Augment(jitter=strengths, jitter_probability=1),
        torch.rand(24, 3, 4, 4, generator=G),
    )
    uniforms = augment.draw(24, torch.Generator().manual_seed(0))
    orders, drawn = uniforms[9:13].argsort(dim=0).T.tolist(), uniforms[13:17].T.tolist()
    changes = (V.adjust_brightness, V.adjust_contrast, V.adjust_saturation, V.adjust_hue)
    for image, order, u, view in zip(
        images, orders, drawn, augment.apply(images, uniforms), strict=True
    ):
        for change in order:
            middle = 0 if change == 3 else 1
            image = changes[change](image, middle + strengths[change] * (2 * u[change] - 1))
        assert torch.allclose(view, image, atol=1e-5)
    assert len({tuple(order) for order in orders}) > 12


def test_drawing_and_applying_are_apart():
    """The same uniforms give the same views, without any generator."""
    images = torch.randint(256, (5, 3, 16, 16), dtype=torch.uint8)
    for augment in AUGMENTATIONS.values():
        uniforms = augment.draw(5, torch.Generator().manual_seed(2))
        assert uniforms.shape == (augment.uniforms_per_image, 5)
        state = torch.get_rng_state()
        assert torch.equal(
            augment.apply(images, uniforms), augment(images, torch.Generator().manual_seed(2))
        )
        assert torch.equal(state, torch.get_rng_state())


def test_the_presets_of_the_papers():
    crop, jitter = AUGMENTATIONS["crop"], AUGMENTATIONS["crop_jitter"]
    assert (crop.crop_scale, crop.crop_ratio, crop.flip) == (
        (0.2, 1.0),
        (3 / 4, 4 / 3),
        0.5,
    ) and not any(crop.jitter)
    assert (jitter.jitter, jitter.jitter_probability, jitter.grayscale) == (
        (0.4, 0.4, 0.4, 0.1),
        0.8,
        0.2,
    )


def test_color_of_gray_images_is_refused():
    with pytest.raises(ValueError, match="3 channels"):
        build_augment("crop_jitter")(torch.zeros(2, 1, 8, 8))
    with pytest.raises(ValueError, match="images: expected uint8"):
        build_augment("crop")(torch.zeros(2, 8, 8))
    with pytest.raises(ValueError, match="did you mean 'crop_jitter'"):
        build_augment("crop_jiter")
