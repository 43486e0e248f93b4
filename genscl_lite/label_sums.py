"""The labels' side of the loss: how much each anchor resembles its contrasts, without an (M, K) matrix.

Symbols as in ``losses``. A kind of label has a class here, with two ways to the same numbers: ``weights`` makes
rows of w_ij themselves, for few rows; ``attraction`` makes sum_j w_ij u_ij alone, from sums over contrasts.
``Targets`` adds up several label distributions of a row.

Contrast ``self_offset + i`` is anchor i itself and is left out; the offset is None if all contrasts are
other rows. Scores are u_ij = anchors_i . contrasts_j + offset_j, of (M, D), (K, D) and (K,).
"""

import functools
import math
from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from genscl_lite._checks import check_similarities, require_instances
from genscl_lite._rows import Rows
from genscl_lite.gather import Group
from genscl_lite.similarity import ClassSimilarity, feature_pair

BLOCK_ELEMENTS = 2**22  # similarities held at once if they are computed block by block


class Targets:
    """Several label distributions of a row as one: v_ij = sum_t a_t w_t,ij / A, with A = sum_t a_t.

    sum_t a_t CE(w_t, p) = A CE(v, p), so one partition function serves all, and the least loss is A H(v):
    not the sum of their entropies, which no p can reach if they disagree.

    Args:
        parts: kinds of labels below, which know their a_t.
    """

    def __init__(self, parts: "list[LabelSums]"):
        self.parts = parts

    @classmethod
    def of(
        cls,
        rows: Rows,
        similarity: str | ClassSimilarity | Callable[[Tensor, Tensor], Tensor],
        group: Group,
        dtype: torch.dtype,
        validate: bool,
        options: dict,
    ) -> "Targets":
        """Return the targets of what came into the loss; options as in ``LabelSums``."""
        pairs = rows.pair_similarity
        if pairs is not None:
            size = len(pairs), pairs.shape[1]
            return cls([PairSums(lambda some: pairs[some].to(dtype), size, **options)])
        parts = []
        for weight, labels, contrast_labels in rows.pairs:
            others = group.rows(labels) if contrast_labels is None else contrast_labels
            kind = sums_of(labels, others, similarity, dtype, validate, weight=weight, **options)
            parts.append(kind)
        return cls(parts)

    def merged(self) -> "Targets":
        """Return the same as one part, if all are products of features: so is A v_ij, theirs side by side."""
        parts = [part for part in self.parts if isinstance(part, FeatureSums)]
        if len(parts) < max(2, len(self.parts)):
            return self
        shares = [part.shares(part.total()[:, None])[0] for part in parts]
        phi = torch.cat([p.phi * share for p, share in zip(parts, shares, strict=True)], dim=1)
        psi = torch.cat([part.psi for part in parts], dim=1)
        return Targets([FeatureSums(phi, psi, self_offset=parts[0].self_offset, others=1)])

    def weights(self, rows: slice = slice(None)) -> tuple[Tensor, Tensor]:
        """Return A_i v_ij, (rows, K), and A_i, (rows,): the sum of each row, 0 if nothing resembles it."""
        return _sum(part.weights(rows) for part in self.parts)

    def attraction(
        self, anchors: Tensor, contrasts: Tensor, offset: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return A_i sum_j v_ij u_ij and A_i, both (M,)."""
        anchors = torch.cat([anchors, anchors.new_ones(len(anchors), 1)], dim=1)
        contrasts = torch.cat([contrasts, offset[:, None]], dim=1)  # u_ij is their product
        return _sum(part.attraction(anchors, contrasts) for part in self.parts)

    def entropy(self, gain: Tensor) -> Tensor:
        """Return A_i H(v_i), (M,), in nats, for (M,) A_i: the least loss of each anchor."""
        part, *more = self.parts
        if not more and isinstance(part, ClassSums):
            return gain * part.total(*part.places()).clamp(min=1).log()
        blocks = blocks_of(len(gain), part.contrasts)
        return torch.cat([row_entropy(*self.weights(rows)) for rows in blocks])


def _sum(pairs: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    first, second = (functools.reduce(torch.add, part) for part in zip(*pairs, strict=True))
    return first, second


def row_entropy(w: Tensor, gain: Tensor) -> Tensor:
    """Return A H(w / A) = -sum_j w_j log w_j + A log A of rows with sum A, also if that is 0."""
    return torch.special.entr(w).sum(dim=1) - torch.special.entr(gain)


def sums_of(
    labels: Tensor,
    contrast_labels: Tensor,
    similarity: str | ClassSimilarity | Callable[[Tensor, Tensor], Tensor],
    dtype: torch.dtype,
    validate: bool,
    **options,
) -> "LabelSums":
    """Return the kind of sums that these labels and this similarity have; options as in ``LabelSums``."""
    if isinstance(similarity, str) and labels.ndim == 1:
        return ClassSums(labels.long(), contrast_labels.long(), dtype, **options)
    if isinstance(similarity, str | ClassSimilarity):
        features = feature_pair(labels, contrast_labels, similarity, dtype, validate)
        return FeatureSums(*features, **options)

    def compare(rows: slice) -> Tensor:
        some = labels[rows]
        s = similarity(some, contrast_labels)
        require_instances(Tensor, similarity=s)
        expected = "similarity: expected the function to return"
        check_similarities(expected, s, (len(some), len(contrast_labels)), validate)
        return s.to(dtype)

    return PairSums(compare, (len(labels), len(contrast_labels)), **options)


class LabelSums:
    """What all kinds of labels share.

    Args:
        anchors, contrasts: M and K.
        self_offset: see above.
        weight: a_t of these labels.
        others: |A(i)| for Eq. 2 of GenSCL, where w_ij is s_ij / |A(i)|; None: s_ij / W_i.
    """

    def __init__(
        self,
        anchors: int,
        contrasts: int,
        self_offset: int | None,
        weight: float = 1.0,
        others: int | None = None,
    ):
        self.anchors, self.contrasts, self.self_offset = anchors, contrasts, self_offset
        self.weight, self.others = weight, others

    def weights(self, rows: slice) -> tuple[Tensor, Tensor]:
        """Return a_t w_ij, (rows, K), and the sum of each row, (rows,)."""
        s = self.similar(rows)
        share, gain = self.shares(s.sum(dim=1, keepdim=True))
        return s * share, gain[:, 0]

    def attraction(self, anchors: Tensor, contrasts: Tensor) -> tuple[Tensor, Tensor]:
        """Return a_t sum_j w_ij u_ij and a_t sum_j w_ij, both (M,)."""
        sums, total = self.sums(contrasts)
        share, gain = self.shares(total)
        return share * (sums * anchors).sum(dim=1), gain

    def shares(self, total: Tensor) -> tuple[Tensor | float, Tensor]:
        """Return a_t w_ij / s_ij and a_t sum_j w_ij of anchors, for W_i; by a tiny W_i nothing is divided."""
        if self.others:
            share = self.weight / self.others
            return share, total * share
        tiny = torch.finfo(total.dtype).tiny
        gain = (total > 1e8 * tiny).to(total.dtype) * self.weight
        return gain / total.clamp(min=tiny), gain

    def without_itself(self, s: Tensor, rows: slice) -> Tensor:
        """Set the similarity of an anchor to itself to 0, in place."""
        if self.self_offset is not None:
            s.diagonal(self.self_offset + (rows.start or 0)).fill_(0)
        return s

    def similar(self, rows: slice) -> Tensor:
        """Return s_ij, (rows, K), 0 to the anchor itself."""
        raise NotImplementedError

    def sums(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return sum_j s_ij v_j, (M, E), for (K, E) values v, and W_i, (M,)."""
        raise NotImplementedError


class PairSums(LabelSums):
    """Any similarity: ``compare`` turns a slice of anchors into (block, K), and again for the gradient."""

    def __init__(self, compare: Callable[[slice], Tensor], size: tuple[int, int], **options):
        super().__init__(*size, **options)
        self.compare = compare

    def similar(self, rows: slice) -> Tensor:
        """Return s_ij; over their largest, where only proportions count, so that no sum is lost."""
        s = self.without_itself(self.compare(rows).clone(), rows)
        if self.others:
            return s
        largest = s.amax(dim=1, keepdim=True)
        return s / largest.where(largest > 0, 1)

    def attraction(self, anchors: Tensor, contrasts: Tensor) -> tuple[Tensor, Tensor]:
        def of_block(rows: slice) -> tuple[Tensor, Tensor]:
            w, gain = self.weights(rows)
            return ((w @ contrasts) * anchors[rows]).sum(dim=1), gain

        blocks = blocks_of(self.anchors, self.contrasts)
        if len(blocks) == 1:
            return of_block(blocks[0])
        if not self.weights(blocks[0])[0].requires_grad:
            sums, gain = _SumsOfBlocks.apply(contrasts, self.weights, blocks)
            return (sums * anchors).sum(dim=1), gain
        return _joined(
            checkpoint(of_block, rows, use_reentrant=False, preserve_rng_state=False)
            for rows in blocks
        )


def blocks_of(anchors: int, contrasts: int) -> list[slice]:
    """Return slices of anchors, whose similarities are held at once."""
    rows = max(1, BLOCK_ELEMENTS // contrasts)
    return [slice(i, min(i + rows, anchors)) for i in range(0, anchors, rows)]


class _SumsOfBlocks(torch.autograd.Function):
    """sum_j w_ij c_j, (M, E), and sum_j w_ij, of weights that are made anew for the gradient, block by block."""

    @staticmethod
    def forward(values: Tensor, weights: Callable, blocks: list[slice]):
        return _joined((w @ values, gain) for w, gain in map(weights, blocks))

    @staticmethod
    def setup_context(ctx, inputs, output):
        _, ctx.weights, ctx.blocks = inputs
        ctx.mark_non_differentiable(output[1])

    @staticmethod
    def backward(ctx, gradient: Tensor, _):
        return sum(ctx.weights(rows)[0].T @ gradient[rows] for rows in ctx.blocks), None, None


def _joined(parts: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    first, second = map(torch.cat, zip(*parts, strict=True))
    return first, second


class FeatureSums(LabelSums):
    """Distributions, whose similarity is a product of features, s_ij = phi_i . psi_j.

    So sum_j s_ij c_j = phi_i^T (sum_j psi_j c_j^T), and the sum in brackets, (C, D), is the same for all
    anchors. Taking an anchor's own term out of it afterwards can cancel every digit. So that term is never
    put in: an anchor meets the rows of its own block one by one, and all other blocks as sums.
    """

    def __init__(self, phi: Tensor, psi: Tensor, **options):
        super().__init__(len(phi), len(psi), **options)
        self.phi, self.psi = phi, psi

    def similar(self, rows: slice) -> Tensor:
        return self.without_itself(self.phi[rows] @ self.psi.T, rows)

    def total(self) -> Tensor:
        """Return W_i, (M,)."""
        return self.sums(self.psi.new_empty(self.contrasts, 0))[1]

    def sums(self, values: Tensor) -> tuple[Tensor, Tensor]:
        # beside each value a 1: the last column of a sum over contrasts is that of the similarities alone
        values = torch.cat([values, values.new_ones(len(values), 1)], dim=1)
        if self.self_offset is None:
            sums = self.phi @ (self.psi.T @ values)
        else:
            batch = slice(self.self_offset, self.self_offset + self.anchors)
            sums = _sums_over_others(self.phi, self.psi[batch], values[batch])
            if self.anchors < self.contrasts:  # rows of other processes
                for rest in (slice(0, batch.start), slice(batch.stop, None)):
                    sums = sums + self.phi @ (self.psi[rest].T @ values[rest])
        return sums[:, :-1], sums[:, -1]


def _sums_over_others(phi: Tensor, psi: Tensor, values: Tensor) -> Tensor:
    """Return sum_{j != i} (phi_i . psi_j) v_j, (M, E), for (M, C) features and (M, E) values v."""
    rows, classes, columns = *phi.shape, values.shape[1]
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


class ClassSums(LabelSums):
    """Class numbers, s_ij = 1 if they are equal, else 0: sums over classes, never a one-hot matrix."""

    def __init__(self, labels: Tensor, contrast_labels: Tensor, dtype: torch.dtype, **options):
        super().__init__(len(labels), len(contrast_labels), **options)
        self.labels, self.contrast_labels, self.dtype = labels, contrast_labels, dtype

    def similar(self, rows: slice) -> Tensor:
        same = self.labels[rows, None] == self.contrast_labels
        return self.without_itself(same.to(self.dtype), rows)

    def places(self) -> tuple[Tensor, Tensor]:
        """Return classes renumbered 0, 1, ... in order: of the anchors, (M,), and the contrasts, (K,)."""
        ordered, order = torch.cat([self.labels, self.contrast_labels]).sort()
        place = F.pad((ordered[1:] != ordered[:-1]).cumsum(dim=0), (1, 0))
        places = torch.empty_like(place).scatter_(0, order, place)
        return places.split([self.anchors, self.contrasts])

    def total(self, own: Tensor, others: Tensor) -> Tensor:
        """Return W_i, (M,): how many others are in the anchor's place."""
        ones = torch.ones(len(others), dtype=self.dtype, device=others.device)
        counts = ones.new_zeros(len(own) + len(others)).index_add(0, others, ones)
        return counts[own] - int(self.self_offset is not None)

    def sums(self, values: Tensor) -> tuple[Tensor, Tensor]:
        own, others = self.places()
        of_class = values.new_zeros(len(own) + len(others), values.shape[1])
        sums = of_class.index_add(0, others, values)[own]
        if self.self_offset is not None:
            sums = sums - values[self.self_offset : self.self_offset + len(own)]
        return sums, self.total(own, others)
