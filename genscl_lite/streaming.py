"""The loss without any (M, K) matrix: sums over contrasts for labels, blocks of scores for latents.

Symbols as in ``losses``. Contrast ``self_offset + i`` is anchor i itself and is left out; the offset is None
where all contrasts are other rows.
"""

import functools
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

# Labels: W_i = sum_j s_ij and the attraction sum_j w_ij z_i . c_j (0 where W_i is 0), a class for each kind.

FEW_ROWS = 512  # up to so many, all labels of a batch are compared at once; sums over blocks would cost more
BLOCK_ELEMENTS = 2**22  # similarities held at once where they are computed block by block


class SumsByBlocks:
    """Any similarity: ``compare`` turns a slice of anchors into (block, K), and again for the gradient."""

    def __init__(
        self, compare: Callable[[slice], Tensor], size: tuple[int, int], self_offset: int | None
    ):
        self.compare, self.self_offset = compare, self_offset
        anchors, contrasts = size  # M, K
        rows = max(1, BLOCK_ELEMENTS // contrasts)
        self.blocks = [
            slice(start, min(start + rows, anchors)) for start in range(0, anchors, rows)
        ]

    def similar_others(self, block: slice) -> Tensor:
        """Return (block, K) similarities, 0 to the anchor itself."""
        s = self.compare(block)
        if self.self_offset is not None:
            s = torch.diagonal_scatter(s, s.new_zeros(len(s)), self.self_offset + block.start)
        return s

    def scaled_block(self, block: slice) -> tuple[Tensor, Tensor]:
        """Return the same, each row divided by its largest, and the largest."""
        s = self.similar_others(block)
        largest = s.amax(dim=1)
        return s / largest.where(largest > 0, 1)[
            :, None
        ], largest  # however small or large, no sum is lost

    def weights(self) -> tuple[Tensor, Tensor]:
        """Return (M, K) w_ij, all at once, and (M,) W_i."""
        s, largest = self.scaled_block(slice(0, self.blocks[-1].stop))
        total = s.sum(dim=1)
        return s / total.where(total > 0, 1)[:, None], total * largest

    def sums(self, z: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Return (M,) W_i and (M,) attractions of (M, D) anchors by (K, D) contrasts."""

        def block_sums(block_z: Tensor, block: slice) -> tuple[Tensor, Tensor]:
            s, largest = self.scaled_block(block)
            total = s.sum(dim=1)
            return total * largest, ratio(((s @ c) * block_z).sum(dim=1), total)

        if len(self.blocks) == 1:
            return block_sums(z, self.blocks[0])
        parts = [
            checkpoint(block_sums, z[block], block, use_reentrant=False, preserve_rng_state=False)
            for block in self.blocks
        ]
        return tuple(torch.cat(part) for part in zip(*parts, strict=True))

    def entropy(self) -> Tensor:
        """Return (M,) H(w_i) in nats."""
        blocks = (
            ratio(s, s.sum(dim=1, keepdim=True)) for s, _ in map(self.scaled_block, self.blocks)
        )
        return torch.cat([torch.special.entr(w).sum(dim=1) for w in blocks])


class SumsByFeatures(SumsByBlocks):
    """Distributions, whose similarity is a product of features, s_ij = phi_i . phi_j.

    So sum_j s_ij c_j = phi_i^T (sum_j phi_j c_j^T), and the sum in brackets, (C, D), is the same for all
    anchors. Taking an anchor's own term out of it afterwards can cancel every digit. So that term is never
    put in: an anchor meets the rows of its own block one by one, and all other blocks as sums.
    """

    def __init__(self, phi: Tensor, contrast_phi: Tensor, self_offset: int | None):
        super().__init__(
            lambda rows: phi[rows] @ contrast_phi.T, (len(phi), len(contrast_phi)), self_offset
        )
        self.phi, self.contrast_phi = phi, contrast_phi

    def sums(self, z: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        # beside each latent a 1: the last column of a sum over contrasts is that of the similarities alone
        values = torch.cat([c, c.new_ones(len(c), 1)], dim=1)  # (K, D + 1)
        if self.self_offset is None:
            sums = self.phi @ (self.contrast_phi.T @ values)  # (M, D + 1)
        else:
            batch = slice(self.self_offset, self.self_offset + len(z))
            sums = _sums_over_others(self.phi, self.contrast_phi[batch], values[batch])
            for rest in (
                slice(0, batch.start),
                slice(batch.stop, len(c)),
            ):  # rows of other processes
                if len(c[rest]):
                    sums = sums + self.phi @ (self.contrast_phi[rest].T @ values[rest])
        total = _not_tiny(sums[:, -1])
        return total, ratio((sums[:, :-1] * z).sum(dim=1), total)

    def weights(self) -> tuple[Tensor, Tensor]:
        s = self.similar_others(slice(0, len(self.phi)))
        total = _not_tiny(s.sum(dim=1))
        return s / total.where(total > 0, 1)[:, None], total


def _not_tiny(total: Tensor) -> Tensor:
    """Return 0 for sums so small that a gradient divided by them would overflow."""
    return total.where(total > 1e8 * torch.finfo(total.dtype).tiny, 0)


def _sums_over_others(phi: Tensor, contrast_phi: Tensor, values: Tensor) -> Tensor:
    """Return sum_{j != i} (phi_i . phi_j) v_j, (M, E), for (M, C) features and (M, E) values v."""
    rows, classes, columns = *phi.shape, values.shape[1]
    if rows <= FEW_ROWS:
        return ((phi @ contrast_phi.T) * _zero_diagonal(rows, phi)) @ values
    size = max(
        32, math.isqrt(classes * columns) // 2
    )  # about what makes both parts below equally large
    phi, contrast_phi, values = (
        F.pad(t, (0, 0, 0, -rows % size)).unflatten(0, (-1, size))
        for t in (phi, contrast_phi, values)
    )
    within_block = (phi @ contrast_phi.mT) * _zero_diagonal(size, phi)  # (blocks, size, size)
    block_sums = (contrast_phi.mT @ values).flatten(1)  # (blocks, C * E)
    other_blocks = (_zero_diagonal(len(phi), phi) @ block_sums).unflatten(1, (classes, columns))
    return (within_block @ values + phi @ other_blocks).flatten(0, 1)[:rows]


def _zero_diagonal(size: int, like: Tensor) -> Tensor:
    return 1 - torch.eye(size, dtype=like.dtype, device=like.device)


class SumsByClass:
    """Class numbers, s_ij = 1 where they are equal, else 0: sums over classes, never a one-hot matrix."""

    def __init__(
        self, labels: Tensor, contrast_labels: Tensor, self_offset: int | None, dtype: torch.dtype
    ):
        both = torch.cat([labels, contrast_labels])
        ordered, order = both.sort()
        place = F.pad(
            (ordered[1:] != ordered[:-1]).cumsum(dim=0), (1, 0)
        )  # 0, 1, ... in the numbers' order
        index = torch.empty_like(place).scatter_(0, order, place)
        self.index, self.contrast_index = index.split([len(labels), len(contrast_labels)])
        self.self_offset, self.places = self_offset, len(both)
        ones = torch.ones(len(contrast_labels), dtype=dtype, device=both.device)
        counts = ones.new_zeros(self.places).index_add(0, self.contrast_index, ones)
        self.total = counts[self.index] - int(
            self_offset is not None
        )  # (M,) others of the anchor's class

    def sums(self, z: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        class_sums = z.new_zeros(self.places, z.shape[1]).index_add(0, self.contrast_index, c)
        others = class_sums[self.index]  # (M, D) sum_j s_ij c_j
        if self.self_offset is not None:
            others = others - c[self.self_offset : self.self_offset + len(z)]
        return self.total, ratio((others * z).sum(dim=1), self.total)

    def weights(self) -> tuple[Tensor, Tensor]:
        same = (self.index[:, None] == self.contrast_index).to(self.total.dtype)  # (M, K)
        if self.self_offset is not None:
            same.diagonal(self.self_offset).fill_(0)
        return same / self.total.clamp(min=1)[:, None], self.total

    def entropy(self) -> Tensor:
        return self.total.clamp(min=1).log()


def ratio(value: Tensor, total: Tensor) -> Tensor:
    """Return value / total, and 0 where the total is 0."""
    return torch.where(total > 0, value / total.where(total > 0, 1), 0)


# Latents: log Z_i = log sum_j exp(z_i . c_j / tau), all of the loss that needs every pair of rows. The loss
# takes sum_i a_i log Z_i with weights a_i (1/M, say) known before, so one pass gives its gradients too:
#
#     d/dz_i = a_i/tau sum_j p_ij c_j   d/dc_j = 1/tau sum_i a_i p_ij z_i   p_ij = exp(z_i . c_j / tau) / Z_i
#
# streamed: a block of scores at a time, three matrix products in all. Where a batch is its own contrast,
#           scores and the gradient's weights a_i p_ij + a_j p_ji are symmetric: half of each, two products.
# fused:    CUDA only; torch's FlexAttention, whose kernels give this logarithm, a tile of scores at a time.

DENSE_UP_TO, DENSE_UP_TO_ON_CUDA = 2**18, 2**24  # scores; for more, blocks are quicker and smaller
TILE = {"cpu": 512}  # rows and columns of a block: it should stay in a CPU's cache, keep a GPU busy
LARGEST_EXPONENT = {
    torch.float32: 80.0,
    torch.float64: 700.0,
}  # for 2 / tau: exp((z.c - 1) / tau) is normal


def choose_backend(backend: str, latents: Tensor, contrasts: int) -> str:
    """Return the backend that "auto" means for these latents; refuse "fused" without CUDA."""
    on_cuda = latents.device.type == "cuda"
    if backend == "fused" and not on_cuda:
        raise ValueError(
            "backend: 'fused' needs latents on a CUDA device, "
            f"got {latents.device}; take 'streamed'"
        )
    if backend != "auto":
        return backend
    few = len(latents) * contrasts <= (DENSE_UP_TO_ON_CUDA if on_cuda else DENSE_UP_TO)
    return "dense" if few else "fused" if on_cuda and latents.dtype.itemsize == 2 else "streamed"


def streamed_loss(
    z: Tensor,
    c: Tensor,
    attraction: Tensor,
    anchor_weight: Tensor,
    temperature: float | Tensor,
    self_offset: int | None,
    fused_dtype: torch.dtype | None = None,
) -> tuple[Tensor, Tensor]:
    """Compute what ``losses.dense_loss`` does, block by block, or by the fused kernel in ``fused_dtype``.

    As sum_j w_ij = 1, an anchor's cross-entropy is log Z_i - sum_j w_ij z_i . c_j / tau. So of the labels it
    takes the ``attraction`` alone, (M,) sum_j w_ij z_i . c_j.
    """
    tau = temperature
    if isinstance(tau, Tensor):  # anchors take it in, and pass their gradient on to it
        z, temperature = z / tau, 1.0
    gradient = torch.is_grad_enabled() and (z.requires_grad or c.requires_grad)
    if fused_dtype is not None:
        log_partition = _fused(z, c, temperature, self_offset, fused_dtype)
        repulsion = (anchor_weight * log_partition).sum()
    elif c is z and 2 / temperature < LARGEST_EXPONENT[z.dtype]:
        repulsion, log_partition, _ = _streamed_symmetric(z, anchor_weight, temperature, gradient)
    else:
        offset = -1 if self_offset is None else self_offset
        repulsion, log_partition, *_ = _streamed(z, c, anchor_weight, temperature, offset, gradient)
    loss = repulsion - (anchor_weight * attraction).sum() / tau
    return loss, (log_partition - attraction / tau).detach()


def _fused(z: Tensor, c: Tensor, temperature: float, self_offset: int | None, dtype) -> Tensor:
    """Return (M,) log Z_i from an attention kernel: queries z, keys c, values that nobody reads."""
    flex_attention, logarithms = _flex_attention()
    queries, keys = (t.to(dtype)[None, None] for t in (z, c))  # (1, 1, M, D), (1, 1, K, D)
    values = keys.new_zeros(1, 1, len(c), 16)

    def without_itself(score, batch, head, i, j):
        return torch.where(i + self_offset == j, float("-inf"), score)

    score_mod = None if self_offset is None else without_itself
    _, aux = flex_attention(
        queries, keys, values, score_mod, scale=1 / temperature, return_aux=logarithms
    )
    return aux.lse[0, 0].to(z.dtype)


@functools.cache
def _flex_attention():
    """Return the compiled kernel and the request for logarithms; imported late: it takes half a second."""
    from torch.nn.attention.flex_attention import AuxRequest, flex_attention

    return torch.compile(flex_attention, dynamic=False), AuxRequest(lse=True)


@torch.library.custom_op("genscl_lite::streamed_log_partition", mutates_args=())
def _streamed(
    z: Tensor,
    c: Tensor,
    anchor_weight: Tensor,
    temperature: float,
    self_offset: int,
    gradient: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return sum_i a_i log Z_i, (M,) log Z_i and, where wanted, its gradients. An offset of -1 is none."""
    rows = TILE.get(z.device.type, max(1, 2**26 // len(c)))
    log_partition = z.new_empty(len(z))
    z_gradient, c_gradient = (torch.zeros_like(t) if gradient else t.new_empty(0) for t in (z, c))
    memory = z.new_empty(min(rows, len(z)), len(c))
    for start in range(0, len(z), rows):
        block = slice(start, start + rows)
        p = torch.mm(z[block] / temperature, c.T, out=memory[: len(z[block])])  # (block, K) scores
        if self_offset >= 0:
            p.diagonal(self_offset + start).fill_(float("-inf"))
        largest = p.amax(dim=1, keepdim=True)
        p.sub_(largest).exp_()
        sums = p.sum(dim=1, keepdim=True)
        log_partition[block] = (largest + sums.log())[:, 0]
        if gradient:
            p.mul_(anchor_weight[block, None] / temperature / sums)  # a_i p_ij / tau
            torch.mm(p, c, out=z_gradient[block])
            c_gradient.addmm_(p.T, z[block])
    return (anchor_weight * log_partition).sum(), log_partition, z_gradient, c_gradient


@torch.library.custom_op("genscl_lite::streamed_log_partition_symmetric", mutates_args=())
def _streamed_symmetric(
    z: Tensor, anchor_weight: Tensor, temperature: float, gradient: bool
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
    log_partition = sums.log() + 1 / temperature
    z_gradient = torch.zeros_like(z) if gradient else z.new_empty(0)
    if gradient:
        b = anchor_weight / sums / temperature
        for i in starts:
            for j in starts[i // side :]:
                e = tile(i, j).mul_(b[i : i + side, None] + b[j : j + side])
                z_gradient[i : i + side].addmm_(e, z[j : j + side])
                if i != j:
                    z_gradient[j : j + side].addmm_(e.T, z[i : i + side])
    return (anchor_weight * log_partition).sum(), log_partition, z_gradient


@_streamed.register_fake
def _(z, c, anchor_weight, temperature, self_offset, gradient):
    gradients = (torch.empty_like(t) if gradient else t.new_empty(0) for t in (z, c))
    return z.new_empty(()), z.new_empty(len(z)), *gradients


@_streamed_symmetric.register_fake
def _(z, anchor_weight, temperature, gradient):
    return z.new_empty(()), z.new_empty(len(z)), torch.empty_like(z) if gradient else z.new_empty(0)


def _keep_gradients(ctx, inputs, output):
    ctx.gradients = len(output) - 2
    ctx.save_for_backward(*output[1:], *inputs[: ctx.gradients])


def _scale_gradients(ctx, upstream, *_):
    log_partition, *saved = ctx.saved_tensors
    gradients, latents = saved[: ctx.gradients], saved[ctx.gradients :]
    gradients = [upstream * g if g.numel() else None for g in gradients]
    if torch.is_grad_enabled():  # somebody wants to differentiate the gradient
        gradients = [_OnlyOnce.apply(g, *latents) if g is not None else None for g in gradients]
    return (
        *gradients,
        upstream * log_partition,
        *[None] * (len(ctx.needs_input_grad) - ctx.gradients - 1),
    )


class _OnlyOnce(torch.autograd.Function):
    """Pass a gradient through; nobody has worked out its own derivative: say so where that is asked for."""

    @staticmethod
    def forward(ctx, gradient: Tensor, *latents: Tensor) -> Tensor:
        return gradient.clone()

    @staticmethod
    def backward(ctx, *_):
        raise RuntimeError(
            "backend: 'streamed' gives a first derivative only; "
            "take backend='dense' to differentiate twice"
        )


for _op in (_streamed, _streamed_symmetric):
    _op.register_autograd(_scale_gradients, setup_context=_keep_gradients)
