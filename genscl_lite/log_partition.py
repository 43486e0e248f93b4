"""The latents' side of the loss: log Z_i = log sum_j exp(u_ij), all of it that needs every pair of rows.

Symbols as in ``losses``; u_ij = anchors_i . contrasts_j are scores. A backend gives sum_i a_i log Z_i, for weights
a_i known before (1/M, say), or each a_i log Z_i, in its own way:

dense     all scores at once
streamed  a block of scores at a time, with the gradient in the same pass, which is three matrix products in
          all. Where a batch is its own contrast, scores are symmetric and so are the weights of their gradient,
          a_i p_ij + a_j p_ji: half of each, two products:

              d/dz_i = a_i sum_j p_ij c_j     d/dc_j = sum_i a_i p_ij z_i     p_ij = exp(u_ij) / Z_i

fused     CUDA only; torch's FlexAttention, whose kernels give this logarithm, a tile of scores at a time
"""

import functools
from typing import NamedTuple

import torch
from torch import Tensor

DENSE_UP_TO, DENSE_UP_TO_ON_CUDA = 2**18, 2**24  # scores; for more, blocks are quicker and smaller
TILE = {"cpu": 512}  # rows and columns of a block: it should stay in a CPU's cache, keep a GPU busy
LARGEST_EXPONENT = {torch.float32: 80.0, torch.float64: 700.0}  # exp of minus this is normal


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


def all_scores(z: Tensor, c: Tensor, self_offset: int | None) -> Tensor:
    """Return z_i . c_j, (M, K), and the least number there is for contrast self_offset + i, anchor i itself."""
    if self_offset is None:
        return z @ c.T
    itself = z.new_zeros(len(z), len(c))
    itself.diagonal(self_offset).fill_(torch.finfo(z.dtype).min)
    return torch.addmm(itself, z, c.T)


class Centered(NamedTuple):
    """Latents less a common vector m, so that sums over them keep their digits where all are nearly parallel.

    z_i . c_j = (z_i - m) . (c_j - m) + m . (c_j - m) + a constant of the row, which no softmax sees: where sum_j
    w_ij = 1, log Z_i and the attraction both grow by it. Near collapse, the gradient is a small difference of
    sum_j p_ij c_j and sum_j w_ij c_j. Both sums are small themselves once m is taken out.
    """

    anchors: Tensor  # (M, D + 1): z_i - m and a 1
    contrasts: Tensor  # (K, D + 1): c_j - m and m . (c_j - m)
    mean: Tensor  # (D,): m, without gradient; the loss is the same for any


def centered(z: Tensor, c: Tensor, dtype: torch.dtype) -> Centered:
    """Center (M, D) anchors and (K, D) contrasts by the latter's mean, of a length that ``dtype`` holds exactly."""
    mean = c.detach().mean(dim=0)
    length = torch.linalg.vector_norm(mean).clamp(min=1e-12)
    mean = mean * (length.to(dtype).to(mean) / length)
    anchors = z - mean
    contrasts = anchors if c is z else c - mean
    return Centered(
        torch.cat([anchors, anchors.new_ones(len(z), 1)], dim=1),
        torch.cat([contrasts, (contrasts @ mean)[:, None]], dim=1),
        mean,
    )


def weighted_log_partition(
    latents: Centered,
    anchor_weight: Tensor,
    self_offset: int | None,
    largest: float | None = None,
    fused_dtype: torch.dtype | None = None,
    each: bool = False,
) -> Tensor:
    """Return sum_i a_i log Z_i, or all a_i log Z_i, block by block, or by the fused kernel in ``fused_dtype``.

    ``largest`` is the largest score that latents can have, 1 / tau, for a batch that is its own contrast.
    """
    if fused_dtype is not None:
        weighted = anchor_weight * _fused(latents, self_offset, fused_dtype)
        return weighted if each else weighted.sum()
    anchors, contrasts, mean = latents
    if largest is not None and 2 * largest < LARGEST_EXPONENT[anchors.dtype]:
        rows, shift = (contrasts,), largest - mean.square().sum()
    else:
        rows, shift = (anchors, contrasts), None
    offset = -1 if self_offset is None else self_offset
    gradient = torch.is_grad_enabled() and any(t.requires_grad for t in rows)
    if each:
        return anchor_weight * _LogPartition.apply(shift, offset, *rows)
    return _WeightedLogPartition.apply(anchor_weight, shift, offset, gradient, *rows)[0]


