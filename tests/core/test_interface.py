"""How the loss is called: as SupContrast's, for each anchor, with weights, by torch.func, by old names."""

import inspect
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import genscl_lite
from genscl_lite import (
    ClassSimilarity,
    GenSupConLoss,
    distributions_from_counts,
    gaussian_similarity,
    gen_supcon_loss,
    gen_supcon_loss_parts,
    gradient_cache,
    log_partition,
)
from tests.core.largest import LargestTensor


def sample(rows=40, dim=6, classes=4, seed=0):
    g = torch.Generator().manual_seed(seed)
    z = torch.randn(rows, dim, generator=g, dtype=torch.float64)
    soft = torch.softmax(3 * torch.randn(rows, classes, generator=g, dtype=torch.float64), dim=1)
    return z, soft, torch.randint(classes, (rows,), generator=g)


def supcontrast(features, labels=None, mask=None, temperature=0.07, base_temperature=0.07):
    """SupCon, Eq. 2, of unit (N, V, D) features, with a mask of positive images, in whole matrices."""
    images, views = features.shape[:2]
    if mask is None:
        mask = torch.eye(images) if labels is None else (labels[:, None] == labels).double()
    rows = torch.cat(features.unbind(1))
    itself = torch.eye(len(rows), dtype=torch.bool)
    positives = mask.repeat(views, views).to(rows).masked_fill(itself, 0)
    scores = (rows @ rows.T / temperature).masked_fill(itself, float("-inf"))
    log_p = scores.log_softmax(dim=1).masked_fill(itself, 0)
    each = (positives * log_p).sum(dim=1) / positives.sum(dim=1)
    return -(temperature / base_temperature) * each.mean()


@pytest.mark.parametrize("given", ["labels", "mask", "neither"])
def test_supcontrasts_call_works_as_it_stands(given):
    z, _, numbers = sample()
    features = F.normalize(z.reshape(20, 2, 6), dim=2)
    mask = (torch.rand(20, 20, generator=torch.Generator().manual_seed(1)) < 0.3).fill_diagonal_(1)
    arguments = {"labels": {"labels": numbers[:20]}, "mask": {"mask": mask}, "neither": {}}[given]
    loss = GenSupConLoss(temperature=0.07, base_temperature=0.07)
    assert torch.isclose(loss(features, **arguments), supcontrast(features, **arguments))
    positional = [arguments.get("labels"), arguments.get("mask")]
    assert torch.equal(loss(features, *positional), loss(features, **arguments))
    spatial = features.reshape(20, 2, 2, 3)
    assert torch.equal(loss(spatial, **arguments), loss(features, **arguments))


@pytest.mark.parametrize("backend", ["dense", "streamed"])
@pytest.mark.parametrize("weighting", ["normalized", "eq2"])
def test_each_anchors_loss_and_its_gradient(backend, weighting, monkeypatch):
    """Skipped anchors have 0; upstream gradients that differ come to what their weighted sum gives."""
    monkeypatch.setitem(log_partition.TILE, "cpu", 7)
    z, soft, numbers = sample()
    numbers[5] = 9
    z, upstream = z.requires_grad_(), torch.rand(40, dtype=torch.float64)
    options = {"backend": backend, "weighting": weighting}
    for labels in (numbers, soft, [(1.0, numbers), (2.0, soft)]):
        each = gen_supcon_loss(z, labels, reduction="none", **options)
        counted = torch.tensor(39 if labels is numbers and weighting == "normalized" else 40)
        assert torch.isclose(each.sum() / counted, gen_supcon_loss(z, labels, **options))
        assert torch.isclose(each.sum(), gen_supcon_loss(z, labels, reduction="sum", **options))
        assert (each[5] == 0) == (labels is numbers)
        weighted = gen_supcon_loss(z, labels, reduction="sum", anchor_weight=upstream, **options)
        for ours, expected in zip(
            torch.autograd.grad(each, z, upstream), torch.autograd.grad(weighted, z), strict=True
        ):
            assert torch.allclose(ours, expected, rtol=1e-9, atol=1e-12)


