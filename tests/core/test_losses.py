import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning.losses import SupConLoss

from genscl_lite.losses import GenSupConLoss, gen_supcon_loss, gen_supcon_loss_parts, unit_rows
from genscl_lite.similarity import SIMILARITIES, label_similarity
from tests import oracle
from tests.pairwise import pairwise


def sample(rows=7, contrasts=5, dim=4, classes=3, seed=0, sharpness=2.0):
    g = torch.Generator().manual_seed(seed)

    def make(n):
        z = torch.randn(n, dim, generator=g, dtype=torch.float64) * 3
        y = torch.softmax(
            sharpness * torch.randn(n, classes, generator=g, dtype=torch.float64), dim=1
        )
        return z, y

    return *make(rows), *make(contrasts)


def test_the_loss_is_the_cross_entropy_of_the_paper():
    """- sum_j w_ij log p_ij for each anchor, with w and p as whole matrices, and their mean."""
    z, y, *_ = sample()
    z, itself = F.normalize(z, dim=1), torch.eye(7, dtype=torch.bool)
    s = label_similarity(y).masked_fill(itself, 0)
    w = s / s.sum(dim=1, keepdim=True)
    log_p = F.log_softmax((z @ z.T / 0.3).masked_fill(itself, float("-inf")), dim=1).masked_fill(
        itself, 0
    )
    each = -(w * log_p).sum(dim=1)
    for backend in ("dense", "streamed"):
        options = {"temperature": 0.3, "backend": backend}
        ours = gen_supcon_loss(z, y, reduction="none", **options)
        assert torch.allclose(ours, each, rtol=1e-12)
        assert torch.isclose(gen_supcon_loss(z, y, **options), each.mean(), rtol=1e-12)


@pytest.mark.parametrize(
    "similarity, weighting, queue", pairwise(SIMILARITIES, ["normalized", "eq2"], [False, True])
)
def test_loss_equals_the_loops(similarity, weighting, queue):
    z, y, zc, yc = sample()
    contrast = {"contrast_latents": zc, "contrast_labels": yc} if queue else {}
    parts = gen_supcon_loss_parts(
        z,
        y,
        temperature=0.3,
        similarity=similarity,
        weighting=weighting,
        **contrast,
    )
    s = oracle.similarities(y.tolist(), (yc if queue else y).tolist(), similarity)
    loss, entropy, chance, _ = oracle.gen_supcon(
        z.tolist(), s, 0.3, zc.tolist() if queue else None, weighting
    )
    assert abs(parts.loss.item() - loss) < 1e-10
    assert abs(parts.entropy.item() - entropy) < 1e-10
    assert abs(parts.chance.item() - chance) < 1e-10


@pytest.mark.parametrize("queue", [False, True])
@pytest.mark.parametrize("weighting", ["normalized", "eq2"])
def test_own_weights_and_mask_equal_the_loops(queue, weighting):
    z, _, zc, _ = sample()
    g = torch.Generator().manual_seed(1)
    weights = torch.rand(7, 5 if queue else 7, dtype=torch.float64, generator=g)
    weights[2] = 0  # resembles nothing
    mask = torch.tensor([True, True, True, False, True, False, True])
    parts = gen_supcon_loss_parts(
        z,
        pair_similarity=weights,
        anchor_weight=mask,
        contrast_latents=zc if queue else None,
        weighting=weighting,
    )
    loss, entropy, chance, skipped = oracle.gen_supcon(
        z.tolist(), weights.tolist(), 0.1, zc.tolist() if queue else None, weighting, mask.tolist()
    )
    assert abs(parts.loss.item() - loss) < 1e-10
    assert abs(parts.entropy.item() - entropy) < 1e-10
    assert abs(parts.chance.item() - chance) < 1e-10
    assert parts.skipped == skipped == 1


@pytest.mark.parametrize("weighting", ["normalized", "eq2"])
@pytest.mark.parametrize("queue", [False, True])
def test_class_numbers_are_one_hot_labels(weighting, queue):
    z, _, zc, _ = sample()
    a, b = torch.tensor([0, 0, 1, 1, 2, 2, 7]), torch.tensor([0, 1, 1, 2, 3])
    numbers = {"contrast_latents": zc, "contrast_labels": b} if queue else {}
    vectors = {"contrast_latents": zc, "contrast_labels": F.one_hot(b, 8).double()} if queue else {}
    by_number = gen_supcon_loss_parts(z, a, weighting=weighting, **numbers)
    one_hot = F.one_hot(a, 8).double()
    by_vector = gen_supcon_loss_parts(z, one_hot, weighting=weighting, **vectors)
    for ours, theirs in zip(by_number, by_vector, strict=True):
        assert torch.allclose(ours.double(), theirs.double(), atol=1e-12)
    assert by_number.skipped == 1  # class 7 is alone


