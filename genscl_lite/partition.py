"""The logarithm of the partition function, log sum_j exp(z_i . z_j / tau), without holding the (M, K) scores.

All of the loss that needs every pair of rows is sum_i a_i log Z_i, where Z_i sums over the contrasts of anchor i and the
shares a_i are known beforehand (1/M, say). So gradients can be had in the same pass as values:

    d/dz_i = a_i / tau  sum_j p_ij c_j        d/dc_j = 1/tau  sum_i a_i p_ij z_i        p_ij = exp(z_i . c_j / tau) / Z_i

``dense``      the readable reference: all scores at once; the only one that can be differentiated twice.
``streamed``   a block of scores at a time, three matrix products in all. Where a batch is its own contrast, scores and the
               weights of the gradient, a_i p_ij + a_j p_ji, are symmetric: half of each is computed, two products in all.
``fused``      CUDA only: torch's FlexAttention, whose kernels give this very logarithm, one tile of scores in registers.
"""

import functools

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import AuxRequest, flex_attention

BACKENDS = ("auto", "dense", "streamed", "fused")
DENSE_UP_TO = 2**16
"""Scores that "auto" computes at once; for more, blocks are quicker and smaller."""
TILE = {"cpu": 512}
"""Rows and columns of a block: on a CPU it should stay in the cache, elsewhere keep the device busy."""


def choose_backend(backend: str, latents: Tensor, contrasts: int) -> str:
    """Return the backend that "auto" means for these latents; a name stays itself.

    Raises:
        ValueError: "fused" without CUDA.
    """
    if backend == "fused" and latents.device.type != "cuda":
        raise ValueError(f"backend: 'fused' needs latents on a CUDA device, got {latents.device}; take 'streamed'")
    if backend != "auto":
        return backend
    if len(latents) * contrasts <= DENSE_UP_TO:
        return "dense"
    half = latents.dtype in (torch.bfloat16, torch.float16)
    return "fused" if half and latents.device.type == "cuda" else "streamed"


def log_partition(
    z: Tensor,
    contrast_z: Tensor,
    share: Tensor,
    temperature: float,
    own: int | None,
    backend: str,
    low: torch.dtype = torch.float32,
) -> tuple[Tensor, Tensor]:
    """Sum the logarithms log Z_i, anchor i with its share a_i.

    Args:
        z: (M, D) anchors of unit length.
        contrast_z: (K, D) contrasts of unit length; may be ``z`` itself.
        share: (M,) a_i.
        temperature: tau.
        own: the contrast that is anchor 0 itself; own + i is left out for anchor i. None: nothing is left out.
        backend: "dense", "streamed" or "fused".
        low: floating point type in which "fused" takes the latents.

    Returns:
        The sum, and (M,) log Z_i without gradient.
    """
    if backend == "dense":
        scores = z @ contrast_z.T / temperature
        if own is not None:
            scores.diagonal(own).fill_(float("-inf"))
        logs = scores.logsumexp(dim=1)
    elif backend == "fused":
        logs = _fused(z, contrast_z, temperature, own, low, _compiled_flex_attention())
    else:
        wanted = torch.is_grad_enabled() and (z.requires_grad or contrast_z.requires_grad)
        if contrast_z is z and 2 / temperature < LARGEST_EXPONENT[z.dtype]:
            total, logs, _ = _streamed_itself(z, share, temperature, wanted)
        else:
            total, logs, _, _ = _streamed(z, contrast_z, share, temperature, -1 if own is None else own, wanted)
        return total, logs.detach()
    return (share * logs).sum(), logs.detach()


LARGEST_EXPONENT = {torch.float32: 80.0, torch.float64: 700.0}
"""With cosines in [-1, 1], exp((cosine - 1) / tau) is a normal number as long as 2 / tau stays below this."""


@torch.library.custom_op("genscl_lite::streamed_log_partition", mutates_args=())
def _streamed(
    z: Tensor, contrast_z: Tensor, share: Tensor, temperature: float, own: int, gradient: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return sum_i a_i log Z_i, log Z, and the sum's gradients (empty, where none is wanted), block of rows by block."""
    rows = TILE.get(z.device.type, max(1, 2**26 // len(contrast_z)))
    logs = z.new_empty(len(z))
    z_gradient, contrast_gradient = (torch.zeros_like(t) if gradient else t.new_empty(0) for t in (z, contrast_z))
    block = z.new_empty(min(rows, len(z)), len(contrast_z))
    for start in range(0, len(z), rows):
        here = slice(start, start + rows)
        p = torch.mm(z[here] / temperature, contrast_z.T, out=block[: len(z[here])])
        if own >= 0:
            p.diagonal(own + start).fill_(float("-inf"))
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
def _streamed_itself(z: Tensor, share: Tensor, temperature: float, gradient: bool) -> tuple[Tensor, Tensor, Tensor]:
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
        e = torch.addmm(shift, left, right.T, out=memory[: len(left) * len(right)].view(len(left), len(right))).exp_()
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
def _(z, contrast_z, share, temperature, own, gradient):
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
    """Pass a gradient through that depends on rows in a way nobody has derived, and say so if that is asked for."""

    @staticmethod
    def forward(ctx, gradient: Tensor, *rows: Tensor) -> Tensor:
        return gradient.clone()

    @staticmethod
    def backward(ctx, *_):
        raise RuntimeError("backend: 'streamed' gives a first derivative only; take backend='dense' to differentiate twice")


for _op in (_streamed, _streamed_itself):
    _op.register_autograd(_scale_gradients, setup_context=_keep_gradients)


def _fused(z: Tensor, contrast_z: Tensor, temperature: float, own: int | None, low: torch.dtype, attention) -> Tensor:
    """Return (M,) log Z_i from an attention kernel: queries z, keys the contrasts, values that nobody reads."""
    queries, keys = (t.to(low)[None, None] for t in (z, contrast_z))

    def without_itself(score, batch, head, i, j):
        return torch.where(i + own == j, float("-inf"), score)

    values = keys.new_zeros(1, 1, len(contrast_z), 16)
    _, aux = attention(queries, keys, values, score_mod=None if own is None else without_itself, scale=1 / temperature,
                       return_aux=AuxRequest(lse=True))
    return aux.lse[0, 0].to(z.dtype)


@functools.cache
def _compiled_flex_attention():
    return torch.compile(flex_attention, dynamic=False)