def test_anchor_weights_make_a_weighted_mean():
    z, soft, numbers = sample()
    weight = torch.rand(40, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    weight[:7] = 0
    each = gen_supcon_loss(z, numbers, reduction="none")
    parts = gen_supcon_loss_parts(z, numbers, anchor_weight=weight)
    assert torch.isclose(parts.loss, (weight * each).sum() / weight.sum())
    assert torch.isclose(parts.loss, parts.entropy + parts.kl)
    twice = torch.where(torch.arange(40) < 7, 2.0, 1.0)
    assert torch.isclose(
        gen_supcon_loss(z, soft, anchor_weight=twice),
        gen_supcon_loss(z, soft, anchor_weight=5 * twice),
    )
    views = z.reshape(20, 2, 6)
    first = torch.tensor([1, 0]).expand(20, 2)  # SupContrast's contrast_mode="one"
    rows = torch.cat(views.unbind(1))
    assert torch.isclose(
        gen_supcon_loss(views, soft[:20], anchor_weight=first),
        gen_supcon_loss(rows, soft[:20].repeat(2, 1), anchor_weight=torch.arange(40) < 20),
    )


def test_parts_go_from_chance_to_the_floor():
    z, soft, _ = sample()
    parts = gen_supcon_loss_parts(torch.ones(40, 3), soft)
    assert torch.isclose(parts.loss, parts.chance.float()) and parts.chance > parts.entropy
    each = gen_supcon_loss_parts(z, soft, reduction="none")
    whole = gen_supcon_loss_parts(z, soft)
    for ours, expected in zip(each[:3], whole[:3], strict=True):
        assert ours.shape == (40,) and torch.isclose(ours.mean(), expected)


@pytest.mark.parametrize("rows", [20, 600])
@pytest.mark.parametrize("kind", ["numbers", "distributions", "function"])
def test_torch_func_works_at_every_size(rows, kind, monkeypatch):
    monkeypatch.setattr("genscl_lite.label_sums.BLOCK_ELEMENTS", 4096)
    z, soft, numbers = sample(rows)
    labels = numbers if kind == "numbers" else soft
    options = {"similarity": lambda y, others: y @ others.T} if kind == "function" else {}

    def loss(z):
        return gen_supcon_loss(z, labels, **options)

    leaf = z.clone().requires_grad_()
    expected = torch.autograd.grad(loss(leaf), leaf)[0]
    assert torch.allclose(torch.func.grad(loss)(z), expected, rtol=1e-10)
    gradient, value = torch.func.grad_and_value(loss)(z)
    assert torch.allclose(gradient, expected) and torch.isclose(value, loss(z))


def test_a_second_derivative_by_torch_func_is_refused_above_the_dense_size():
    z, _, numbers = sample(600)

    def slope(z):
        return torch.func.grad(lambda z: gen_supcon_loss(z, numbers))(z).square().sum()

    with pytest.raises(RuntimeError, match="first derivative only; take backend='dense'"):
        torch.func.grad(slope)(z)


def test_continuous_targets_attract_by_a_gaussian():
    """y-aware contrastive learning: weights exp(-(t_i - t_j)^2 / 2 h^2), whose rows sum to 1."""
    z, *_ = sample()
    ages = torch.linspace(20, 60, 40, dtype=torch.float64)[torch.randperm(40)]
    s = torch.exp(-((ages[:, None] - ages) ** 2) / (2 * 5.0**2))
    expected = gen_supcon_loss(z, pair_similarity=s)
    for targets in (ages, ages[:, None]):
        for backend in ("dense", "streamed"):
            ours = gen_supcon_loss(z, targets, similarity=gaussian_similarity(5.0), backend=backend)
            assert torch.isclose(ours, expected)
    views = GenSupConLoss(similarity=gaussian_similarity(5.0))(z.reshape(20, 2, 6), ages[:20])
    rows = torch.cat(z.reshape(20, 2, 6).unbind(1))
    same = gen_supcon_loss(rows, ages[:20].repeat(2), similarity=gaussian_similarity(5.0))
    assert torch.equal(views, same)
    with pytest.raises(ValueError, match="labels: holds NaN or infinity"):
        gen_supcon_loss(z, ages * float("nan"), similarity=gaussian_similarity(5.0))
    with pytest.raises(ValueError, match="bandwidth: expected a number above 0, got 0"):
        gaussian_similarity(0)


def test_latents_of_like_targets_come_together():
    g = torch.Generator().manual_seed(0)
    targets = torch.rand(60, generator=g)
    z = torch.randn(60, 3, generator=g, requires_grad=True)
    loss, optimizer = (
        GenSupConLoss(similarity=gaussian_similarity(0.1)),
        torch.optim.Adam([z], 0.05),
    )
    for _ in range(100):
        optimizer.zero_grad()
        loss(z, targets).backward()
        optimizer.step()
    cosines = F.normalize(z.detach(), dim=1) @ F.normalize(z.detach(), dim=1).T
    near = (targets[:, None] - targets).abs()
    assert cosines[near < 0.05].mean() > cosines[near > 0.5].mean() + 0.5


@pytest.mark.parametrize("similarity", ["inner_product", "bhattacharyya"])
def test_rounded_distributions_count_as_distributions(similarity):
    z, soft, _ = sample()
    rounded = (soft * 100).round() / 100
    whole = rounded / rounded.sum(dim=1, keepdim=True)
    assert (rounded.sum(dim=1) != 1).any()
    assert torch.isclose(
        gen_supcon_loss(z, rounded, similarity=similarity),
        gen_supcon_loss(z, whole, similarity=similarity),
        rtol=1e-12,
    )


def test_counts_become_distributions_where_it_is_asked_for():
    counts = torch.tensor([[3, 1, 0], [0, 0, 9]])
    expected = torch.tensor([[0.75, 0.25, 0.0], [0.0, 0.0, 1.0]])
    for dtype in (torch.int64, torch.uint8, torch.float32):
        assert torch.equal(distributions_from_counts(counts.to(dtype)), expected)
    with pytest.raises(ValueError, match="labels: expected floating point distributions"):
        gen_supcon_loss(torch.randn(2, 3), counts)
    for wrong in (torch.zeros(2, 3), -counts, torch.full((2, 2), float("nan"))):
        with pytest.raises(ValueError, match="counts: expected finite .* but row [01] is"):
            distributions_from_counts(wrong)
    with pytest.raises(ValueError, match="counts: expected numbers of shape"):
        distributions_from_counts(torch.arange(3))


@pytest.mark.parametrize("backend", ["dense", "streamed"])
def test_twenty_thousand_classes_make_no_matrix_of_classes(backend):
    z = torch.randn(200, 4, requires_grad=True)
    numbers = torch.arange(200).repeat_interleave(2)[:200] * 100 + 79
    with LargestTensor() as largest:
        parts = gen_supcon_loss_parts(z, numbers, backend=backend)
        parts.loss.backward()
    assert largest.numel <= 512 * 512 and parts.skipped == 0


def encoder_with_dropout():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 16), nn.Dropout(0.5), nn.Linear(16, 3)).double()


