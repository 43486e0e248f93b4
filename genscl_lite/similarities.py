"""Label similarities s_ij as the loss needs them: sums over contrasts, never an (M, K) matrix that is not there already.

Each form gives, over the contrasts A(i) of anchor i, W_i = sum_j s_ij and the attraction sum_j w_ij z_i . c_j (0 where
W_i is 0), and on demand the entropies H(w_i). ``own`` is the contrast that is anchor 0 itself (anchor i is own + i, and
left out), or None.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

SIMILARITIES = ("cosine", "inner_product", "bhattacharyya")
FEW_ROWS = 512
"""So few anchors meet each other one by one; sums over blocks would cost more."""
BLOCK_ELEMENTS = 2**22
"""Similarities held at once where they are computed block by block."""


def label_features(labels: Tensor, similarity: str = "cosine") -> Tensor:
    """Return phi(y), (M, C), whose plain inner products are the similarity: s_ij = phi(y_i) . phi(y_j)."""
    if similarity == "cosine":
        return F.normalize(labels, dim=1)
    return labels.sqrt() if similarity == "bhattacharyya" else labels


class ByRows:
    """Any similarity of which (rows, K) blocks can be computed. They are computed again for the gradient, not kept.

    Args:
        rows: maps a slice of anchors to their (rows, K) similarities.
        anchors, contrasts: M and K.
        own: see above.
    """

    def __init__(self, rows: Callable[[slice], Tensor], anchors: int, contrasts: int, own: int | None):
        self.rows, self.own = rows, own
        size = max(1, BLOCK_ELEMENTS // contrasts)
        self.blocks = [slice(start, min(start + size, anchors)) for start in range(0, anchors, size)]

    def scaled_block(self, rows: slice) -> tuple[Tensor, Tensor]:
        """Return similarities without an anchor's own, each row divided by its largest, and the (rows,) largest ones."""
        s = self.rows(rows)
        if self.own is not None:
            s = torch.diagonal_scatter(s, s.new_zeros(rows.stop - rows.start), self.own + rows.start)
        largest = s.amax(dim=1)
        return s / largest.where(largest > 0, 1)[:, None], largest  # however small or large, no sum is lost

    def sums(self, z: Tensor, contrast_z: Tensor) -> tuple[Tensor, Tensor]:
        def of_block(z_rows: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
            s, largest = self.scaled_block(rows)
            total = s.sum(dim=1)
            return total * largest, ratio(((s @ contrast_z) * z_rows).sum(dim=1), total)

        if len(self.blocks) == 1:
            return of_block(z, self.blocks[0])
        parts = [checkpoint(of_block, z[rows], rows, use_reentrant=False, preserve_rng_state=False) for rows in self.blocks]
        total, attraction = (torch.cat(part) for part in zip(*parts, strict=True))
        return total, attraction

    def entropy(self) -> Tensor:
        def of_block(rows: slice) -> Tensor:
            s, _ = self.scaled_block(rows)
            return torch.special.entr(ratio(s, s.sum(dim=1, keepdim=True))).sum(dim=1)

        return torch.cat([of_block(rows) for rows in self.blocks])


class Distributions(ByRows):
    """A similarity with features: s_ij = phi_i . phi_j, so that sum_j s_ij c_j = phi_i^T (sum_j phi_j c_j^T), (C, D).

    Taking an anchor's own term out of a sum over all contrasts can cancel every digit. So the own term is never put in:
    an anchor meets the rows of its block one by one, and all other blocks as sums.
    """

    def __init__(self, phi: Tensor, contrast_phi: Tensor, own: int | None):
        super().__init__(lambda rows: phi[rows] @ contrast_phi.T, len(phi), len(contrast_phi), own)
        self.phi, self.contrast_phi = phi, contrast_phi

    def sums(self, z: Tensor, contrast_z: Tensor) -> tuple[Tensor, Tensor]:
        # beside each latent a 1, so that the last column of every sum over contrasts is that of the weights alone
        c = torch.cat([contrast_z, contrast_z.new_ones(len(contrast_z), 1)], dim=1)
        if self.own is None:
            sums = self.phi @ (self.contrast_phi.T @ c)
        else:
            ours = slice(self.own, self.own + len(z))
            sums = _sums_of_others(self.phi, self.contrast_phi[ours], c[ours])
            for others in (slice(0, ours.start), slice(ours.stop, len(c))):  # rows of other processes
                if len(c[others]):
                    sums = sums + self.phi @ (self.contrast_phi[others].T @ c[others])
        total = sums[:, -1]
        total = total.where(total > 1e8 * torch.finfo(total.dtype).tiny, 0)  # below, a gradient divided by it overflows
        return total, ratio((sums[:, :-1] * z).sum(dim=1), total)


def _sums_of_others(phi: Tensor, contrast_phi: Tensor, c: Tensor) -> Tensor:
    """Return sum_{j != i} (phi_i . phi_j) c_j, (M, E), for (M, C) features and (M, E) values c."""
    rows, classes, values = *phi.shape, c.shape[1]
    if rows <= FEW_ROWS:
        return ((phi @ contrast_phi.T) * _all_but_own(rows, c)) @ c
    size = max(32, math.isqrt(classes * values) // 2)  # about what makes both parts below equally large
    phi, contrast_phi, c = (F.pad(t, (0, 0, 0, -rows % size)).unflatten(0, (-1, size)) for t in (phi, contrast_phi, c))
    near = (phi @ contrast_phi.mT) * _all_but_own(size, c)  # (blocks, size, size)
    of_blocks = (contrast_phi.mT @ c).flatten(1)  # (blocks, C * E)
    far = (_all_but_own(len(c), c) @ of_blocks).unflatten(1, (classes, values))
    return (near @ c + phi @ far).flatten(0, 1)[:rows]


def _all_but_own(size: int, like: Tensor) -> Tensor:
    return 1 - torch.eye(size, dtype=like.dtype, device=like.device)


class ClassNumbers:
    """s_ij = 1 for equal class numbers, else 0: sums over classes, never a one-hot matrix."""

    def __init__(self, labels: Tensor, contrast_labels: Tensor, own: int | None):
        both = torch.cat([labels, contrast_labels])
        ordered, order = both.sort()
        place = F.pad((ordered[1:] != ordered[:-1]).cumsum(dim=0), (1, 0))  # 0, 1, ... in the order of the numbers
        index = torch.empty_like(place).scatter_(0, order, place)
        self.index, self.contrast_index = index.split([len(labels), len(contrast_labels)])
        self.own, self.places = own, len(both)

    def sums(self, z: Tensor, contrast_z: Tensor) -> tuple[Tensor, Tensor]:
        ones = contrast_z.new_ones(len(contrast_z))
        total = z.new_zeros(self.places).index_add(0, self.contrast_index, ones)[self.index]
        others = z.new_zeros(self.places, z.shape[1]).index_add(0, self.contrast_index, contrast_z)[self.index]
        if self.own is not None:
            total, others = total - 1, others - contrast_z[self.own : self.own + len(z)]
        self.total = total
        return total, ratio((others * z).sum(dim=1), total)

    def entropy(self) -> Tensor:
        return self.total.clamp(min=1).log()


def ratio(value: Tensor, total: Tensor) -> Tensor:
    """Return value / total, and 0 where the total is 0."""
    return torch.where(total > 0, value / total.where(total > 0, 1), 0)