def _fused(latents: Centered, self_offset: int | None, dtype: torch.dtype) -> Tensor:
    """Return (M,) log Z_i from an attention kernel: queries z, keys c, values that nobody reads.

    The kernel rounds latents to 8 bits, of which a vector common to all would take most. So all are reflected
    to where m has one coordinate other than 0. Keys have none of m; queries have it in one exact number.
    """
    flex_attention, logarithms = _flex_attention()
    anchors, contrasts, mean = latents
    length = torch.linalg.vector_norm(mean)
    sign = torch.where(mean[0] < 0, -1, 1)
    axis = mean / length.clamp(min=1e-12)
    axis[0] += sign
    axis = axis / torch.linalg.vector_norm(axis)  # to reflect along: m becomes -sign |m| e_0

    def reflected(rows: Tensor) -> Tensor:
        return rows - 2 * (rows @ axis)[:, None] * axis

    reflected_mean = torch.zeros_like(mean)
    reflected_mean[0] = -sign * length
    queries, keys = reflected(anchors[:, :-1]) + reflected_mean, reflected(contrasts[:, :-1])
    queries, keys = (t.to(dtype)[None, None] for t in (queries, keys))  # (1, 1, M, D), (1, 1, K, D)
    values = keys.new_zeros(1, 1, keys.shape[2], 16)

    def without_itself(score, batch, head, i, j):
        return torch.where(i + self_offset == j, float("-inf"), score)

    score_mod = None if self_offset is None else without_itself
    _, aux = flex_attention(queries, keys, values, score_mod, scale=1.0, return_aux=logarithms)
    return aux.lse[0, 0].to(anchors.dtype)


@functools.cache
def _flex_attention():
    """Return the compiled kernel and the request for logarithms; imported late: it takes half a second."""
    from torch.nn.attention.flex_attention import AuxRequest, flex_attention

    return torch.compile(flex_attention, dynamic=False), AuxRequest(lse=True)


def _streamed(
    anchor_weight: Tensor, shift: Tensor | None, self_offset: int, gradient: bool, rows: tuple
) -> tuple[Tensor, list[Tensor]]:
    """Return (M,) log Z_i and the gradients of sum_i a_i log Z_i by ``rows``, where they are wanted."""
    if shift is None:
        log_partition, *gradients = _blocks(*rows, anchor_weight, self_offset, gradient)
    else:
        log_partition, *gradients = _symmetric_blocks(*rows, anchor_weight, shift, gradient)
    return log_partition, gradients