def test_pieces_give_the_gradient_of_the_whole_batch():
    encoder = encoder_with_dropout().eval()
    images, labels = torch.randn(13, 5).double(), torch.randn(13, 4).double().softmax(1)
    expected = gen_supcon_loss(encoder(images), labels)
    whole = torch.autograd.grad(expected, list(encoder.parameters()))
    graphs, forward = [], encoder[0].forward
    encoder[0].forward = lambda x: graphs.append((len(x), torch.is_grad_enabled())) or forward(x)
    loss = gradient_cache(encoder, images, lambda z: gen_supcon_loss(z, labels), piece=5)
    assert torch.isclose(loss, expected) and not loss.requires_grad
    assert graphs == [(5, False), (5, False), (3, False), (5, True), (5, True), (3, True)]
    for parameter, gradient in zip(encoder.parameters(), whole, strict=True):
        assert torch.allclose(parameter.grad, gradient, rtol=1e-10)


def test_both_passes_drop_the_same_and_leave_the_random_state_as_one_pass_does():
    encoder, images = encoder_with_dropout(), torch.randn(12, 5).double()
    seen, forward = [], encoder[2].forward
    encoder[2].forward = lambda x: seen.append(x.detach()) or forward(x)
    torch.manual_seed(3)
    gradient_cache(encoder, images, lambda z: gen_supcon_loss(z, torch.arange(12) % 3), piece=4)
    after = torch.get_rng_state()
    assert all(torch.equal(a, b) for a, b in zip(seen[:3], seen[3:], strict=True))
    torch.manual_seed(3)
    for part in images.split(4):
        encoder(part)
    assert torch.equal(torch.get_rng_state(), after)


