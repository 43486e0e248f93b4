"""The generalized supervised contrastive loss: cross-entropy of label similarity and latent similarity.

Symbols, the same in the whole kit:

====================  ===========================================================================
N, V, M = V*N         images, views of each image, rows of a batch
K                     contrasts (the batch itself, or keys and queue)
C, D                  classes, latent size
z, ``latents``        (M, D) output of the head, brought to unit length inside the loss
c                     (K, D) the same of the contrasts: z itself where a batch is its own contrast
y, ``labels``         (M, C) label distributions, or (M,) class numbers
s_ij                  similarity of the labels of anchor i and contrast j; W_i = sum_j s_ij
w_ij = s_ij / W_i     the same as a distribution over contrasts
p_ij                  softmax over contrasts j of z_i . c_j / tau
tau, ``temperature``  softness of p
A(i)                  contrasts of anchor i: all K, but not i where a batch is its own contrast
====================  ===========================================================================

"GenSCL" below is arXiv 2206.00384; "SupCon" is arXiv 2004.11362.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

from genscl_lite import _checks
from genscl_lite._checks import SIMILARITIES, WEIGHTINGS  # noqa: F401 (for those who import them from here)
from genscl_lite.gather import check_processes, gather_rows, sum_over_processes
from genscl_lite.kernels import ClassKernel, as_similarity, feature_pair, label_features  # noqa: F401
from genscl_lite.streaming import (
    SumsByBlocks,
    SumsByClass,
    SumsByFeatures,
    choose_backend,
    streamed_loss,
)


def dense_loss(
    z: Tensor,
    c: Tensor,
    w: Tensor,
    anchor_weight: Tensor,
    temperature: float | Tensor,
    self_offset: int | None,
) -> tuple[Tensor, Tensor]:
    """Compute the loss as the paper writes it, all scores at once; this backend can be differentiated twice.

    L = - mean_i sum_j w_ij log p_ij,     p_ij = exp(z_i . c_j / tau) / sum_k exp(z_i . c_k / tau)

    ``w`` are the (M, K) label similarities, rows summing to 1; ``anchor_weight``, (M,), makes the mean: 1/M
    each. Returns the loss, and (M,) cross-entropies of the anchors.
    """
    itself = z.new_zeros(w.shape)
    if (
        self_offset is not None
    ):  # contrast self_offset + i is anchor i itself, and not in A(i): p = 0, w = 0
        itself.diagonal(self_offset).fill_(torch.finfo(z.dtype).min)
    log_p = torch.addmm(itself, z / temperature, c.T).log_softmax(
        dim=1
    )  # (M, K), of z_i . c_j / tau
    cross_entropy = -(w * log_p).sum(dim=1)  # (M,)
    return (anchor_weight * cross_entropy).sum(), cross_entropy.detach()


class LossParts(NamedTuple):
    """The loss and what it is made of; only the loss carries a gradient."""

    loss: Tensor  # scalar to minimise; for "normalized" and no ``base_temperature``, entropy + kl
    entropy: Tensor  # mean over anchors of H(w_i) in nats: the floor no latent space can get below
    kl: Tensor  # mean over anchors of KL(w_i || p_i) in nats: how far latents are from labels
    skipped: Tensor  # number of anchors (integer) that no contrast resembles


def label_similarity(
    labels: Tensor,
    contrast_labels: Tensor | None = None,
    similarity: str | Tensor | ClassKernel = "cosine",
) -> Tensor:
    """Compare every label with every contrast label.

    cosine: y.y' / (|y| |y'|) (GenSCL, Eq. 1); inner_product: y.y'; bhattacharyya: sum_c sqrt(y_c y'_c).

    Args:
        labels: (M, C) distributions or (M,) class numbers.
        contrast_labels: (K, C) or (K,); default: ``labels`` itself.
        similarity: one of ``SIMILARITIES``, or a matrix of classes, see ``ClassKernel``.

    Returns:
        (M, K) similarities in [0, 1], the diagonal included.

    Raises:
        ValueError: labels are not distributions, shapes disagree, or the similarity is unknown.

    >>> label_similarity(torch.tensor([[1.0, 0.0], [0.5, 0.5]]))
    tensor([[1.0000, 0.7071],
            [0.7071, 1.0000]])
    """
    contrast_labels = labels if contrast_labels is None else contrast_labels
    _checks.require_instances(Tensor, labels=labels, contrast_labels=contrast_labels)
    _checks.check_labels("labels", labels)
    _checks.check_labels("contrast_labels", contrast_labels, like=labels)
    similarity = as_similarity(similarity, functions=False)
    if labels.ndim == 1 and isinstance(similarity, str):
        return (labels.long()[:, None] == contrast_labels.long()[None, :]).float()
    with torch.autocast(labels.device.type, enabled=False):
        dtype = labels.dtype if labels.ndim == 2 else torch.float32
        phi, contrast_phi = feature_pair(labels, contrast_labels, similarity, dtype)
        return phi @ contrast_phi.T


def unit_rows(rows: Tensor, dtype: torch.dtype) -> Tensor:
    """Bring (M, D) rows to length 1, also where the squares of their numbers would overflow.

    A row shorter than 1e-12, or than the least normal number of its type, has no direction: it gets no
    gradient, which would be of any size. That of another row is at most 2 / temperature over its length.
    """
    shortest, rows = max(1e-12, torch.finfo(rows.dtype).tiny), rows.to(dtype)
    largest = rows.detach().abs().amax(dim=1, keepdim=True)
    rows = rows / largest.where(largest > 1e16, 1)
    rows = rows.where(
        torch.linalg.vector_norm(rows.detach(), dim=1, keepdim=True) > shortest, rows.detach()
    )
    return rows / torch.linalg.vector_norm(rows, dim=1, keepdim=True).clamp(min=1e-12)


def gen_supcon_loss(
    latents: Tensor,
    labels: Tensor | None = None,
    *,
    contrast_latents: Tensor | None = None,
    contrast_labels: Tensor | None = None,
    weights: Tensor | None = None,
    anchor_mask: Tensor | None = None,
    temperature: float | Tensor = 0.1,
    similarity: str | Tensor | ClassKernel | Callable[[Tensor, Tensor], Tensor] = "cosine",
    weighting: str = "normalized",
    base_temperature: float | None = None,
    backend: str = "auto",
    gather: bool | str = False,
    validate: bool = True,
    return_parts: bool = False,
) -> Tensor | LossParts:
    """Compute the cross-entropy between label similarity and latent similarity.

    normalized:  L = mean_i - sum_{j in A(i)} w_ij log p_ij
    eq2:         L = mean_i - 1/|A(i)| sum_{j in A(i)} s_ij log p_ij    (GenSCL, Eq. 2)

    One-hot labels and "normalized" give SupCon's L_out (SupCon, Eq. 2); a label of its own for each image
    gives SimCLR's NT-Xent. Neither labels nor, in the streamed and fused backends, scores ever make an (M, K)
    matrix: memory grows with M + K (see ``streaming``).

    Differs: the reference code computes "normalized" with ``base_temperature=0.07``; the paper prints eq2. An
    anchor that no contrast resembles (W_i = 0, or below 1e-30, by which float32 could not divide) learns
    nothing: "normalized" leaves it out of the mean, in eq2 it counts as 0. If all are left out, L is 0.

    Args:
        latents: (M, D), any length: normalized inside, by ``unit_rows``. Or (N, V, D), V views of N images;
            rows are then taken view by view (row v*N + n), which matters only for ``weights``.
        labels: (M, C) distributions (rows non-negative, summing to 1) or (M,) class numbers. With (N, V, D)
            latents: (N, C) or (N,) shared by the views, or (N, V, C) / (N, V) for labels of each view; None:
            every image its own class. Multi-hot rows (images with several classes) become distributions by
            ``labels / labels.sum(dim=1, keepdim=True)``, which changes no cosine.
        contrast_latents: (K, D) keys, all of them used. Default: the batch, each row without itself.
        contrast_labels: (K, C) or (K,), of the same kind as ``labels``.
        weights: (M, K) label similarities s_ij >= 0 of your own, instead of any labels.
        anchor_mask: (M,) bool, or (N, V): rows that are anchors; the others are contrasts only.
        temperature: tau > 0; or a scalar tensor, which gets its gradient.
        similarity: one of ``SIMILARITIES``, for distributions; a (C, C) matrix of classes, which a
            ``ClassKernel`` checks once, not each time; or a function from (rows, C) and (K, C) distributions
            to (rows, K) values >= 0. A function, ``weights`` and the entropies of ``return_parts`` are
            worked through in blocks of rows: as slow as all pairs, never all in memory.
        weighting: "normalized" or "eq2".
        base_temperature: multiply the loss by temperature / base_temperature, as SupContrast does.
        backend: "dense" (all scores at once; can be differentiated twice), "streamed" (blocks of scores, the
            gradient in the same pass), "fused" (CUDA, FlexAttention; scores as precise as the latents) or
            "auto": dense for few scores, fused for half precision latents on CUDA, else streamed.
        gather: True: contrast with the rows, or keys, of all processes of torch.distributed, equally many of
            each. Every process returns the loss of the whole batch; the mean of their gradients, as
            DistributedDataParallel takes it, is that of one process with all rows. ``weights`` have columns
            for all contrasts, process 0's first. "anchors": the contrasts you pass are gathered already.
        validate: check values too (finite, non-negative, sums), which makes a GPU wait.
        return_parts: return ``LossParts`` instead of the loss.

    Returns:
        The loss, a scalar in float32 (float64 for float64 latents), also under autocast; or ``LossParts``.

    Raises:
        ValueError: an argument has the wrong shape, kind or values; the message names it.

    >>> z = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
    >>> y = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.2, 0.8]])
    >>> bool(gen_supcon_loss(z, y) < gen_supcon_loss(z, y.flip(1)[[0, 2, 1, 3]]))
    True
    """
    similarity = as_similarity(similarity, validate)
    _checks.check_options(temperature, weighting, base_temperature, backend, gather, validate)
    given = {
        "contrast_latents": contrast_latents,
        "labels": labels,
        "contrast_labels": contrast_labels,
        "weights": weights,
        "anchor_mask": anchor_mask,
    }
    _checks.require_instances(
        Tensor, latents=latents, **{k: v for k, v in given.items() if v is not None}
    )
    rank, processes, over_processes = 0, 1, Tensor.detach
    if gather:
        check_processes(
            **{"latents": latents, "contrast_latents": contrast_latents} if validate else {}
        )
        rank, processes, over_processes = dist.get_rank(), dist.get_world_size(), sum_over_processes
    if latents.ndim == 3:
        images, views = latents.shape[:2]
        latents = latents.transpose(0, 1).flatten(0, 1)  # (N, V, D) -> (M, D), view by view
        if anchor_mask is not None and anchor_mask.shape == (images, views):
            anchor_mask = anchor_mask.T.reshape(-1)
        if weights is None and (labels is not None or isinstance(similarity, str)):
            labels = (
                torch.arange(images, device=latents.device) + rank * images
                if labels is None
                else labels
            )
            labels = _checks.repeat_for_views(labels, images, views)
    _checks.check_latents(latents, contrast_latents, anchor_mask, validate)
    gather_contrasts = gather and (gather != "anchors" or contrast_latents is None)
    contrasts = len(latents if contrast_latents is None else contrast_latents)
    contrasts *= processes if gather_contrasts else 1  # K
    if weights is not None:
        _checks.check_similarities(
            "weights: expected",
            weights,
            (len(latents), contrasts),
            validate,
            labels,
            contrast_labels,
        )
    else:
        _checks.check_label_pair(
            labels, contrast_labels, latents, contrast_latents, similarity, validate
        )
        contrast_labels = labels if contrast_labels is None else contrast_labels

    with torch.autocast(latents.device.type, enabled=False):
        dtype = torch.float64 if latents.dtype == torch.float64 else torch.float32
        z = unit_rows(latents, dtype)  # (M, D)
        if isinstance(temperature, Tensor):
            temperature = temperature.reshape(()).to(z)
        c, self_offset = z, rank * len(z)
        if contrast_latents is not None:
            c, self_offset = unit_rows(contrast_latents, dtype), None  # (K, D)
        if gather_contrasts:
            c = gather_rows(c)
            contrast_labels = gather_rows(contrast_labels) if weights is None else None

        if weights is not None:
            similar = SumsByBlocks(
                lambda block: weights[block].to(dtype), (len(z), contrasts), self_offset
            )
        elif callable(similarity):

            def compare(block: slice) -> Tensor:
                s = similarity(labels[block], contrast_labels)
                _checks.require_instances(Tensor, similarity=s)
                _checks.check_similarities(
                    "similarity: expected the function to return",
                    s,
                    (block.stop - block.start, contrasts),
                    validate,
                )
                return s.to(dtype)

            similar = SumsByBlocks(compare, (len(z), contrasts), self_offset)
        elif labels.ndim == 1 and isinstance(similarity, str):
            similar = SumsByClass(labels.long(), contrast_labels.long(), self_offset, dtype)
        else:
            pair = feature_pair(labels, contrast_labels, similarity, dtype, validate)
            similar = SumsByFeatures(*pair, self_offset)
        backend = choose_backend(backend, latents, contrasts)
        if backend == "dense":
            w, total = similar.weights()  # (M, K) w_ij and (M,) W_i
        else:
            total, attraction = similar.sums(z, c)  # (M,) W_i and (M,) sum_j w_ij z_i . c_j

        anchors = torch.ones_like(total, dtype=torch.bool) if anchor_mask is None else anchor_mask
        counted = (total > 0) & anchors  # (M,) those that resemble something
        count = over_processes(counted.sum()).clamp(min=1)
        if weighting == "normalized":
            anchor_weight = counted.to(dtype) / count
        else:  # s_ij / |A(i)| = w_ij W_i / |A(i)|
            others = contrasts - int(self_offset is not None)  # |A(i)|
            anchor_weight = total * counted / (over_processes(anchors.sum()).clamp(min=1) * others)

        if backend == "dense":
            loss, cross_entropy = dense_loss(z, c, w, anchor_weight, temperature, self_offset)
        else:
            fused_dtype = latents.dtype if backend == "fused" else None
            loss, cross_entropy = streamed_loss(
                z, c, attraction, anchor_weight, temperature, self_offset, fused_dtype
            )
        if base_temperature is not None:
            loss = loss * (temperature / base_temperature)
        if (
            gather
        ):  # the value of all processes; this one's gradient, as large as their mean needs it
            loss = sum_over_processes(loss) + processes * (loss - loss.detach())
        if not return_parts:
            return loss
        with torch.no_grad():
            entropies = (
                torch.special.entr(w).sum(dim=1) if backend == "dense" else similar.entropy()
            )
            entropy = over_processes(torch.where(counted, entropies, 0).sum()) / count
            kl = over_processes(torch.where(counted, cross_entropy, 0).sum()) / count - entropy
            return LossParts(loss, entropy, kl, skipped=over_processes((anchors & ~counted).sum()))


class GenSupConLoss(nn.Module):
    """``gen_supcon_loss`` as a module that keeps its options.

    Called as SupContrast's ``SupConLoss`` is, with (N, V, D) latents and (N,) class numbers or none, and with
    all that ``gen_supcon_loss`` takes beyond. Arguments and errors: see there.

    >>> loss = GenSupConLoss(temperature=0.1)
    >>> z = torch.randn(8, 2, 16, generator=torch.Generator().manual_seed(0))  # 8 images, 2 views
    >>> loss(z, torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])).shape
    torch.Size([])
    """

    def __init__(
        self,
        temperature: float | Tensor = 0.1,
        similarity: str | Tensor | ClassKernel | Callable[..., Tensor] = "cosine",
        weighting: str = "normalized",
        base_temperature: float | None = None,
        backend: str = "auto",
        gather: bool | str = False,
        validate: bool = True,
        return_parts: bool = False,
    ):
        super().__init__()
        similarity = as_similarity(similarity, validate)  # a matrix is checked here, once
        _checks.check_options(temperature, weighting, base_temperature, backend, gather, validate)
        self.temperature = temperature  # an nn.Parameter is the module's own
        self.options = dict(
            similarity=similarity,
            weighting=weighting,
            base_temperature=base_temperature,
            backend=backend,
            gather=gather,
            validate=validate,
            return_parts=return_parts,
        )

    def forward(
        self, latents: Tensor, labels: Tensor | None = None, **others: Tensor
    ) -> Tensor | LossParts:
        return gen_supcon_loss(
            latents, labels, **others, temperature=self.temperature, **self.options
        )

    def extra_repr(self) -> str:
        options = {"temperature": self.temperature} | self.options
        return ", ".join(f"{name}={value!r}" for name, value in options.items())