def test_one_hot_labels_give_supcontrast():
    z, *_ = sample(rows=8)
    classes = [0, 0, 1, 1, 2, 2, 0, 1]
    one_hot = F.one_hot(torch.tensor(classes)).double()
    ours = gen_supcon_loss(z, one_hot, temperature=0.1, base_temperature=0.07)
    assert abs(ours.item() - oracle.supcon_out(z.tolist(), classes, 0.1, 0.07)) < 1e-10


def test_instance_labels_give_simclr():
    z, *_ = sample(rows=8)
    ours = gen_supcon_loss(torch.stack([z[:4], z[4:]], dim=1), temperature=0.5)
    assert abs(ours.item() - oracle.nt_xent(z[:4].tolist(), z[4:].tolist(), 0.5)) < 1e-10


@pytest.mark.parametrize("one_hot", [False, True])
def test_agrees_with_pytorch_metric_learning(one_hot):
    g = torch.Generator().manual_seed(3)
    z, labels = torch.randn(64, 16, generator=g), torch.randint(5, (64,), generator=g)
    ours = gen_supcon_loss(z, F.one_hot(labels).float() if one_hot else labels, temperature=0.1)
    assert abs(ours - SupConLoss(temperature=0.1)(z, labels)) < 1e-6


@pytest.mark.parametrize("weighting", ["normalized", "eq2"])
def test_gradients(weighting):
    z, y, zc, yc = sample()
    z, zc = z.requires_grad_(), zc.requires_grad_()
    assert torch.autograd.gradcheck(lambda a: gen_supcon_loss(a, y, weighting=weighting), z)
    assert torch.autograd.gradcheck(
        lambda a: gen_supcon_loss(a, torch.arange(7) % 3, weighting=weighting), z
    )
    assert torch.autograd.gradcheck(
        lambda a: gen_supcon_loss(a, pair_similarity=y @ y.T, weighting=weighting), z
    )
    assert torch.autograd.gradcheck(
        lambda a, b: gen_supcon_loss(
            a, y, contrast_latents=b, contrast_labels=yc, weighting=weighting
        ),
        (z, zc),
    )


def test_base_temperature_multiplies():
    z, y, *_ = sample()
    assert torch.isclose(
        gen_supcon_loss(z, y, base_temperature=0.07), gen_supcon_loss(z, y) * 0.1 / 0.07
    )


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(2, 12),
    classes=st.integers(1, 6),
    dim=st.integers(1, 5),
    seed=st.integers(0, 1000),
    sharpness=st.floats(0, 30),
    temperature=st.floats(0.05, 2),
)
def test_invariants(rows, classes, dim, seed, sharpness, temperature):
    z, y, *_ = sample(rows, 2, dim, classes, seed, sharpness)
    g = torch.Generator().manual_seed(seed)
    parts = gen_supcon_loss_parts(z, y, temperature=temperature)
    assert parts.kl > -1e-10  # the floor
    assert torch.isclose(parts.loss, parts.entropy + parts.kl)
    order, names = torch.randperm(rows, generator=g), torch.randperm(classes, generator=g)
    turn = torch.linalg.qr(torch.randn(dim, dim, generator=g, dtype=torch.float64)).Q
    lengths = torch.rand(rows, 1, generator=g, dtype=torch.float64) + 0.1
    for same in (
        gen_supcon_loss(z[order], y[order], temperature=temperature),
        gen_supcon_loss(z, y[:, names], temperature=temperature),
        gen_supcon_loss(z @ turn, y, temperature=temperature),
        gen_supcon_loss(z * lengths, y, temperature=temperature),
        gen_supcon_loss(z, pair_similarity=label_similarity(y), temperature=temperature),
    ):
        assert torch.isclose(same, parts.loss, rtol=1e-8, atol=1e-10)


def test_kl_reaches_zero_where_latents_can_follow_labels():
    """Latents whose scores are log s, up to a constant, have loss = entropy; here all are alike."""
    z, y = torch.ones(6, 3), torch.full((6, 4), 0.25)
    parts = gen_supcon_loss_parts(z, y)
    assert torch.allclose(parts.loss, torch.tensor(math.log(5))) and parts.kl.abs() < 1e-6