def test_what_pieces_cannot_do_is_named():
    encoder = nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3))
    with pytest.raises(ValueError, match="encoder: expected one that treats each image by itself"):
        gradient_cache(encoder, torch.randn(4, 5), lambda z: z.sum(), piece=2)
    gradient_cache(encoder.eval(), torch.randn(4, 5), lambda z: z.sum(), piece=2)
    with pytest.raises(ValueError, match="piece: expected a whole number of at least 1, got 0"):
        gradient_cache(encoder, torch.randn(4, 5), lambda z: z.sum(), piece=0)


def test_signatures_are_spelled_out():
    functions = gen_supcon_loss, gen_supcon_loss_parts, GenSupConLoss, GenSupConLoss.forward
    for function in functions:
        kinds = {p.kind for p in inspect.signature(function).parameters.values()}
        assert not kinds & {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL}
    one, parts = (inspect.signature(f).parameters for f in functions[:2])
    assert list(one) == list(parts)


def test_old_names_work_with_a_warning():
    z, soft, numbers = sample()
    s, mask = soft @ soft.T, torch.arange(40) < 20
    with pytest.warns(DeprecationWarning, match="^weights= is now pair_similarity=$"):
        old = gen_supcon_loss(z, weights=s)
    assert torch.equal(old, gen_supcon_loss(z, pair_similarity=s))
    with pytest.warns(DeprecationWarning, match="^anchor_mask= is now anchor_weight=$"):
        old = GenSupConLoss()(z, soft, anchor_mask=mask)
    assert torch.equal(old, gen_supcon_loss(z, soft, anchor_weight=mask))
    with pytest.warns(DeprecationWarning, match="^return_parts= is now gen_supcon_loss_parts"):
        old = gen_supcon_loss(z, soft, return_parts=True)
    new = gen_supcon_loss_parts(z, soft)
    assert all(map(torch.equal, old, new))
    with pytest.warns(DeprecationWarning, match="return_parts= is now"):
        module = GenSupConLoss(return_parts=True)
    assert all(map(torch.equal, module(z, soft), new))
    assert all(map(torch.equal, GenSupConLoss().parts(z, soft), new))
    with pytest.warns(DeprecationWarning, match="^gather= is now gather_distributed=$"):
        assert torch.equal(gen_supcon_loss(z, soft, gather=False), new.loss)
    for old, new in (
        ("ClassKernel", "ClassSimilarity"),
        ("superclass_kernel", "superclass_similarity"),
    ):
        with pytest.warns(DeprecationWarning, match=f"genscl_lite.{old} is now genscl_lite.{new}"):
            assert getattr(genscl_lite, old) is getattr(genscl_lite, new)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gen_supcon_loss(z, numbers)


def test_a_class_similarity_is_a_module_that_moves_and_saves():
    module = GenSupConLoss(similarity=torch.eye(4) + 0.5)
    assert {name for name, _ in module.named_buffers()} == {"similarity.unit", "similarity.scale"}
    other = GenSupConLoss(similarity=torch.eye(4))
    other.load_state_dict(module.state_dict())
    z, soft, numbers = sample()
    for labels in (soft, numbers):
        assert torch.equal(other(z, labels), module(z, labels))
    related = ClassSimilarity(torch.eye(4) + 0.5)
    assert torch.equal(related(numbers), genscl_lite.label_similarity(numbers, similarity=related))
    assert module.double().similarity.unit.dtype == torch.float64


def test_a_module_checks_values_at_each_call_on_a_cpu():
    loss, (z, soft, _) = GenSupConLoss(), sample()
    loss(z, soft)
    with pytest.raises(ValueError, match="labels: expected distributions, but row 0 sums to 2"):
        loss(z, 2 * soft)
