"""The latents' side of the loss: log Z_i = log sum_j exp(u_ij), all of it that needs every pair of rows.

Symbols as in ``losses``; u_ij = anchors_i . contrasts_j + offset_j are scores. A backend gives sum_i a_i log Z_i, for weights
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
LARGEST = {torch.float32: 80.0, torch.float64: 700.0}  # exponent: exp of minus this is normal


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
    """Latents less a common vector m, so that sums over them keep their digits if all are nearly parallel.

    z_i . c_j = (z_i - m) . (c_j - m) + m . (c_j - m) + a constant of the row, which no softmax sees: as sum_j
    w_ij = 1, log Z_i and the attraction both grow by it. Near collapse, the gradient is a small difference of
    sum_j p_ij c_j and sum_j w_ij c_j. Both sums are small themselves once m is taken out.
    """

    anchors: Tensor  # (M, D): z_i - m
    contrasts: Tensor  # (K, D): c_j - m
    offset: Tensor  # (K,): o_j = m . (c_j - m)
    mean: Tensor  # (D,): m, without gradient; the loss is the same for any


def centered(z: Tensor, c: Tensor) -> Centered:
    """Center (M, D) anchors and (K, D) contrasts by the latter's mean."""
    mean = c.detach().mean(dim=0)
    anchors = z - mean
    contrasts = anchors if c is z else c - mean
    return Centered(anchors, contrasts, contrasts @ mean, mean)


def weighted_log_partition(
    latents: Centered,
    anchor_weight: Tensor,
    self_offset: int | None,
    temperature: float | Tensor,
    fused_dtype: torch.dtype | None = None,
    each: bool = False,
) -> Tensor:
    """Return sum_i a_i log Z_i, or all a_i log Z_i, block by block, or by the fused kernel in ``fused_dtype``."""
    if fused_dtype is not None:
        log_z = _fused(latents, self_offset, fused_dtype)
        return anchor_weight * log_z if each else anchor_weight @ log_z
    z, contrasts, offset, mean = latents
    anchors: Tensor | None = z
    shift = None
    own = z is contrasts  # scores are symmetric, none above 1 / tau
    if own and not isinstance(temperature, Tensor) and 2 / temperature < LARGEST[z.dtype]:
        anchors, shift = None, 1 / temperature - mean.square().sum()
    elif own:
        anchors = z.view_as(z)  # another role, another argument
    itself = -1 if self_offset is None else self_offset
    rows = contrasts, offset, anchors
    if each:
        return anchor_weight * _LogPartition.apply(*rows, shift, itself)
    gradient = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in rows)
    return _WeightedLogPartition.apply(*rows, anchor_weight, shift, itself, gradient)[0]


def _fused(latents: Centered, self_offset: int | None, dtype: torch.dtype) -> Tensor:
    """Return (M,) log Z_i from an attention kernel: queries z, keys c, values that nobody reads.

    The kernel rounds latents to 8 bits, of which a vector common to all would take most. So that stays out of
    them: what it adds to a score, ``offset``, is added in float32, and so is the gradient by it.
    """
    flex_attention, logarithms = _flex_attention()
    anchors, contrasts, offset, _ = latents
    queries, keys = (t.to(dtype)[None, None] for t in (anchors, contrasts))  # (1, 1, rows, D)
    values = keys.new_zeros(1, 1, keys.shape[2], 16)

    def with_offset(score, batch, head, i, j):
        score = score + offset[j]
        if self_offset is None:
            return score
        return torch.where(i + self_offset == j, float("-inf"), score)

    _, aux = flex_attention(queries, keys, values, with_offset, scale=1.0, return_aux=logarithms)
    return aux.lse[0, 0].to(anchors.dtype)


@functools.cache
def _flex_attention():
    """Return the compiled kernel and the request for logarithms; imported late: it takes half a second."""
    from torch.nn.attention.flex_attention import AuxRequest, flex_attention

    return torch.compile(flex_attention, dynamic=False), AuxRequest(lse=True)


def _streamed(
    contrasts: Tensor,
    offset: Tensor,
    anchors: Tensor | None,
    anchor_weight: Tensor,
    shift: Tensor | None,
    self_offset: int,
    gradient: bool,
) -> tuple[Tensor, ...]:
    """Return (M,) log Z_i and the gradients of sum_i a_i log Z_i by the first three, if they are wanted."""
    if anchors is None:
        return _symmetric_blocks(contrasts, offset, anchor_weight, shift, gradient)
    return _blocks(contrasts, offset, anchors, anchor_weight, self_offset, gradient)


