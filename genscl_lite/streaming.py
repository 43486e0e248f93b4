"""The loss without any (M, K) matrix: sums over classes for the labels, blocks of scores for the latents.

**Labels.** The loss needs of the similarities s_ij only sums over the contrasts A(i) of anchor i: W_i = sum_j
s_ij and the attraction sum_j w_ij z_i . c_j (0 where W_i is 0), and on demand the entropies H(w_i).

**Latents.** All of the loss that needs every pair of rows is sum_i a_i log Z_i, where the partition function
Z_i sums exp(z_i . c_j / tau) over the contrasts of anchor i, and the shares a_i are known beforehand (1/M,
say). So gradients can be had in the same pass as values:

    d/dz_i = a_i / tau  sum_j p_ij c_j        d/dc_j = 1/tau  sum_i a_i p_ij z_i        p_ij = exp(z_i . c_j /
    tau) / Z_i

``streamed``   a block of scores at a time, three matrix products in all. Where a batch is its own contrast,
               scores and the weights of the gradient, a_i p_ij + a_j p_ji, are symmetric: half of each is
               computed, two products.
``fused``      CUDA only: torch's FlexAttention, whose kernels give this logarithm, one tile of scores in
registers.

``self_offset`` says which contrast is an anchor itself and is left out: contrast self_offset + i is anchor i.
It is None where no contrast is an anchor (a queue), 0 where a batch is its own contrast, and more where rows
of other processes stand before.
"""

import functools
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

# Labels: sums of similarities

FEW_ROWS = 512
"""So few anchors meet each other one by one; sums over blocks would cost more."""
BLOCK_ELEMENTS = 2**22
"""Similarities held at once where they are computed block by block."""


def label_features(labels: Tensor, similarity: str = "cosine") -> Tensor:
    """Return phi(y), (M, C), whose plain inner products are the similarity: s_ij = phi(y_i) . phi(y_j)."""
    if similarity == "cosine":
        return F.normalize(labels, dim=1)
    return labels.sqrt() if similarity == "bhattacharyya" else labels


