import pickle

import pytest
import torch
from scipy.stats import beta, kstest
from torch.utils.data import DataLoader, TensorDataset, default_collate
from torchvision.transforms import v2

from genscl_lite.mixing import (
    MIXINGS,
    CutMix,
    Mixture,
    MixUp,
    MixUpOrCutMix,
    blend,
    cutmix,
    draw_mixture,
    mix,
    mixup,
    mixup_or_cutmix,
)


def traceable(n, size=16):
    """Image i has 1 in channel i and 0 elsewhere, so every pixel says which image it comes from."""
    return torch.eye(n)[:, :, None, None].expand(n, n, size, size), torch.eye(n)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("mixing", MIXINGS)
def test_labels_have_exactly_the_share_of_the_pixels(mixing):
    for seed in range(10):
        options = dict(per_image=seed % 2 == 0, probability=1 - seed / 10, alpha=0.5 + seed / 6)
        x, y = mix(*traceable(12), mixing=mixing, generator=generator(seed), **options)
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


def drawn_shares(n, alpha, seed=0):
    return draw_mixture(
        n, (8, 8), mixing="mixup", alpha=alpha, per_image=True, generator=generator(seed)
    ).lam


@pytest.mark.parametrize("alpha", [0.05, 0.3, 1.0, 1.01, 4.0, 300.0])
def test_shares_are_drawn_from_beta(alpha):
    lam = drawn_shares(20_000, alpha).double()
    lower = lam[lam < 0.5].numpy()  # the upper half's ends round to 1
    assert 0.48 < len(lower) / len(lam) < 0.52
    assert kstest(lower, lambda share: 2 * beta(alpha, alpha).cdf(share)).pvalue > 0.01
    other = 1.15 * alpha  # would be seen
    assert kstest(lower, lambda share: 2 * beta(other, other).cdf(share)).pvalue < 1e-3


def test_extreme_alphas_leave_images_whole_or_mix_them_half_and_half():
    for alpha in (1e-30, 1e-4):
        lam = drawn_shares(2000, alpha)
        assert ((lam < 0.01) | (lam > 0.99)).double().mean() > 0.99 and 0.4 < lam.mean() < 0.6
    for alpha in (1e8, 1e30):
        assert torch.allclose(drawn_shares(2000, alpha), torch.tensor(0.5), atol=1e-3)


@pytest.mark.parametrize("alpha", [0.4, 1.0])
def test_torchvision_mixes_alike_where_it_draws_the_same(alpha):
    """Its partner is the image before; its lam and box are drawn from torch's global generator."""
    x, labels = torch.rand(5, 3, 17, 24, generator=generator()), torch.tensor([3, 0, 1, 2, 1])
    every = torch.ones(5)
    for seed in range(10):
        for theirs in (v2.MixUp(num_classes=4, alpha=alpha), v2.CutMix(num_classes=4, alpha=alpha)):
            torch.manual_seed(seed)
            expected, expected_labels = theirs(x, labels)
            torch.manual_seed(seed)
            lam = theirs._dist.sample(()).item()
            cuts = isinstance(theirs, v2.CutMix)
            column, row = (
                (torch.randint(pixels, (1,)).item() for pixels in (24, 17)) if cuts else (0, 0)
            )
            mixture = Mixture(
                lam * every, row * every, column * every, cuts * every > 0, torch.arange(5).roll(1)
            )
            mixed, mixed_labels = blend(x, torch.eye(4)[labels], mixture)
            assert torch.allclose(mixed, expected, atol=1e-6)
            assert torch.allclose(mixed_labels, expected_labels, atol=1e-6)
            assert mixed_labels.dtype == expected_labels.dtype


def test_class_numbers_are_one_hot_distributions():
    x, numbers = torch.rand(6, 1, 8, 8), torch.tensor([0, 4, 2, 2, 1, 0])
    for kind in (torch.int64, torch.int32, torch.uint8):
        for function in (mixup, cutmix, mixup_or_cutmix):
            mixed, labels = function(x, numbers.to(kind), num_classes=5, generator=generator(1))
            again = function(x, torch.eye(5)[numbers], num_classes=5, generator=generator(1))
            assert torch.equal(mixed, again[0]) and torch.equal(labels, again[1])


