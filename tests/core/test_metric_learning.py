"""The loss as pytorch-metric-learning calls it, against that library's own."""

import pytest
import torch
from pytorch_metric_learning import losses, miners, reducers, regularizers
from pytorch_metric_learning.distances import LpDistance

from genscl_lite import gen_supcon_loss
from genscl_lite.metric_learning import SupConLoss

DRAW = torch.Generator().manual_seed(0)
Z, REF = torch.randn(20, 6, generator=DRAW), torch.randn(13, 6, generator=DRAW)
NUMBERS, REF_NUMBERS = torch.arange(20) % 4, torch.arange(13) % 5
SOFT, REF_SOFT = (torch.randn(n, 4, generator=DRAW).mul(2).softmax(1) for n in (20, 13))


def loss_and_gradient(loss, *arguments, **options):
    z = Z.clone().requires_grad_()
    value = loss(z, *arguments, **options)
    value.backward()
    return value.detach(), z.grad


def same(ours, theirs, *arguments, **options):
    pairs = zip(
        loss_and_gradient(ours, *arguments, **options),
        loss_and_gradient(theirs, *arguments, **options),
        strict=True,
    )
    return all(torch.allclose(a, b, atol=1e-6) for a, b in pairs)


def test_class_numbers_give_their_loss():
    ours, theirs = SupConLoss(temperature=0.2), losses.SupConLoss(temperature=0.2)
    assert same(ours, theirs, NUMBERS)
    assert same(ours, theirs, NUMBERS, ref_emb=REF, ref_labels=REF_NUMBERS)
    alone = NUMBERS.clone()
    alone[:3] = torch.tensor([7, 8, 9])  # anchors without a positive are left out
    assert same(ours, theirs, alone)


@pytest.mark.parametrize(
    "miner",
    [
        miners.MultiSimilarityMiner(epsilon=0.3),
        miners.TripletMarginMiner(margin=0.3),
        miners.BatchHardMiner(),
    ],
)
def test_pairs_and_triplets_of_a_miner_are_the_contrasts(miner):
    ours, theirs = SupConLoss(temperature=0.2), losses.SupConLoss(temperature=0.2)
    own, of_refs = miner(Z, NUMBERS), miner(Z, NUMBERS, REF, REF_NUMBERS)
    assert same(ours, theirs, NUMBERS, own)
    assert same(ours, theirs, None, own)
    assert same(ours, theirs, NUMBERS, of_refs, REF, REF_NUMBERS)
    assert not same(ours, lambda z, y, pairs: theirs(z, y), NUMBERS, own)


@pytest.mark.parametrize(
    "reducer", [reducers.MeanReducer(), reducers.ThresholdReducer(low=1.0, high=9.0)]
)
def test_reducers_and_regularizers_get_the_losses_of_elements(reducer):
    options = {"reducer": reducer, "embedding_regularizer": regularizers.LpRegularizer()}
    assert same(SupConLoss(0.2, **options), losses.SupConLoss(0.2, **options), NUMBERS)
    weights = torch.tensor([1.0, 2.0, 3.0, 4.0])
    by_class = (
        kind(0.2, reducer=reducers.ClassWeightedReducer(weights))
        for kind in (SupConLoss, losses.SupConLoss)
    )
    assert same(*by_class, NUMBERS)


def test_wrappers_take_it_for_their_own():
    memories = [
        losses.CrossBatchMemory(kind(temperature=0.2), embedding_size=6, memory_size=30)
        for kind in (SupConLoss, losses.SupConLoss)
    ]
    for _ in range(3):  # until the memory is full and begins anew
        assert same(*memories, NUMBERS)
    views = [losses.SelfSupervisedLoss(kind(0.2)) for kind in (SupConLoss, losses.SupConLoss)]
    assert same(*views, Z.flip(1))


def test_labels_may_be_distributions():
    loss = SupConLoss(temperature=0.2, reducer=reducers.MeanReducer())
    expected = gen_supcon_loss(Z, SOFT, temperature=0.2)
    assert torch.isclose(loss(Z, SOFT), expected)
    refs = {"contrast_latents": REF, "contrast_labels": REF_SOFT}
    assert torch.isclose(
        loss(Z, SOFT, ref_emb=REF, ref_labels=REF_SOFT),
        gen_supcon_loss(Z, SOFT, **refs, temperature=0.2),
    )
    every = torch.cartesian_prod(torch.arange(20), torch.arange(13)).unbind(1)
    none = every[0][:0], every[1][:0]
    for pairs in ((*every, *none), (*none, *every)):  # their labels say how alike they are
        assert torch.isclose(
            loss(Z, SOFT, pairs, REF, REF_SOFT), loss(Z, SOFT, None, REF, REF_SOFT)
        )


def test_a_matrix_of_classes_makes_different_classes_alike():
    matrix = torch.eye(4) + 0.3
    loss = SupConLoss(0.2, similarity=matrix, reducer=reducers.MeanReducer())
    assert torch.isclose(
        loss(Z, NUMBERS), gen_supcon_loss(Z, NUMBERS, temperature=0.2, similarity=matrix)
    )
    every = torch.ones(20, 20).fill_diagonal_(0).nonzero().unbind(1)
    none = every[0][:0], every[1][:0]
    assert torch.isclose(loss(Z, NUMBERS, (*every, *none)), loss(Z, NUMBERS))


def test_half_precision_and_large_batches():
    z = torch.randn(700, 8, generator=DRAW).bfloat16()
    y = torch.arange(700) % 9
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = SupConLoss(0.2)(z, y)
        miner = miners.MultiSimilarityMiner()
        mined = SupConLoss(0.2)(z, y, miner(z, y))
    assert value.dtype == mined.dtype == torch.float32
    assert torch.isclose(value, losses.SupConLoss(0.2)(z.float(), y), rtol=1e-5)


def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match="distance: expected CosineSimilarity, got LpDistance"):
        SupConLoss(distance=LpDistance())
    with pytest.raises(ValueError, match="similarity: "):
        SupConLoss(similarity="cosin")
    with pytest.raises(ValueError, match="labels: expected 20 rows"):
        SupConLoss()(Z, NUMBERS[:5])