class RowSimilarity:
    """Any similarity of which (rows, K) blocks can be computed. They are computed again for the gradient, not
    kept.

    Args:
        rows_of: maps a slice of anchors to their (rows, K) similarities.
        anchors, contrasts: M and K.
        self_offset: see above.
    """

    def __init__(
        self, rows_of: Callable[[slice], Tensor], anchors: int, contrasts: int, self_offset: int | None
    ):
        self.rows_of, self.self_offset = rows_of, self_offset
        size = max(1, BLOCK_ELEMENTS // contrasts)
        self.blocks = [slice(start, min(start + size, anchors)) for start in range(0, anchors, size)]

    def scaled_block(self, rows: slice) -> tuple[Tensor, Tensor]:
        """Return similarities without an anchor's own, each row divided by its largest, and the (rows,)
        largest."""
        s = self.rows_of(rows)
        if self.self_offset is not None:
            s = torch.diagonal_scatter(s, s.new_zeros(rows.stop - rows.start), self.self_offset + rows.start)
        largest = s.amax(dim=1)
        return s / largest.where(largest > 0, 1)[:, None], largest  # however small or large, no sum is lost

    def sums(self, z: Tensor, contrast_z: Tensor) -> tuple[Tensor, Tensor]:
        """Return W and the attraction, both (M,), for latents (M, D) and (K, D)."""

        def sums_of_block(z_rows: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
            s, largest = self.scaled_block(rows)
            total = s.sum(dim=1)
            return total * largest, ratio(((s @ contrast_z) * z_rows).sum(dim=1), total)

        if len(self.blocks) == 1:
            return sums_of_block(z, self.blocks[0])
        parts = [
            checkpoint(sums_of_block, z[rows], rows, use_reentrant=False, preserve_rng_state=False)
            for rows in self.blocks
        ]
        total, attraction = (torch.cat(part) for part in zip(*parts, strict=True))
        return total, attraction

    def entropy(self) -> Tensor:
        """Return H(w_i) in nats, (M,); after ``sums``."""

        def entropy_of_block(rows: slice) -> Tensor:
            s, _ = self.scaled_block(rows)
            return torch.special.entr(ratio(s, s.sum(dim=1, keepdim=True))).sum(dim=1)

        return torch.cat([entropy_of_block(rows) for rows in self.blocks])


class FeatureSimilarity(RowSimilarity):
    """A similarity with features: s_ij = phi_i . phi_j, so that sum_j s_ij c_j = phi_i^T (sum_j phi_j c_j^T),
    (C, D).

    Taking an anchor's own term out of a sum over all contrasts can cancel every digit. So it is never put in:
    an anchor meets the rows of its block one by one, and all other blocks as sums.
    """

    def __init__(self, phi: Tensor, contrast_phi: Tensor, self_offset: int | None):
        super().__init__(lambda rows: phi[rows] @ contrast_phi.T, len(phi), len(contrast_phi), self_offset)
        self.phi, self.contrast_phi = phi, contrast_phi

    def sums(self, z: Tensor, contrast_z: Tensor) -> tuple[Tensor, Tensor]:
        # beside each latent a 1, so that the last column of every sum over contrasts is that of the weights
        # alone
        c = torch.cat([contrast_z, contrast_z.new_ones(len(contrast_z), 1)], dim=1)  # (K, D + 1)
        if self.self_offset is None:
            sums = self.phi @ (self.contrast_phi.T @ c)  # (M, D + 1)
        else:
            batch = slice(self.self_offset, self.self_offset + len(z))
            sums = _sums_of_others(self.phi, self.contrast_phi[batch], c[batch])
            for others in (slice(0, batch.start), slice(batch.stop, len(c))):  # rows of other processes
                if len(c[others]):
                    sums = sums + self.phi @ (self.contrast_phi[others].T @ c[others])
        total = sums[:, -1]
        smallest = 1e8 * torch.finfo(total.dtype).tiny  # below, a gradient divided by it overflows
        total = total.where(total > smallest, 0)
        return total, ratio((sums[:, :-1] * z).sum(dim=1), total)


def _sums_of_others(phi: Tensor, contrast_phi: Tensor, c: Tensor) -> Tensor:
    """Return sum_{j != i} (phi_i . phi_j) c_j, (M, E), for (M, C) features and (M, E) values c."""
    rows, classes, values = *phi.shape, c.shape[1]
    if rows <= FEW_ROWS:
        return ((phi @ contrast_phi.T) * _all_but_self(rows, c)) @ c
    size = max(32, math.isqrt(classes * values) // 2)  # about what makes both parts below equally large
    blocks = (F.pad(t, (0, 0, 0, -rows % size)).unflatten(0, (-1, size)) for t in (phi, contrast_phi, c))
    phi, contrast_phi, c = blocks  # (blocks, size, C or E)
    near = (phi @ contrast_phi.mT) * _all_but_self(size, c)  # (blocks, size, size)
    of_blocks = (contrast_phi.mT @ c).flatten(1)  # (blocks, C * E)
    far = (_all_but_self(len(c), c) @ of_blocks).unflatten(1, (classes, values))
    return (near @ c + phi @ far).flatten(0, 1)[:rows]


def _all_but_self(size: int, like: Tensor) -> Tensor:
    return 1 - torch.eye(size, dtype=like.dtype, device=like.device)


class ClassSimilarity:
    """s_ij = 1 for equal class numbers, else 0: sums over classes, never a one-hot matrix."""

    def __init__(self, labels: Tensor, contrast_labels: Tensor, self_offset: int | None):
        both = torch.cat([labels, contrast_labels])
        ordered, order = both.sort()
        place = F.pad((ordered[1:] != ordered[:-1]).cumsum(dim=0), (1, 0))  # 0, 1, ... by class number
        index = torch.empty_like(place).scatter_(0, order, place)
        self.index, self.contrast_index = index.split([len(labels), len(contrast_labels)])
        self.self_offset, self.places = self_offset, len(both)

    def sums(self, z: Tensor, contrast_z: Tensor) -> tuple[Tensor, Tensor]:
        ones = contrast_z.new_ones(len(contrast_z))
        total = z.new_zeros(self.places).index_add(0, self.contrast_index, ones)[self.index]
        sums = z.new_zeros(self.places, z.shape[1]).index_add(0, self.contrast_index, contrast_z)[self.index]
        if self.self_offset is not None:
            total = total - 1
            sums = sums - contrast_z[self.self_offset : self.self_offset + len(z)]
        self.total = total
        return total, ratio((sums * z).sum(dim=1), total)

    def entropy(self) -> Tensor:
        return self.total.clamp(min=1).log()


def ratio(value: Tensor, total: Tensor) -> Tensor:
    """Return value / total, and 0 where the total is 0."""
    return torch.where(total > 0, value / total.where(total > 0, 1), 0)


# Latents: the logarithm of the partition function

TILE = {"cpu": 512}
"""Rows and columns of a block: on a CPU it should stay in the cache, elsewhere keep the device busy."""
LARGEST_EXPONENT = {torch.float32: 80.0, torch.float64: 700.0}
"""With cosines in [-1, 1], exp((cosine - 1) / tau) is a normal number as long as 2 / tau stays below this."""


def sum_log_partition(
    z: Tensor,
    contrast_z: Tensor,
    share: Tensor,
    temperature: float,
    self_offset: int | None,
    backend: str,
    score_dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, Tensor]:
    """Sum the logarithms log Z_i, anchor i with its share a_i.

    Args:
        z: (M, D) anchors of unit length.
        contrast_z: (K, D) contrasts of unit length; may be ``z`` itself.
        share: (M,) a_i.
        temperature: tau.
        self_offset: see above.
        backend: "streamed" or "fused".
        score_dtype: floating point type in which "fused" takes the latents.

    Returns:
        The sum, and (M,) log Z_i without gradient.
    """
    if backend == "fused":
        logs = _fused(z, contrast_z, temperature, self_offset, score_dtype)
        return (share * logs).sum(), logs.detach()
    wanted = torch.is_grad_enabled() and (z.requires_grad or contrast_z.requires_grad)
    if contrast_z is z and 2 / temperature < LARGEST_EXPONENT[z.dtype]:
        total, logs, _ = _streamed_itself(z, share, temperature, wanted)
    else:
        offset = -1 if self_offset is None else self_offset
        total, logs, _, _ = _streamed(z, contrast_z, share, temperature, offset, wanted)
    return total, logs.detach()


@torch.library.custom_op("genscl_lite::streamed_log_partition", mutates_args=())
def _streamed(
    z: Tensor, contrast_z: Tensor, share: Tensor, temperature: float, self_offset: int, gradient: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return sum_i a_i log Z_i, log Z, and the sum's gradients (empty, where none is wanted), block of rows
    by block."""
    rows = TILE.get(z.device.type, max(1, 2**26 // len(contrast_z)))
    logs = z.new_empty(len(z))
    z_gradient = torch.zeros_like(z) if gradient else z.new_empty(0)
    contrast_gradient = torch.zeros_like(contrast_z) if gradient else z.new_empty(0)
    block = z.new_empty(min(rows, len(z)), len(contrast_z))
    for start in range(0, len(z), rows):
        here = slice(start, start + rows)
        p = torch.mm(z[here] / temperature, contrast_z.T, out=block[: len(z[here])])  # (rows, K) scores
        if self_offset >= 0:
            p.diagonal(self_offset + start).fill_(float("-inf"))
        largest = p.amax(dim=1, keepdim=True)
        p.sub_(largest).exp_()
        sums = p.sum(dim=1, keepdim=True)
        logs[here] = (largest + sums.log())[:, 0]
        if gradient:
            p.mul_(share[here, None] / temperature / sums)
            torch.mm(p, contrast_z, out=z_gradient[here])
            contrast_gradient.addmm_(p.T, z[here])
    return (share * logs).sum(), logs, z_gradient, contrast_gradient


@torch.library.custom_op("genscl_lite::streamed_log_partition_itself", mutates_args=())
def _streamed_itself(
    z: Tensor, share: Tensor, temperature: float, gradient: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Do the same for a batch that is its own contrast, from one triangle of the symmetric scores.

    E_ij = exp((z_i . z_j - 1) / tau) needs no row's maximum. A first pass sums its rows; then the gradient is
    sum_j E_ij (b_i + b_j) z_j with b_i = a_i / (tau sum_j E_ij), another symmetric matrix times z.
    """
    side = TILE.get(z.device.type, 8192)
    starts = range(0, len(z), side)
    scaled, shift = z / temperature, z.new_full((1, 1), -1 / temperature)
    memory = z.new_empty(min(side, len(z)) ** 2)

    def tile(i: int, j: int) -> Tensor:
        left, right = scaled[i : i + side], z[j : j + side]
        out = memory[: len(left) * len(right)].view(len(left), len(right))
        e = torch.addmm(shift, left, right.T, out=out).exp_()
        return e.fill_diagonal_(0) if i == j else e

    sums = z.new_zeros(len(z))
    for i in starts:
        for j in starts[i // side :]:
            e = tile(i, j)
            sums[i : i + side] += e.sum(dim=1)
            if i != j:
                sums[j : j + side] += e.sum(dim=0)
    logs = sums.log() + 1 / temperature
    z_gradient = torch.zeros_like(z) if gradient else z.new_empty(0)
    if gradient:
        b = share / sums / temperature
        for i in starts:
            for j in starts[i // side :]:
                e = tile(i, j).mul_(b[i : i + side, None] + b[j : j + side])
                z_gradient[i : i + side].addmm_(e, z[j : j + side])
                if i != j:
                    z_gradient[j : j + side].addmm_(e.T, z[i : i + side])
    return (share * logs).sum(), logs, z_gradient


@_streamed.register_fake
def _(z, contrast_z, share, temperature, self_offset, gradient):
    gradients = (torch.empty_like(t) if gradient else t.new_empty(0) for t in (z, contrast_z))
    return z.new_empty(()), z.new_empty(len(z)), *gradients


@_streamed_itself.register_fake
def _(z, share, temperature, gradient):
    return z.new_empty(()), z.new_empty(len(z)), torch.empty_like(z) if gradient else z.new_empty(0)


def _keep_gradients(ctx, inputs, output):
    ctx.gradients = len(output) - 2
    ctx.options = len(inputs) - ctx.gradients - 1  # arguments that are no tensors
    ctx.save_for_backward(*output[1:], *inputs[: ctx.gradients])


def _scale_gradients(ctx, upstream, *_):
    logs, *saved = ctx.saved_tensors
    gradients, rows = saved[: ctx.gradients], saved[ctx.gradients :]
    gradients = [upstream * g if g.numel() else None for g in gradients]
    if torch.is_grad_enabled():  # somebody wants to differentiate the gradient
        gradients = [_OnlyOnce.apply(g, *rows) if g is not None else None for g in gradients]
    return *gradients, upstream * logs, *[None] * ctx.options


class _OnlyOnce(torch.autograd.Function):
    """Pass on a gradient that depends on rows in a way nobody has derived, and say so if that is asked
    for."""

    @staticmethod
    def forward(ctx, gradient: Tensor, *rows: Tensor) -> Tensor:
        return gradient.clone()

    @staticmethod
    def backward(ctx, *_):
        raise RuntimeError(
            "backend: 'streamed' gives a first derivative only; take backend='dense' to differentiate twice"
        )


for _op in (_streamed, _streamed_itself):
    _op.register_autograd(_scale_gradients, setup_context=_keep_gradients)


def _fused(
    z: Tensor, contrast_z: Tensor, temperature: float, self_offset: int | None, score_dtype: torch.dtype
) -> Tensor:
    """Return (M,) log Z_i from an attention kernel: queries z, keys the contrasts, values that nobody
    reads."""
    from torch.nn.attention.flex_attention import AuxRequest  # it loads sympy, which takes half a second

    queries, keys = (t.to(score_dtype)[None, None] for t in (z, contrast_z))  # (1, 1, M or K, D)

    def without_itself(score, batch, head, i, j):
        return torch.where(i + self_offset == j, float("-inf"), score)

    _, aux = _compiled_flex_attention()(
        queries,
        keys,
        keys.new_zeros(1, 1, len(contrast_z), 16),
        score_mod=None if self_offset is None else without_itself,
        scale=1 / temperature,
        return_aux=AuxRequest(lse=True),
    )
    return aux.lse[0, 0].to(z.dtype)


@functools.cache
def _compiled_flex_attention():
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=False)
