"""The labels' side of the loss: how much each anchor resembles its contrasts, without an (M, K) matrix.

Symbols as in ``losses``. A kind of label has a class here, with two ways to the same numbers: ``weights`` makes
the rows w_i. themselves, for few rows; ``attraction`` makes sum_j w_ij u_ij alone, from sums over contrasts.
``Targets`` adds up several label distributions of a row.

Contrast ``self_offset + i`` is anchor i itself and is left out; the offset is None where all contrasts are
other rows. Scores are u_ij = anchors_i . contrasts_j, (M, E) and (K, E).
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from genscl_lite._checks import check_similarities, require_instances
from genscl_lite.similarity import ClassSimilarity, feature_pair

FEW_ROWS = 512  # up to so many, all labels of a batch are compared at once; sums over blocks would cost more
BLOCK_ELEMENTS = 2**22  # similarities held at once where they are computed block by block


class Targets:
    """Several label distributions of a row as one: v_ij = sum_t a_t w_t,ij / A, with A = sum_t a_t.

    sum_t a_t CE(w_t, p) = A CE(v, p), so one partition function serves all, and the least loss is A H(v):
    not the sum of their entropies, which no p can reach where they disagree.

    Args:
        parts: pairs of a_t and a kind of label below.
        others: |A(i)| for Eq. 2 of GenSCL, where w_t,ij is s_t,ij / |A(i)| instead; None: row-normalized.
    """

    def __init__(self, parts: list[tuple[float, "PairSums | ClassSums"]], others: int | None):
        self.parts, self.others = parts, others

    def _gain(self, weight: float, total: Tensor) -> Tensor:
        """Return a_t sum_j w_t,ij, (M,), for W_i: 0 for an anchor that no contrast resembles."""
        if self.others:
            return total * (weight / self.others)
        return (total > 0).to(total.dtype) * weight

    def weights(self, rows: slice = slice(None)) -> tuple[Tensor, Tensor]:
        """Return A_i v_ij, (rows, K), and A_i, (rows,): the sum of each row."""
        (weight, part), *more = self.parts
        w, total = part.weights(rows)
        gain = self._gain(weight, total)
        if not more and weight == 1 and not self.others:
            return w, gain
        w = w * gain[:, None]
        for weight, part in more:
            other, total = part.weights(rows)
            other_gain = self._gain(weight, total)
            w, gain = torch.addcmul(w, other, other_gain[:, None]), gain + other_gain
        return w, gain

    def attraction(self, anchors: Tensor, contrasts: Tensor) -> tuple[Tensor, Tensor]:
        """Return A_i sum_j v_ij u_ij and A_i, both (M,)."""
        attraction = gain = 0
        for weight, part in self.parts:
            mean, total = part.attraction(anchors, contrasts)
            part_gain = self._gain(weight, total)
            attraction, gain = attraction + part_gain * mean, gain + part_gain
        return attraction, gain

    def entropy(self, rows: int) -> Tensor:
        """Return A_i H(v_i), (rows,), in nats: the least loss of each anchor."""
        (weight, part), *more = self.parts
        if not more and isinstance(part, ClassSums):
            total = part.total(*part.places())
            return self._gain(weight, total) * total.clamp(min=1).log()
        block = max(1, BLOCK_ELEMENTS // part.contrasts)
        blocks = [slice(i, min(i + block, rows)) for i in range(0, rows, block)]
        return torch.cat([row_entropy(*self.weights(rows)) for rows in blocks])


def row_entropy(w: Tensor, gain: Tensor) -> Tensor:
    """Return A H(w / A) = -sum_j w_j log w_j + A log A of rows with sum A, also where that is 0."""
    return torch.special.entr(w).sum(dim=1) - torch.special.entr(gain)


def sums_of(
    labels: Tensor,
    contrast_labels: Tensor,
    similarity: str | ClassSimilarity | Callable[[Tensor, Tensor], Tensor],
    validate: bool,
    *,
    self_offset: int | None,
    dtype: torch.dtype,
) -> "PairSums | ClassSums":
    """Return the kind of sums that these labels and this similarity have."""
    if isinstance(similarity, str) and labels.ndim == 1:
        return ClassSums(labels.long(), contrast_labels.long(), self_offset, dtype)
    if isinstance(similarity, str | ClassSimilarity):
        features = feature_pair(labels, contrast_labels, similarity, dtype, validate)
        return FeatureSums(*features, self_offset)
    size = len(labels), len(contrast_labels)

    def compare(rows: slice) -> Tensor:
        some = labels[rows]
        s, shape = similarity(some, contrast_labels), (len(some), size[1])
        require_instances(Tensor, similarity=s)
        expected = "similarity: expected the function to return"
        check_similarities(expected, s, shape, validate)
        return s.to(dtype)

    return PairSums(compare, size, self_offset)


class PairSums:
    """Any similarity: ``compare`` turns a slice of anchors into (block, K), and again for the gradient."""

    def __init__(
        self, compare: Callable[[slice], Tensor], size: tuple[int, int], self_offset: int | None
    ):
        self.compare, self.self_offset = compare, self_offset
        self.anchors, self.contrasts = size  # M, K

    @classmethod
    def of(
        cls, pair_similarity: Tensor, *, self_offset: int | None, dtype: torch.dtype
    ) -> "PairSums":
        """Take (M, K) similarities that are there already."""
        return cls(lambda rows: pair_similarity[rows].to(dtype), pair_similarity.shape, self_offset)

    def similar_others(self, rows: slice) -> Tensor:
        """Return (rows, K) similarities, 0 to the anchor itself."""
        s = self.compare(rows)
        if self.self_offset is None:
            return s
        return s.diagonal_scatter(s.new_zeros(len(s)), self.self_offset + (rows.start or 0))

    def weights(self, rows: slice) -> tuple[Tensor, Tensor]:
        """Return w_ij, (rows, K), and W_i, (rows,); however small or large they are, no sum is lost."""
        s = self.similar_others(rows)
        largest = s.amax(dim=1)
        s = s / largest.where(largest > 0, 1)[:, None]
        total = s.sum(dim=1)
        return s / total.where(total > 0, 1)[:, None], total * largest

    def attraction(self, anchors: Tensor, contrasts: Tensor) -> tuple[Tensor, Tensor]:
        """Return sum_j w_ij u_ij and W_i, both (M,); where W_i is 0, so is the former."""
        rows = max(1, BLOCK_ELEMENTS // self.contrasts)
        blocks = [slice(i, min(i + rows, self.anchors)) for i in range(0, self.anchors, rows)]
        w, total = self.weights(blocks[0])
        if len(blocks) == 1:
            return ((w @ contrasts) * anchors).sum(dim=1), total
        if not w.requires_grad:
            sums, total = _SumsOfBlocks.apply(contrasts, self.weights, blocks)
            return (sums * anchors).sum(dim=1), total

        def block_sums(rows: slice) -> tuple[Tensor, Tensor]:
            w, total = self.weights(rows)
            return ((w @ contrasts) * anchors[rows]).sum(dim=1), total

        keep = {"use_reentrant": False, "preserve_rng_state": False}
        parts = [checkpoint(block_sums, rows, **keep) for rows in blocks]
        return tuple(torch.cat(part) for part in zip(*parts, strict=True))


class _SumsOfBlocks(torch.autograd.Function):
    """sum_j w_ij c_j, (M, E), and W_i, of weights that are made anew for the gradient, block by block."""

    @staticmethod
    def forward(contrasts: Tensor, weights: Callable, blocks: list[slice]):
        parts = ((w @ contrasts, total) for w, total in map(weights, blocks))
        return tuple(torch.cat(part) for part in zip(*parts, strict=True))

    @staticmethod
    def setup_context(ctx, inputs, output):
        _, ctx.weights, ctx.blocks = inputs
        ctx.mark_non_differentiable(output[1])

    @staticmethod
    def backward(ctx, gradient: Tensor, _):
        return sum(ctx.weights(rows)[0].T @ gradient[rows] for rows in ctx.blocks), None, None


class FeatureSums(PairSums):
    """Distributions, whose similarity is a product of features, s_ij = phi_i . psi_j.

    So sum_j s_ij c_j = phi_i^T (sum_j psi_j c_j^T), and the sum in brackets, (C, E), is the same for all
    anchors. Taking an anchor's own term out of it afterwards can cancel every digit. So that term is never
    put in: an anchor meets the rows of its own block one by one, and all other blocks as sums.
    """

    def __init__(self, phi: Tensor, psi: Tensor, self_offset: int | None):
        super().__init__(lambda rows: phi[rows] @ psi.T, (len(phi), len(psi)), self_offset)
        self.phi, self.psi = phi, psi

    def weights(self, rows: slice) -> tuple[Tensor, Tensor]:
        s = self.similar_others(rows)
        total = _not_tiny(s.sum(dim=1))
        return s / total.where(total > 0, math.inf)[:, None], total

    def attraction(self, anchors: Tensor, contrasts: Tensor) -> tuple[Tensor, Tensor]:
        # beside each contrast a 1: the last column of a sum over contrasts is that of the similarities alone
        values = torch.cat([contrasts, contrasts.new_ones(len(contrasts), 1)], dim=1)  # (K, E + 1)
        if self.self_offset is None:
            sums = self.phi @ (self.psi.T @ values)  # (M, E + 1)
        else:
            batch = slice(self.self_offset, self.self_offset + len(anchors))
            sums = _sums_over_others(self.phi, self.psi[batch], values[batch])
            if len(anchors) < len(contrasts):  # rows of other processes
                for rest in (slice(0, batch.start), slice(batch.stop, None)):
                    sums = sums + self.phi @ (self.psi[rest].T @ values[rest])
        total = _not_tiny(sums[:, -1])
        return _ratio((sums[:, :-1] * anchors).sum(dim=1), total), total


def _not_tiny(total: Tensor) -> Tensor:
    """Return 0 for sums so small that a gradient divided by them would overflow."""
    return total.where(total > 1e8 * torch.finfo(total.dtype).tiny, 0)


def _ratio(value: Tensor, total: Tensor) -> Tensor:
    """Return value / total, and 0 where the total is 0."""
    return value.where(total > 0, 0) / total.where(total > 0, 1)


def _sums_over_others(phi: Tensor, psi: Tensor, values: Tensor) -> Tensor:
    """Return sum_{j != i} (phi_i . psi_j) v_j, (M, E), for (M, C) features and (M, E) values v."""
    rows, classes, columns = *phi.shape, values.shape[1]
    if rows <= FEW_ROWS:
        return ((phi @ psi.T) * _zero_diagonal(rows, phi)) @ values
    # a block so large that both parts below cost about the same
    size = max(32, math.isqrt(classes * columns) // 2)
    phi, psi, values = (
        F.pad(t, (0, 0, 0, -rows % size)).unflatten(0, (-1, size)) for t in (phi, psi, values)
    )
    within_block = (phi @ psi.mT) * _zero_diagonal(size, phi)  # (blocks, size, size)
    block_sums = (psi.mT @ values).flatten(1)  # (blocks, C * E)
    other_blocks = (_zero_diagonal(len(phi), phi) @ block_sums).unflatten(1, (classes, columns))
    return (within_block @ values + phi @ other_blocks).flatten(0, 1)[:rows]


def _zero_diagonal(size: int, like: Tensor) -> Tensor:
    return 1 - torch.eye(size, dtype=like.dtype, device=like.device)


class ClassSums:
    """Class numbers, s_ij = 1 where they are equal, else 0: sums over classes, never a one-hot matrix."""

    def __init__(
        self, labels: Tensor, contrast_labels: Tensor, self_offset: int | None, dtype: torch.dtype
    ):
        self.labels, self.contrast_labels = labels, contrast_labels
        self.self_offset, self.dtype, self.contrasts = self_offset, dtype, len(contrast_labels)

    def weights(self, rows: slice) -> tuple[Tensor, Tensor]:
        same = (self.labels[rows, None] == self.contrast_labels).to(self.dtype)  # (rows, K)
        if self.self_offset is not None:
            same.diagonal(self.self_offset + (rows.start or 0)).fill_(0)
        total = same.sum(dim=1)
        return same / total.clamp(min=1)[:, None], total

    def places(self) -> tuple[Tensor, Tensor]:
        """Return classes renumbered 0, 1, ... in order: of the anchors, (M,), and the contrasts, (K,)."""
        both = torch.cat([self.labels, self.contrast_labels])
        ordered, order = both.sort()
        place = F.pad((ordered[1:] != ordered[:-1]).cumsum(dim=0), (1, 0))
        places = torch.empty_like(place).scatter_(0, order, place)
        return places.split([len(self.labels), len(self.contrast_labels)])

    def total(self, own: Tensor, others: Tensor) -> Tensor:
        """Return W_i, (M,): how many others are in the anchor's place."""
        ones = torch.ones(len(others), dtype=self.dtype, device=others.device)
        counts = ones.new_zeros(len(own) + len(others)).index_add(0, others, ones)
        return counts[own] - int(self.self_offset is not None)

    def attraction(self, anchors: Tensor, contrasts: Tensor) -> tuple[Tensor, Tensor]:
        own, others = self.places()
        total = self.total(own, others)
        classes = contrasts.new_zeros(len(own) + len(others), contrasts.shape[1])
        sums = classes.index_add(0, others, contrasts)[own]  # (M, E) sum_j s_ij c_j
        if self.self_offset is not None:
            sums = sums - contrasts[self.self_offset : self.self_offset + len(anchors)]
        return (sums * anchors).sum(dim=1) / total.clamp(min=1), total
