"""Several label distributions of a row are one target: one log Z, the true floor."""

import pytest
import torch
import torch.nn.functional as F

from genscl_lite import gen_supcon_loss, gen_supcon_loss_parts, label_sums, log_partition
from genscl_lite.similarity import label_similarity
from tests import oracle


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setitem(log_partition.TILE, "cpu", 5)
    monkeypatch.setattr(label_sums, "BLOCK_ELEMENTS", 64)


def sample(rows=13, contrasts=9):
    g = torch.Generator().manual_seed(0)

    def make(n):
        z = torch.randn(n, 5, generator=g, dtype=torch.float64)
        soft = torch.softmax(3 * torch.randn(n, 4, generator=g, dtype=torch.float64), dim=1)
        return z, torch.randint(4, (n,), generator=g), soft

    return *make(rows), *make(contrasts)


@pytest.mark.parametrize("backend", ["dense", "streamed"])
@pytest.mark.parametrize("weighting", ["normalized", "eq2"])
@pytest.mark.parametrize("queue", [False, True])
def test_loss_floor_and_chance_equal_the_loops(backend, weighting, queue):
    """Class numbers with a weight of 0.5 and distributions with 2; anchor 3 alone has its class."""
    z, numbers, soft, zc, key_numbers, key_soft = sample()
    numbers[3] = 7
    hot, key_hot = (F.one_hot(n, 8).tolist() for n in (numbers, key_numbers))
    others = (key_hot, key_soft.tolist()) if queue else (hot, soft.tolist())
    targets = [
        (0.5, oracle.similarities(hot, others[0])),
        (2.0, oracle.similarities(soft.tolist(), others[1])),
    ]
    expected = oracle.gen_supcon(
        z.tolist(), targets, 0.3, zc.tolist() if queue else None, weighting
    )
    contrast = {"contrast_latents": zc, "contrast_labels": [key_numbers, key_soft]}
    parts = gen_supcon_loss_parts(
        z,
        [(0.5, numbers), (2.0, soft)],
        temperature=0.3,
        weighting=weighting,
        backend=backend,
        **(contrast if queue else {}),
    )
    for ours, theirs in zip((parts.loss, parts.entropy, parts.chance), expected[:3], strict=True):
        assert abs(ours.item() - theirs) < 1e-10
    assert parts.skipped == expected[3] == 0
    assert torch.isclose(parts.loss, parts.entropy + parts.kl)


@pytest.mark.parametrize("backend", ["dense", "streamed"])
def test_it_is_the_weighted_sum_of_losses_and_gradients(backend):
    z, _, soft, *_ = sample()
    z.requires_grad_()
    other = soft.flip(0)

    def of(labels):
        loss = gen_supcon_loss(z, labels, backend=backend)
        return torch.stack([loss, *torch.autograd.grad(loss, z)[0].flatten()])

    both = of([(1.0, soft), (0.7, other)])
    assert torch.allclose(both, of(soft) + 0.7 * of(other), rtol=1e-10, atol=1e-14)
    assert torch.equal(of([(0, soft), (1, other)]), of(other))  # the teacher alone


def test_the_floor_can_be_reached_where_the_sum_of_entropies_cannot():
    """Scores that are the logarithm of the mixture v, which contrasts of any length could give."""
    s = torch.rand(2, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    w = F.normalize(s * (1 - torch.eye(6)), p=1, dim=2)
    v = w.mean(dim=0)
    floor = 2 * torch.special.entr(v).sum(dim=1)
    entropies = torch.special.entr(w).sum(dim=(0, 2))
    sums = [label_sums.PairSums(each.__getitem__, (6, 6), self_offset=0) for each in s]
    assert torch.allclose(label_sums.Targets(sums).entropy(torch.full((6,), 2.0)), floor)
    assert (floor > entropies + 1e-3).all()


def test_one_partition_function_serves_all(monkeypatch):
    calls, whole = [], log_partition._streamed
    monkeypatch.setattr(log_partition, "_streamed", lambda *a: calls.append(1) or whole(*a))
    z, numbers, soft, *_ = sample()
    gen_supcon_loss_parts(z, [(1.0, numbers), (1.0, soft), (1.0, soft.flip(0))], backend="streamed")
    assert len(calls) == 1


def test_views_share_each_of_the_labels():
    z, numbers, soft, *_ = sample(rows=12)
    ours = gen_supcon_loss(z.reshape(6, 2, 5), [(1.0, numbers[:6]), (1.0, soft.reshape(6, 2, 4))])
    rows = torch.cat(z.reshape(6, 2, 5).unbind(1))
    labels = [(1.0, numbers[:6].repeat(2)), (1.0, torch.cat(soft.reshape(6, 2, 4).unbind(1)))]
    assert torch.equal(ours, gen_supcon_loss(rows, labels))


def test_any_similarity_compares_each_of_the_labels():
    z, _, soft, *_ = sample()
    s = [label_similarity(y, similarity="inner_product") for y in (soft, soft.flip(0))]
    named = gen_supcon_loss(z, [(1.0, soft), (2.0, soft.flip(0))], similarity="inner_product")
    own = gen_supcon_loss(
        z, [(1.0, soft), (2.0, soft.flip(0))], similarity=lambda y, others: y @ others.T
    )
    expected = sum(
        a * gen_supcon_loss(z, pair_similarity=each) for a, each in zip((1, 2), s, strict=True)
    )
    assert torch.isclose(named, expected) and torch.isclose(own, expected)


@pytest.mark.parametrize(
    "labels, contrast_labels, message",
    [
        ([], None, "labels: expected a Tensor, or a list of pairs"),
        ([(1.0,)], None, "labels: expected a Tensor, or a list of pairs"),
        ([(0.0, 0), (0.0, 0)], None, "labels: expected weights >= 0, one of them above 0"),
        ([(1.0, 0), (-1.0, 0)], None, "labels: expected weights >= 0, one of them above 0"),
        ([("1", 0)], None, "labels: expected weights >= 0"),
        ([(1.0, [0, 1])], None, "labels: expected a Tensor, got list"),
        ([(1.0, 0), (1.0, 0)], 0, "contrast_labels: expected a list of 2 Tensors, as labels are"),
        ([(1.0, 0), (1.0, 0)], [0], "contrast_labels: expected a list of 2 Tensors"),
    ],
)
def test_bad_pairs_are_named(labels, contrast_labels, message):
    """A 0 stands for class numbers."""
    z, numbers, *_ = sample()

    def filled(value):
        if isinstance(value, list | tuple) and value != [0, 1]:
            return type(value)(numbers if v == 0 and type(v) is int else filled(v) for v in value)
        return numbers if type(value) is int else value

    with pytest.raises(ValueError, match=message):
        gen_supcon_loss(
            z,
            filled(labels),
            contrast_latents=None if contrast_labels is None else z,
            contrast_labels=filled(contrast_labels),
        )