@torch.library.custom_op("genscl_lite::log_partition", mutates_args=())
def _blocks(
    contrasts: Tensor,
    offset: Tensor,
    anchors: Tensor,
    anchor_weight: Tensor,
    self_offset: int,
    gradient: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return (M,) log Z_i and, if wanted, the gradients of sum_i a_i log Z_i. A self_offset of -1 is none."""
    size = TILE.get(anchors.device.type, max(1, 2**26 // len(contrasts)))
    log_partition = anchors.new_empty(len(anchors))
    to_contrasts, to_offset, to_anchors = _zeros((contrasts, offset, anchors), gradient)
    memory = anchors.new_empty(min(size, len(anchors)), len(contrasts))
    for start in range(0, len(anchors), size):
        block = slice(start, start + size)
        z = anchors[block]
        p = torch.addmm(offset, z, contrasts.T, out=memory[: len(z)])  # (block, K) scores
        if self_offset >= 0:
            p.diagonal(self_offset + start).fill_(float("-inf"))
        largest = p.amax(dim=1, keepdim=True)
        p.sub_(largest).exp_()
        sums = p.sum(dim=1, keepdim=True)
        log_partition[block] = (largest + sums.log())[:, 0]
        if gradient:
            p.mul_(anchor_weight[block, None] / sums)  # a_i p_ij
            torch.mm(p, contrasts, out=to_anchors[block])
            to_contrasts.addmm_(p.T, z)
            to_offset += p.sum(dim=0)
    return log_partition, to_contrasts, to_offset, to_anchors


@torch.library.custom_op("genscl_lite::log_partition_symmetric", mutates_args=())
def _symmetric_blocks(
    contrasts: Tensor, offset: Tensor, anchor_weight: Tensor, shift: Tensor, gradient: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Do the same for a batch that is its own contrast, from one triangle of the symmetric scores.

    E_ij = exp((c_i - m) . (c_j - m) + o_i + o_j - shift), which is exp((z_i . z_j - 1) / tau), needs no row's
    maximum. A first pass sums its rows; then the gradient is sum_j E_ij (b_i + b_j) (c_j - m) with b_i = a_i /
    sum_j E_ij, another symmetric matrix times the contrasts.
    """
    side = TILE.get(contrasts.device.type, 8192)
    starts = range(0, len(contrasts), side)
    below, memory = offset - shift, contrasts.new_empty(min(side, len(contrasts)) ** 2)

    def tile(i: int, j: int) -> Tensor:
        left, right = contrasts[i : i + side], contrasts[j : j + side]
        e = memory[: len(left) * len(right)].view(len(left), len(right))
        torch.add(offset[i : i + side, None], below[j : j + side], out=e)
        e.addmm_(left, right.T).exp_()
        return e.fill_diagonal_(0) if i == j else e

    sums = contrasts.new_zeros(len(contrasts))
    for i in starts:
        for j in starts[i // side :]:
            e = tile(i, j)
            sums[i : i + side] += e.sum(dim=1)
            if i != j:
                sums[j : j + side] += e.sum(dim=0)
    log_partition = sums.log() - below
    to_contrasts, to_offset = _zeros((contrasts, offset), gradient)
    if gradient:
        b = anchor_weight / sums
        to_offset -= (
            anchor_weight  # of both roles of a row, its offset has that of a contrast alone
        )
        for i in starts:
            for j in starts[i // side :]:
                e = tile(i, j).mul_(b[i : i + side, None] + b[j : j + side])
                to_contrasts[i : i + side].addmm_(e, contrasts[j : j + side])
                to_offset[i : i + side] += e.sum(dim=1)
                if i != j:
                    to_contrasts[j : j + side].addmm_(e.T, contrasts[i : i + side])
                    to_offset[j : j + side] += e.sum(dim=0)
    return log_partition, to_contrasts, to_offset


@_blocks.register_fake
def _(contrasts, offset, anchors, anchor_weight, self_offset, gradient):
    return anchors.new_empty(len(anchors)), *_zeros((contrasts, offset, anchors), gradient)


@_symmetric_blocks.register_fake
def _(contrasts, offset, anchor_weight, shift, gradient):
    return contrasts.new_empty(len(contrasts)), *_zeros((contrasts, offset), gradient)


def _zeros(rows: tuple[Tensor, ...], gradient: bool) -> list[Tensor]:
    """Return a gradient to add to for each of the tensors; an empty one if none is wanted."""
    return [torch.zeros_like(t) if gradient else t.new_empty(0) for t in rows]


class _WeightedLogPartition(torch.autograd.Function):
    """sum_i a_i log Z_i, whose gradient is ready before it is asked for."""

    @staticmethod
    def forward(contrasts, offset, anchors, anchor_weight, shift, self_offset, gradient):
        log_partition, *gradients = _streamed(
            contrasts, offset, anchors, anchor_weight, shift, self_offset, gradient
        )
        return (anchor_weight * log_partition).sum(), log_partition, *gradients

    @staticmethod
    def setup_context(ctx, inputs, output):
        rows = [t for t in inputs[:3] if t is not None]
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(*output[1:], *rows)

    @staticmethod
    def backward(ctx, upstream, *_):
        log_partition, *saved = ctx.saved_tensors
        ready, rows = saved[: len(saved) // 2], saved[len(saved) // 2 :]
        by_weight, *gradients = (_only_once(upstream * g, rows) for g in (log_partition, *ready))
        gradients += [None] * (3 - len(gradients))
        return *gradients, by_weight, None, None, None


class _LogPartition(torch.autograd.Function):
    """All log Z_i; weights of their gradient are known when it is asked for, so scores are made twice."""

    @staticmethod
    def forward(contrasts, offset, anchors, shift, self_offset):
        weight = contrasts.new_zeros(len(contrasts if anchors is None else anchors))
        return _streamed(contrasts, offset, anchors, weight, shift, self_offset, False)[0]

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.shift, ctx.self_offset = inputs[3:]
        ctx.save_for_backward(*[t for t in inputs[:3] if t is not None])

    @staticmethod
    def backward(ctx, upstream):
        rows = ctx.saved_tensors
        plain = [t.detach() for t in rows] + [None] * (3 - len(rows))
        _, *gradients = _streamed(*plain, upstream.detach(), ctx.shift, ctx.self_offset, True)
        gradients = [_only_once(g, (upstream, *rows)) for g in gradients]
        return *gradients, *[None] * (5 - len(gradients))


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