def test_views_are_rows():
    g = torch.Generator().manual_seed(0)
    z = torch.randn(5, 3, 4, generator=g)
    y, each = torch.rand(5, 6, generator=g).softmax(1), torch.rand(5, 3, 6, generator=g).softmax(2)
    rows = torch.cat(z.unbind(1))
    assert torch.equal(gen_supcon_loss(z, y), gen_supcon_loss(rows, y.repeat(3, 1)))
    assert torch.equal(gen_supcon_loss(z, each), gen_supcon_loss(rows, torch.cat(each.unbind(1))))
    classes = torch.arange(5) // 2
    assert torch.equal(gen_supcon_loss(z, classes), gen_supcon_loss(rows, classes.repeat(3)))
    mask = torch.rand(5, 3, generator=g) < 0.5
    assert torch.equal(
        gen_supcon_loss(z, y, anchor_weight=mask),
        gen_supcon_loss(rows, y.repeat(3, 1), anchor_weight=torch.cat(mask.unbind(1))),
    )


def test_views_take_own_weights():
    z, s = torch.randn(5, 2, 4), torch.rand(10, 10)
    assert torch.equal(
        gen_supcon_loss(z, pair_similarity=s),
        gen_supcon_loss(torch.cat(z.unbind(1)), pair_similarity=s),
    )


@pytest.mark.parametrize("size", [1e-39, 1e38])
def test_tiny_and_huge_weights_keep_their_digits(size):
    z = torch.randn(6, 4, requires_grad=True)
    s = torch.rand(6, 6, generator=torch.Generator().manual_seed(0)) + 0.5
    scaled = gen_supcon_loss(z, pair_similarity=s * size)
    scaled.backward()
    assert (
        torch.isclose(scaled, gen_supcon_loss(z, pair_similarity=s), rtol=1e-4)
        and torch.isfinite(z.grad).all()
    )