@pytest.mark.parametrize("shape", [(7,), (3, 100), (2, 3, 5, 5), (0,)])
def test_mixup_blends_signals_of_any_shape(shape):
    x = torch.rand(4, *shape, generator=generator())
    mixed, y = mixup(x, torch.arange(4), num_classes=4, per_image=True, generator=generator())
    assert torch.allclose(mixed, torch.einsum("ij,j...->i...", y, x), atol=1e-6)


@pytest.mark.parametrize("function", [mixup, cutmix, mixup_or_cutmix])
def test_a_share_of_images_stays_whole_to_the_bit(function):
    x, y = torch.rand(4000, 1, 6, 6), torch.arange(4000)[:, None] % 2 == torch.arange(2)
    mixed, labels = function(x, y.float(), probability=0.3, per_image=True, generator=generator())
    whole = (mixed == x).flatten(1).all(1)
    assert torch.equal(labels[whole], y[whole].float())
    if function is mixup:  # a box can be empty
        assert 0.67 < whole.double().mean() < 0.73
    mixed, labels = function(x, y.float(), probability=0, generator=generator())
    assert torch.equal(mixed, x) and torch.equal(labels, y.float())


def test_a_batch_is_mixed_as_often_as_asked():
    mixed = 0
    for seed in range(300):
        x, _ = mixup(*traceable(6, size=2), probability=0.25, generator=generator(seed))
        mixed += not torch.equal(x, traceable(6, size=2)[0])
    assert 50 < mixed < 100


def test_callables_are_the_functions_with_their_options():
    x, numbers = torch.rand(8, 3, 8, 8), torch.arange(8) % 3
    options = dict(num_classes=3, alpha=0.5, per_image=True, probability=0.8)
    for kind, function in ((MixUp, mixup), (CutMix, cutmix), (MixUpOrCutMix, mixup_or_cutmix)):
        ours = kind(**options, generator=generator(2))(x, numbers)
        expected = function(x, numbers, **options, generator=generator(2))
        assert all(map(torch.equal, ours, expected))
        assert pickle.loads(pickle.dumps(kind(**options))) == kind(**options)
        assert repr(kind(**options)).startswith(f"{kind.__name__}(num_classes=3, alpha=0.5")


class Collate:
    """What a lambda around ``default_collate`` does, for workers that are spawned."""

    def __init__(self, mixing):
        self.mixing = mixing

    def __call__(self, batch):
        return self.mixing(*default_collate(batch))


def test_workers_of_a_loader_draw_apart_and_again_alike():
    data = TensorDataset(*traceable(4, size=4)[:1], torch.arange(4))
    loader = DataLoader(
        torch.utils.data.ConcatDataset([data, data]),
        batch_size=4,
        num_workers=2,
        collate_fn=Collate(MixUp(num_classes=4)),
    )
    torch.manual_seed(0)
    first, second = (labels.diagonal().min() for _, labels in loader)
    torch.manual_seed(0)
    again = [labels.diagonal().min() for _, labels in loader]
    assert first != second and [first, second] == again
    loader.collate_fn.mixing = MixUp(num_classes=4, generator=generator())
    with pytest.raises(ValueError, match="generator: expected None in a DataLoader's worker"):
        list(loader)


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
        (dict(images=torch.zeros(2), mixing="mixup"), "images: expected floating point .N, ...., "),
        (dict(labels=torch.tensor([0, 1])), "labels: .* or integers .2,. with num_classes=, got"),
        (dict(labels=torch.tensor([0.0, 1.0]), num_classes=2), "labels: .*got torch.float32"),
        (dict(labels=torch.tensor([True, False]), num_classes=2), "labels: .*got torch.bool"),
        (dict(labels=torch.tensor([0, 1, 1]), num_classes=2), "labels: .* of shape .3,."),
        (dict(num_classes=3), "labels: expected distributions over 3 classes"),
        (
            dict(labels=torch.tensor([-1, 2]), num_classes=2),
            "labels: expected class numbers from 0 to 1, got -1 to 2",
        ),
        (dict(num_classes=0), "num_classes: expected a whole number of at least 1, got 0"),
        (dict(probability=1.5), "probability: expected a number in .0, 1., got 1.5"),
        (dict(probability="all"), "probability: "),
        (dict(probability=float("nan")), "probability: "),
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
