"""The labels' side of the loss: how much each anchor resembles its contrasts, without an (M, K) matrix.

Symbols as in ``losses``. A kind of label has a class here, with two ways to the same numbers: ``similar`` makes
rows of similarities themselves, for few rows; ``attraction`` makes sum_j w_ij u_ij alone, from sums over contrasts.
``Targets`` adds up several label distributions of a row.

Contrast ``self_offset + i`` is anchor i itself and is left out; the offset is None where all contrasts are
other rows. Scores are u_ij = anchors_i . contrasts_j + offset_j, of (M, D), (K, D) and (K,).
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

    def merged(self) -> "Targets":
        """Return the same as one part, where all are products of features: so is v_ij, theirs side by side."""
        kinds = [part for _, part in self.parts]
        if len(kinds) == 1 or not all(isinstance(part, FeatureSums) for part in kinds):
            return self
        totals = [part.total() for part in kinds]
        gains = [self._gain(a, total) for (a, _), total in zip(self.parts, totals, strict=True)]
        scaled = [
            part.phi * _ratio(gain, total)[:, None]
            for part, gain, total in zip(kinds, gains, totals, strict=True)
        ]
        phi, psi = torch.cat(scaled, dim=1), torch.cat([part.psi for part in kinds], dim=1)
        return Targets([(1.0, FeatureSums(phi, psi, kinds[0].self_offset))], others=1)

    def _gain(self, weight: float, total: Tensor) -> Tensor:
        """Return a_t sum_j w_t,ij, (M,), for W_i: 0 for an anchor that no contrast resembles."""
        if self.others:
            return total * (weight / self.others)
        return (total > 0) * total.new_full((), weight)

    def weights(self, rows: slice = slice(None)) -> tuple[Tensor, Tensor]:
        """Return A_i v_ij, (rows, K), and A_i, (rows,): the sum of each row."""
        w = gain = 0
        for weight, part in self.parts:
            s, total, largest = part.similar(rows)
            part_gain = self._gain(weight, total * largest)
            share = _ratio(part_gain, total)[:, None]
            w = torch.addcmul(w, s, share) if isinstance(w, Tensor) else s * share
            gain = gain + part_gain
        return w, gain

    def attraction(
        self, anchors: Tensor, contrasts: Tensor, offset: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return A_i sum_j v_ij u_ij and A_i, both (M,)."""
        anchors = torch.cat([anchors, anchors.new_ones(len(anchors), 1)], dim=1)
        contrasts = torch.cat([contrasts, offset[:, None]], dim=1)  # u_ij is their product
        attraction = gain = 0
        for weight, part in self.parts:
            mean, total = part.attraction(anchors, contrasts)
            part_gain = self._gain(weight, total)
            attraction, gain = attraction + part_gain * mean, gain + part_gain
        return attraction, gain

    def entropy(self, gain: Tensor) -> Tensor:
        """Return A_i H(v_i), (M,), in nats, for (M,) A_i: the least loss of each anchor."""
        (_, part), *more = self.parts
        if not more and isinstance(part, ClassSums):
            return gain * part.total(*part.places()).clamp(min=1).log()
        blocks = blocks_of(len(gain), part.contrasts)
        if more:
            return torch.cat([row_entropy(*self.weights(rows)) for rows in blocks])
        entropies = []
        for rows in blocks:  # H(w) = log W - 1/W sum_j s_j log s_j
            s, total, _ = part.similar(rows)
            entropies.append(
                _ratio(torch.special.entr(s).sum(dim=1), total) + total.where(total > 0, 1).log()
            )
        return gain * torch.cat(entropies)


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

    def similar(self, rows: slice) -> tuple[Tensor, Tensor, Tensor | float]:
        """Return similarities s_ij over their largest, (rows, K), their sum, and the largest, both (rows,).

        However small or large they are, no sum is lost.
        """
        s = self.similar_others(rows)
        largest = s.amax(dim=1)
        s = s / largest.where(largest > 0, 1)[:, None]
        return s, s.sum(dim=1), largest

    def weights(self, rows: slice) -> tuple[Tensor, Tensor]:
        """Return w_ij, (rows, K), and W_i, (rows,)."""
        s, total, largest = self.similar(rows)
        return s / total.where(total > 0, 1)[:, None], total * largest

    def attraction(self, anchors: Tensor, contrasts: Tensor) -> tuple[Tensor, Tensor]:
        """Return sum_j w_ij u_ij and W_i, both (M,); where W_i is 0, so is the former."""
        blocks = blocks_of(self.anchors, self.contrasts)
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