@pytest.mark.parametrize("tiny, skipped", [(1e-39, 3), (1e-28, 1)])
def test_tiny_label_similarities_give_finite_gradients(tiny, skipped):
    z = torch.randn(3, 4, requires_grad=True)
    y = torch.tensor([[1.0, tiny, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    parts = gen_supcon_loss_parts(z, y)
    parts.loss.backward()
    assert parts.skipped == skipped and torch.isfinite(parts.loss) and torch.isfinite(z.grad).all()


def test_half_precision_distributions_are_distributions():
    g = torch.Generator().manual_seed(0)
    for dtype in (torch.bfloat16, torch.float16):
        y = torch.randn(64, 10, generator=g).softmax(1).to(dtype)
        assert torch.isfinite(gen_supcon_loss(torch.randn(64, 8, generator=g), y))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert label_similarity(y.float()).dtype == torch.float32


def test_lonely_anchors_give_no_nan():
    z = torch.randn(3, 4, requires_grad=True)
    apart = torch.tensor([[1.0, 0, 0, 0], [0, 0.3, 0.7, 0], [0, 0, 0, 1.0]])
    for labels in (torch.arange(3), torch.eye(3), apart):
        parts = gen_supcon_loss_parts(z, labels)
        parts.loss.backward()
        assert parts.loss == 0 and parts.skipped == 3 and (z.grad == 0).all()


def test_a_nearly_lonely_anchor_keeps_its_digits():
    """The self term is 1e14 times what is left; the loss must still be the dense one's."""
    y = torch.tensor([[1.0, 1e-7, 0.0], [0.0, 2e-7, 1.0], [0.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    z = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    s = oracle.similarities(y.double().tolist(), y.double().tolist())
    assert (
        abs(gen_supcon_loss(z, y).item() - oracle.gen_supcon(z.double().tolist(), s, 0.1)[0]) < 1e-4
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_float32_under_autocast_and_for_half_latents(dtype):
    z, y, *_ = sample(rows=16)
    z, y = z.to(dtype), y.float()
    expected = gen_supcon_loss(z.float(), y)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = gen_supcon_loss(z, y)
    assert loss.dtype == torch.float32 and torch.equal(loss, expected)


def test_large_scores_do_not_overflow():
    z, y, *_ = sample()
    assert torch.isfinite(gen_supcon_loss(z.float() * 1e6, y.float(), temperature=0.001))


def loss_by_matrices(z, labels, contrasts=None, contrast_labels=None):
    """Cross-entropy of whole matrices, of rows brought to unit length by torch."""
    unit = F.normalize(z, dim=1)
    score = unit @ (unit if contrasts is None else F.normalize(contrasts, dim=1)).T / 0.1
    alike = (labels[:, None] == (labels if contrasts is None else contrast_labels)).to(z)
    if contrasts is None:
        itself = torch.eye(len(z), dtype=torch.bool)
        score, alike = score.masked_fill(itself, -1e9), alike.masked_fill(itself, 0)
    return -(alike / alike.sum(1, keepdim=True) * score.log_softmax(1)).sum(1).mean()


@pytest.mark.parametrize(
    "backend, dtype, length, queue",
    pairwise(
        ["dense", "streamed"],
        [torch.float64, torch.float32, torch.bfloat16, torch.float16],
        [0.0, 1e-30, 1e-20, 1e-13],
        [False, True],
    ),
)
def test_a_row_without_direction_learns_nothing(backend, dtype, length, queue):
    """It stays what it was to the others; they learn as ever, and nobody's gradient is large."""
    g = torch.Generator().manual_seed(0)
    z, c = (torch.randn(n, 4, generator=g, dtype=torch.float64) for n in (12, 9))
    z[5], c[2] = z[5] * length, c[2] * length
    labels, others = torch.arange(12) % 3, torch.arange(9) % 3
    leaves = [t.to(dtype).requires_grad_() for t in (z, c)[: 1 + queue]]
    exact = [t.detach().double().requires_grad_() for t in leaves]
    contrast = {"contrast_latents": leaves[1], "contrast_labels": others} if queue else {}
    loss, expected = (
        gen_supcon_loss(leaves[0], labels, backend=backend, **contrast),
        loss_by_matrices(exact[0], labels, *exact[1:], *([others] if queue else [])),
    )
    loss.backward()
    expected.backward()
    rtol = {torch.float64: 1e-10, torch.float32: 1e-4}.get(dtype, 1e-2)
    assert torch.isclose(loss.double(), expected, rtol=rtol)
    for ours, theirs, short in zip(leaves, exact, (5, 2)[: 1 + queue], strict=True):
        assert (ours.grad[short] == 0).all() and ours.grad.abs().max() < 20
        there = torch.arange(len(ours)) != short
        assert torch.allclose(ours.grad[there].double(), theirs.grad[there], rtol=rtol, atol=rtol)


def test_half_precision_rows_of_subnormal_numbers_have_no_direction():
    z = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    z[1], z[2] = z[1] * 1e-6, z[2] * 1e-2
    z = z.half().requires_grad_()
    gen_supcon_loss(z, torch.arange(6) % 2).backward()
    assert (z.grad[1] == 0).all() and (z.grad[2] != 0).all() and torch.isfinite(z.grad).all()


def test_a_view_without_direction_learns_nothing():
    z = torch.randn(6, 2, 4)
    z[3, 1] = 0
    z.requires_grad_()
    gen_supcon_loss(z, torch.arange(6) % 2).backward()
    assert (z.grad[3, 1] == 0).all() and (z.grad[3, 0] != 0).any() and z.grad.abs().max() < 50


@pytest.mark.parametrize("scale", [1e-10, 1.0, 1e17, 1e25, 3e37])
def test_unit_rows_of_any_length(scale):
    rows = (torch.randn(5, 4, generator=torch.Generator().manual_seed(0)) * scale).requires_grad_()
    exact = rows.detach().double().requires_grad_()
    weights = torch.arange(20.0).reshape(5, 4)
    (unit_rows(rows, torch.float32) * weights).sum().backward()
    (F.normalize(exact, dim=1) * weights).sum().backward()
    assert torch.allclose(
        unit_rows(rows, torch.float32).double(), F.normalize(exact, dim=1), atol=1e-6
    )
    assert torch.allclose(rows.grad.double() * scale, exact.grad * scale, rtol=1e-4, atol=1e-4)


def test_rows_without_direction_can_be_differentiated_twice():
    z = torch.randn(6, 4, dtype=torch.float64)
    z[2] = 0
    z.requires_grad_()
    first = torch.autograd.grad(
        gen_supcon_loss(z, torch.arange(6) % 2, backend="dense"), z, create_graph=True
    )[0]
    first.square().sum().backward()
    assert torch.isfinite(z.grad).all() and (z.grad[2] == 0).all() and (z.grad[0] != 0).all()


def test_multi_hot_rows_become_distributions_of_the_same_cosines():
    hot = torch.tensor([[1, 0, 1], [0, 1, 1], [1, 1, 1], [0, 0, 1]])
    for labels in (hot, hot.float(), hot.double()):
        for z in (torch.randn(4, 5), torch.randn(4, 2, 5)):
            with pytest.raises(ValueError, match="labels.*labels / labels.sum.dim=1, keepdim=True"):
                gen_supcon_loss(z, labels)
    labels = hot / hot.sum(dim=1, keepdim=True)
    expected = F.cosine_similarity(hot.float()[:, None], hot.float()[None], dim=2)
    assert torch.allclose(label_similarity(labels), expected)
    z = torch.randn(4, 5)
    assert torch.isclose(gen_supcon_loss(z, labels), gen_supcon_loss(z, pair_similarity=expected))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.uint16, torch.int64])
def test_class_numbers_of_any_type(dtype):
    z, numbers = torch.randn(6, 4), torch.tensor([200, 0, 200, 7, 0, 7])
    expected, s = gen_supcon_loss(z, numbers), label_similarity(numbers)
    assert torch.equal(gen_supcon_loss(z, numbers.to(dtype)), expected)
    assert torch.equal(label_similarity(numbers.to(dtype), numbers), s)
    mixed = label_similarity(torch.eye(3, dtype=torch.float64), torch.eye(3))
    assert torch.equal(mixed.float(), torch.eye(3))


def test_entropy_by_blocks_of_rows():
    z, y, *_ = sample(rows=2500)
    s = label_similarity(y).fill_diagonal_(0)
    w = s / s.sum(1, keepdim=True)
    entropy = gen_supcon_loss_parts(z, y).entropy
    assert torch.isclose(entropy, torch.special.entr(w).sum(1).mean())


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_label_similarity_equals_the_loops(similarity):
    _, y, _, yc = sample()
    ours = label_similarity(y, yc, similarity)
    expected = oracle.similarities(y.tolist(), yc.tolist(), similarity)
    assert torch.allclose(ours, torch.tensor(expected, dtype=torch.float64))


def test_module_keeps_options():
    z, y, *_ = sample()
    module = GenSupConLoss(temperature=0.2, weighting="eq2")
    assert torch.equal(module(z, y), gen_supcon_loss(z, y, temperature=0.2, weighting="eq2"))
    assert "temperature=0.2" in repr(module)
    with pytest.raises(ValueError, match="similarity: 'cosin'"):
        GenSupConLoss(similarity="cosin")
    with pytest.raises(TypeError, match="temprature"):
        GenSupConLoss(temprature=0.2)


Z, Y = torch.randn(4, 3), torch.softmax(torch.randn(4, 5), 1)
BAD = {
    "labels: expected 4 rows": dict(labels=Y[:3]),
    "labels: expected .* got None": dict(labels=None),
    "labels: .*row 2 sums to 2": dict(labels=torch.cat([Y[:2], Y[2:3] * 2, Y[3:]])),
    "labels: .*row 1 sums to 0": dict(labels=torch.cat([Y[:1], Y[1:2] * 0, Y[2:]])),
    "labels: .*row 0 holds a negative value, -0.5": dict(labels=torch.tensor([[1.5, -0.5]] * 4)),
    "labels: .*row 0 holds NaN": dict(labels=Y * float("nan")),
    "labels: expected class numbers >= 0, got -1": dict(labels=torch.tensor([0, 1, -1, 2])),
    "labels: expected integers": dict(labels=torch.rand(4)),
    "labels: expected floating point distributions": dict(
        labels=torch.ones(4, 5, dtype=torch.int64)
    ),
    "latents: expected floating point": dict(latents=torch.randn(4)),
    "latents: expected at least 2": dict(latents=Z[:1], labels=Y[:1]),
    "latents: holds NaN or infinity in 1 of 4": dict(
        latents=torch.cat([Z[:3], Z[3:] * float("inf")])
    ),
    "temperature: .* got 0": dict(temperature=0),
    "temperature: .* got -1": dict(temperature=-1.0),
    "base_temperature: ": dict(base_temperature=-0.1),
    "similarity: 'cosin' .*did you mean 'cosine'": dict(similarity="cosin"),
    "similarity: expected the function to return shape": dict(similarity=lambda y, others: y),
    "similarity: .* finite values >= 0": dict(similarity=lambda y, others: -(y @ others.T)),
    "weighting: 'eq3' .*did you mean 'eq2'": dict(weighting="eq3"),
    "gather_distributed: expected True or False, got 'anchor'": dict(gather_distributed="anchor"),
    "give both or neither": dict(contrast_latents=Z),
    "contrast_latents: expected latent size 3": dict(contrast_latents=Z[:, :2], contrast_labels=Y),
    "contrast_labels: expected the kind": dict(contrast_latents=Z, contrast_labels=torch.arange(4)),
    "contrast_labels: expected 4 rows": dict(contrast_latents=Z, contrast_labels=Y[:2]),
    "contrast_latents: expected at least one": dict(contrast_latents=Z[:0], contrast_labels=Y[:0]),
    "pair_similarity: it takes the place": dict(pair_similarity=torch.ones(4, 4)),
    r"pair_similarity: expected shape \(4, 4\)": dict(
        labels=None, pair_similarity=torch.ones(4, 5)
    ),
    "pair_similarity: expected finite values": dict(labels=None, pair_similarity=-torch.ones(4, 4)),
    r"anchor_weight: expected numbers of shape \(4,\), got torch.bool of shape \(3,\)": dict(
        anchor_weight=torch.ones(3, dtype=torch.bool)
    ),
    "anchor_weight: expected finite numbers >= 0": dict(anchor_weight=-torch.ones(4)),
    "mask: it takes the place": dict(mask=torch.ones(4, 4)),
    r"mask: expected shape \(4, 4\)": dict(latents=torch.randn(2, 2, 3), labels=None, mask=Z),
    "labels: expected one for each of 2 images": dict(latents=torch.randn(2, 2, 3)),
    "labels: expected a Tensor, or a list of pairs": dict(labels=[0, 0, 1, 1]),
    "labels: expected a Tensor, got ndarray": dict(labels=torch.arange(4).numpy()),
    "labels: expected integers as class numbers .*float32": dict(
        labels=torch.tensor([0.0, 1.0, 0.0, 1.0])
    ),
    "labels: expected integers as class numbers .*complex": dict(labels=torch.arange(4) * 1j),
    "labels: .* an integer or C probabilities, got torch.float32": dict(
        latents=torch.randn(4, 2, 3), labels=torch.rand(4)
    ),
    r"labels: .* got torch.int64 of shape \(\)": dict(labels=torch.tensor(1)),
    r"labels: .* got torch.float32 of shape \(4, 0\)": dict(labels=torch.zeros(4, 0)),
    "labels: .* row 0 sums to 0, not 1$": dict(labels=torch.zeros(4, 3)),
    "latents: expected a Tensor, got NoneType": dict(latents=None),
    "latents: expected a Tensor, got ndarray": dict(latents=Z.numpy()),
    "latents: expected at least one row and column": dict(latents=Z[:, :0]),
    "latents: expected at least one row": dict(
        latents=Z[:0], labels=Y[:0], contrast_latents=Z, contrast_labels=Y
    ),
    "anchor_weight: expected a Tensor, got list": dict(anchor_weight=[True] * 4),
    "pair_similarity: expected a Tensor, got list": dict(
        labels=None, pair_similarity=[[1.0] * 4] * 4
    ),
    "pair_similarity: expected finite": dict(labels=None, pair_similarity=torch.ones(4, 4) * 1j),
    "similarity: expected a Tensor, got list": dict(similarity=lambda y, others: [1.0]),
    "temperature: expected a number above 0, from 1e-30 to 1e30, got 1e-40": dict(
        temperature=1e-40
    ),
    "temperature: expected a number above 0, got -0.5": dict(temperature=torch.tensor(-0.5)),
    "temperature: expected a number above 0, got 0.0": dict(
        temperature=torch.nn.Parameter(torch.zeros(()))
    ),
    "temperature: expected a number above 0, got nan": dict(temperature=torch.tensor(float("nan"))),
    "temperature: expected a number above 0, got .0.5, 0.5": dict(
        temperature=torch.tensor([0.5, 0.5])
    ),
    "temperature: expected a number above 0, got True": dict(temperature=torch.tensor(True)),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_named(message):
    with pytest.raises(ValueError, match=message):
        gen_supcon_loss(**({"latents": Z, "labels": Y} | BAD[message]))