@torch.library.custom_op("genscl_lite::log_partition", mutates_args=())
def _blocks(
    anchors: Tensor, contrasts: Tensor, anchor_weight: Tensor, self_offset: int, gradient: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return (M,) log Z_i and, where wanted, the gradients of sum_i a_i log Z_i. An offset of -1 is none."""
    size = TILE.get(anchors.device.type, max(1, 2**26 // len(contrasts)))
    log_partition = anchors.new_empty(len(anchors))
    to_anchors, to_contrasts = (
        torch.zeros_like(t) if gradient else t.new_empty(0) for t in (anchors, contrasts)
    )
    memory = anchors.new_empty(min(size, len(anchors)), len(contrasts))
    for start in range(0, len(anchors), size):
        block = slice(start, start + size)
        p = torch.mm(anchors[block], contrasts.T, out=memory[: len(anchors[block])])  # scores
        if self_offset >= 0:
            p.diagonal(self_offset + start).fill_(float("-inf"))
        largest = p.amax(dim=1, keepdim=True)
        p.sub_(largest).exp_()
        sums = p.sum(dim=1, keepdim=True)
        log_partition[block] = (largest + sums.log())[:, 0]
        if gradient:
            p.mul_(anchor_weight[block, None] / sums)  # a_i p_ij
            torch.mm(p, contrasts, out=to_anchors[block])
            to_contrasts.addmm_(p.T, anchors[block])
    return log_partition, to_anchors, to_contrasts


@torch.library.custom_op("genscl_lite::log_partition_symmetric", mutates_args=())
def _symmetric_blocks(
    contrasts: Tensor, anchor_weight: Tensor, shift: Tensor, gradient: bool
) -> tuple[Tensor, Tensor]:
    """Do the same for a batch that is its own contrast, from one triangle of the symmetric scores.

    With o_j = m . (c_j - m), the last column, E_ij = exp((c_i - m) . (c_j - m) + o_i + o_j - shift) is
    exp((z_i . z_j - 1) / tau) and needs no row's maximum. A first pass sums its rows; then the gradient is
    sum_j E_ij (b_i + b_j) c_j with b_i = a_i / sum_j E_ij, another symmetric matrix times c.
    """
    side = TILE.get(contrasts.device.type, 8192)
    starts = range(0, len(contrasts), side)
    o, one = contrasts[:, -1:], contrasts.new_ones(len(contrasts), 1)
    right = torch.cat([contrasts[:, :-1], one, o], dim=1)  # (M, D + 2)
    left = torch.cat([contrasts, one], dim=1)
    minus_shift, memory = -shift.reshape(1, 1), contrasts.new_empty(min(side, len(contrasts)) ** 2)

    def tile(i: int, j: int) -> Tensor:
        a, b = left[i : i + side], right[j : j + side]
        out = memory[: len(a) * len(b)].view(len(a), len(b))
        e = torch.addmm(minus_shift, a, b.T, out=out).exp_()
        return e.fill_diagonal_(0) if i == j else e

    sums = contrasts.new_zeros(len(contrasts))
    for i in starts:
        for j in starts[i // side :]:
            e = tile(i, j)
            sums[i : i + side] += e.sum(dim=1)
            if i != j:
                sums[j : j + side] += e.sum(dim=0)
    log_partition = sums.log() + shift - o[:, 0]
    to_contrasts = torch.zeros_like(contrasts) if gradient else contrasts.new_empty(0)
    if gradient:
        b, values = anchor_weight / sums, right[:, :-1]  # c_j - m and a 1
        for i in starts:
            for j in starts[i // side :]:
                e = tile(i, j).mul_(b[i : i + side, None] + b[j : j + side])
                to_contrasts[i : i + side].addmm_(e, values[j : j + side])
                if i != j:
                    to_contrasts[j : j + side].addmm_(e.T, values[i : i + side])
        to_contrasts[:, -1] -= anchor_weight  # of both roles, o_j has that of a contrast alone
    return log_partition, to_contrasts


@_blocks.register_fake
def _(anchors, contrasts, anchor_weight, self_offset, gradient):
    gradients = (torch.empty_like(t) if gradient else t.new_empty(0) for t in (anchors, contrasts))
    return anchors.new_empty(len(anchors)), *gradients


@_symmetric_blocks.register_fake
def _(contrasts, anchor_weight, shift, gradient):
    to_contrasts = torch.empty_like(contrasts) if gradient else contrasts.new_empty(0)
    return contrasts.new_empty(len(contrasts)), to_contrasts


class _WeightedLogPartition(torch.autograd.Function):
    """sum_i a_i log Z_i, whose gradient is ready before it is asked for."""

    @staticmethod
    def forward(anchor_weight, shift, self_offset: int, gradient: bool, *rows):
        log_partition, gradients = _streamed(anchor_weight, shift, self_offset, gradient, rows)
        return (anchor_weight * log_partition).sum(), log_partition, *gradients

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(*output[1:], *inputs[4:])

    @staticmethod
    def backward(ctx, upstream, *_):
        log_partition, *saved = ctx.saved_tensors
        ready, rows = saved[: len(saved) // 2], saved[len(saved) // 2 :]
        by_weight, *gradients = (_only_once(upstream * g, rows) for g in (log_partition, *ready))
        return by_weight, None, None, None, *gradients


class _LogPartition(torch.autograd.Function):
    """All log Z_i; weights of their gradient are known when it is asked for, so scores are made twice."""

    @staticmethod
    def forward(shift, self_offset: int, *rows):
        return _streamed(rows[0].new_zeros(len(rows[0])), shift, self_offset, False, rows)[0]

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.shift, ctx.self_offset = inputs[:2]
        ctx.save_for_backward(*inputs[2:])

    @staticmethod
    def backward(ctx, upstream):
        rows = ctx.saved_tensors
        plain = [t.detach() for t in rows]
        gradients = _streamed(upstream.detach(), ctx.shift, ctx.self_offset, True, plain)[1]
        return None, None, *(_only_once(g, (upstream, *rows)) for g in gradients)


def _only_once(gradient: Tensor, inputs: tuple[Tensor, ...]) -> Tensor:
    """Return the gradient, of which nobody has worked out the derivative by ``inputs``."""
    return _OnlyOnce.apply(gradient, *inputs) if torch.is_grad_enabled() else gradient


class _OnlyOnce(torch.autograd.Function):
    """Pass a gradient through, and say so if its own derivative is asked for."""

    @staticmethod
    def forward(gradient: Tensor, *inputs: Tensor) -> Tensor:
        return gradient.clone()

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, *_):
        raise RuntimeError(
            "backend: 'streamed' gives a first derivative only; "
            "take backend='dense' to differentiate twice"
        )
