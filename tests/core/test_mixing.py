import pytest
import torch
from scipy.stats import beta, kstest

from genscl_lite.mixing import MIXINGS, cutmix, mix, mixup, mixup_or_cutmix


def traceable(n, size=16):
    """Image i has 1 in channel i and 0 elsewhere, so every pixel says which image it comes from."""
    return torch.eye(n)[:, :, None, None].expand(n, n, size, size), torch.eye(n)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("mixing", MIXINGS)
@pytest.mark.parametrize("per_image", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_labels_have_exactly_the_share_of_the_pixels(mixing, per_image, seed):
    x, y = mix(*traceable(12), mixing=mixing, per_image=per_image, generator=generator(seed))
    assert torch.allclose(x.mean(dim=(2, 3)), y, atol=1e-6)
    assert torch.allclose(y.sum(1), torch.ones(12))


@pytest.mark.parametrize("seed", range(10))
def test_cutmix_replaces_one_rectangle_by_the_partner(seed):
    x, _ = cutmix(*traceable(8), per_image=True, generator=generator(seed))
    assert ((x == 0) | (x == 1)).all()
    for i, image in enumerate(x):
        foreign = image[i] == 0
        rows, columns = foreign.any(1), foreign.any(0)
        assert torch.equal(foreign, rows[:, None] & columns[None, :])
        for side in (rows, columns):  # without gaps
            assert (side.nonzero().diff(dim=0) == 1).all()


def test_mixup_is_the_same_blend_everywhere():
    x, _ = mixup(*traceable(8), per_image=True, generator=generator())
    assert (x == x[:, :, :1, :1]).all()


def shares(function, n, **options):
    x, y = torch.zeros(n, 1, 32, 32), torch.eye(n)
    return function(x, y, generator=generator(), **options)[1].diagonal()


@pytest.mark.parametrize("alpha", [0.3, 1.0, 4.0])
def test_mixup_draws_from_beta(alpha):
    lam = shares(mixup, 3000, alpha=alpha, per_image=True)
    assert kstest(lam[lam < 1].numpy(), beta(alpha, alpha).cdf).pvalue > 0.01


def test_cutmix_keeps_more_than_lam_because_boxes_are_clipped():
    lam = shares(cutmix, 3000, per_image=True)
    assert 0.55 < lam.mean() < 0.75  # 0.5 without clipping
    assert lam.min() >= 0 and lam.max() <= 1


def test_a_batch_shares_its_draw_and_images_do_not():
    for function in (mixup, cutmix):
        once, each = shares(function, 64), shares(function, 64, per_image=True)
        assert len(once[once < 1].unique()) == 1
        assert len(each[each < 1].unique()) > 20


def test_partners_are_drawn_at_random():
    """Not rolled: over some batches the first image meets many others."""
    partners = set()
    for seed in range(30):
        _, y = mixup(*traceable(8), generator=generator(seed))
        partners |= {int(i) for i in y[0].nonzero().flatten()}
    assert partners == set(range(8))


def test_the_coin_is_fair():
    mixups = 0
    for seed in range(200):
        x, _ = mixup_or_cutmix(*traceable(4, size=8), generator=generator(seed))
        mixups += int(not ((x == 0) | (x == 1)).all())
    assert 70 < mixups < 130
    x, _ = mixup_or_cutmix(*traceable(32, size=8), per_image=True, generator=generator())
    blended = ((x > 0) & (x < 1)).flatten(1).any(1)
    assert 5 < blended.sum() < 27  # both within one batch


def test_the_generator_decides_and_inputs_stay():
    x, y = torch.rand(6, 3, 8, 8), torch.eye(6)
    before = x.clone()
    state = torch.get_rng_state()
    first, again = (mix(x, y, generator=generator(5)) for _ in range(2))
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], mix(x, y, generator=generator(6))[0])
    assert torch.equal(x, before) and torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_labels_of_any_precision_have_the_share_of_the_pixels(dtype):
    """A mean of pixels in float16 would overflow; that of the float64 labels is exact."""
    x, y = traceable(3, size=300)
    mixed, labels = cutmix(x, y.to(dtype), per_image=True, generator=generator())
    assert labels.dtype == dtype
    assert torch.allclose(
        mixed.double().mean(dim=(2, 3)), labels.double(), atol=torch.finfo(dtype).eps
    )


@pytest.mark.parametrize("per_image", [False, True])
def test_an_empty_batch_stays_empty(per_image):
    mixed = mix(torch.zeros(0, 1, 4, 4), torch.zeros(0, 3), per_image=per_image)
    assert [t.shape for t in mixed] == [(0, 1, 4, 4), (0, 3)]


@pytest.mark.parametrize(
    "change, message",
    [
        (
            dict(images=torch.zeros(2, 1, 4, 4, dtype=torch.uint8)),
            "images: expected floating point",
        ),
        (dict(images=torch.zeros(2, 4, 4)), "images: "),
        (dict(labels=torch.tensor([0, 1])), "labels: .*one-hot"),
        (dict(labels=torch.eye(3)), "labels: "),
        (
            dict(images=torch.zeros(2, 1, 0, 4)),
            "images: expected .* got torch.float32 of shape .2, 1, 0, 4.",
        ),
        (dict(images=[[1.0]]), "images: expected a Tensor, got list"),
        (dict(labels=[[1.0]]), "labels: expected a Tensor, got list"),
        (dict(alpha=1e-320), "alpha: expected a number above 0, from 1e-30 to 1e30, got 1e-320"),
        (dict(alpha=0), "alpha: "),
        (dict(mixing="cut-mix"), "mixing: .*did you mean 'cutmix'"),
    ],
)
def test_bad_input_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        mix(**({"images": torch.zeros(2, 1, 4, 4), "labels": torch.eye(2)} | change))