def blocks_of(anchors: int, contrasts: int) -> list[slice]:
    """Return slices of anchors, whose similarities are held at once."""
    rows = max(1, BLOCK_ELEMENTS // contrasts)
    return [slice(i, min(i + rows, anchors)) for i in range(0, anchors, rows)]


class _SumsOfBlocks(torch.autograd.Function):
    """sum_j w_ij c_j, (M, E), and W_i, of weights that are made anew for the gradient, block by block."""

    @staticmethod
    def forward(values: Tensor, weights: Callable, blocks: list[slice]):
        parts = ((w @ values, total) for w, total in map(weights, blocks))
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

    So sum_j s_ij c_j = phi_i^T (sum_j psi_j c_j^T), and the sum in brackets, (C, D), is the same for all
    anchors. Taking an anchor's own term out of it afterwards can cancel every digit. So that term is never
    put in: an anchor meets the rows of its own block one by one, and all other blocks as sums.
    """

    def __init__(self, phi: Tensor, psi: Tensor, self_offset: int | None):
        super().__init__(lambda rows: phi[rows] @ psi.T, (len(phi), len(psi)), self_offset)
        self.phi, self.psi = phi, psi

    def similar_others(self, rows: slice) -> Tensor:
        s = self.phi[rows] @ self.psi.T
        if self.self_offset is None:
            return s
        if s.requires_grad:
            return s.diagonal_scatter(s.new_zeros(len(s)), self.self_offset + (rows.start or 0))
        s.diagonal(self.self_offset + (rows.start or 0)).fill_(0)
        return s

    def similar(self, rows: slice) -> tuple[Tensor, Tensor, float]:
        s = self.similar_others(rows)
        return s, _not_tiny(s.sum(dim=1)), 1.0

    def sums(self, values: Tensor) -> Tensor:
        """Return sum_j s_ij v_j, (M, E), for (K, E) values."""
        if self.self_offset is None:
            return self.phi @ (self.psi.T @ values)
        batch = slice(self.self_offset, self.self_offset + self.anchors)
        sums = _sums_over_others(self.phi, self.psi[batch], values[batch])
        if self.anchors < self.contrasts:  # rows of other processes
            for rest in (slice(0, batch.start), slice(batch.stop, None)):
                sums = sums + self.phi @ (self.psi[rest].T @ values[rest])
        return sums

    def total(self) -> Tensor:
        """Return W_i, (M,)."""
        return _not_tiny(self.sums(self.psi.new_ones(self.contrasts, 1))[:, 0])

    def attraction(self, anchors: Tensor, contrasts: Tensor) -> tuple[Tensor, Tensor]:
        # beside each contrast a 1: the last column of a sum over contrasts is that of the similarities alone
        values = torch.cat([contrasts, contrasts.new_ones(len(contrasts), 1)], dim=1)
        sums, total = self.sums(values).split([contrasts.shape[1], 1], dim=1)
        total = _not_tiny(total[:, 0])
        return _ratio((sums * anchors).sum(dim=1), total), total


def _not_tiny(total: Tensor) -> Tensor:
    """Return 0 for sums so small that a gradient divided by them would overflow."""
    return total.where(total > 1e8 * torch.finfo(total.dtype).tiny, 0)


def _ratio(value: Tensor, total: Tensor) -> Tensor:
    """Return value / total, and something finite, to be multiplied by 0, where the total is 0."""
    return value / total.clamp(min=torch.finfo(total.dtype).tiny)


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

    def similar(self, rows: slice) -> tuple[Tensor, Tensor, float]:
        """Return similarities, (rows, K), 0 to the anchor itself, their sum, (rows,), and 1."""
        same = (self.labels[rows, None] == self.contrast_labels).to(self.dtype)
        if self.self_offset is not None:
            same.diagonal(self.self_offset + (rows.start or 0)).fill_(0)
        return same, same.sum(dim=1), 1.0

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
        classes = contrasts.new_zeros(len(own) + len(others), contrasts.shape[1])
        sums = classes.index_add(0, others, contrasts)[own]  # (M, D + 1) sum_j s_ij c_j
        if self.self_offset is not None:
            sums = sums - contrasts[self.self_offset : self.self_offset + len(own)]
        total = self.total(own, others)
        return (sums * anchors).sum(dim=1) / total.clamp(min=1), total
