"""The generalized supervised contrastive loss: cross-entropy between label similarity and latent similarity.

Symbols, the same in the whole kit:

====================  ==========================================================================
N, V, M = V*N         images, views of each image, rows of a batch
K                     contrasts (the batch itself, or keys and queue)
C, D                  classes, latent size
z, ``latents``        (M, D) output of the head, brought to unit length inside the loss
y, ``labels``         (M, C) label distributions, or (M,) class numbers
s_ij                  similarity of the labels of anchor i and contrast j; W_i = sum_j s_ij
w_ij = s_ij / W_i     the same as a distribution over contrasts
p_ij                  softmax over contrasts j of z_i . z_j / tau
tau, ``temperature``  softness of p
A(i)                  contrasts of anchor i: all K, without i itself where the batch is its own contrast
====================  ==========================================================================

"GenSCL" below is arXiv 2206.00384; "SupCon" is arXiv 2004.11362.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genscl_lite import _checks
from genscl_lite._checks import SIMILARITIES as SIMILARITIES
from genscl_lite._checks import WEIGHTINGS as WEIGHTINGS
from genscl_lite.gather import gather_rows, sum_over_processes
from genscl_lite.streaming import (
    ClassSimilarity,
    FeatureSimilarity,
    RowSimilarity,
    label_features,
    sum_log_partition,
)


class LossParts(NamedTuple):
    """The loss and what it is made of. ``entropy`` and ``kl`` carry no gradient.

    For ``weighting="normalized"`` and no ``base_temperature``, ``loss = entropy + kl``.
    """

    loss: Tensor
    """Scalar to minimise."""
    entropy: Tensor
    """Mean over anchors of H(w_i) in nats: the floor no latent space can get below."""
    kl: Tensor
    """Mean over anchors of KL(w_i || p_i) in nats: how far latents are from labels."""
    skipped: Tensor
    """Number of anchors (integer) that no contrast resembles."""


# The loss as the paper writes it: the backend "dense"


def dense_loss(
    z: Tensor, contrast_z: Tensor, attraction: Tensor, share: Tensor, tau: float, self_offset: int | None
) -> tuple[Tensor, Tensor]:
    """Return  - sum_i a_i sum_j w_ij log p_ij  from all scores at once, and (M,) log Z_i without gradient.

    ``attraction`` (M,) is sum_j w_ij z_i . z_j and ``share`` (M,) is a_i, 1/M for a plain mean. Because
    sum_j w_ij = 1 and p_ij = exp(z_i . z_j / tau) / Z_i with the partition function Z_i = sum_j exp(z_i . z_j
    / tau),

        - sum_j w_ij log p_ij  =  log Z_i  -  sum_j w_ij z_i . z_j / tau
    """
    scores = z @ contrast_z.T / tau  # (M, K): z_i . z_j / tau
    if self_offset is not None:
        scores.diagonal(self_offset).fill_(float("-inf"))  # an anchor is not its own contrast
    log_partition = scores.logsumexp(dim=1)  # (M,): log Z_i
    push = (share * log_partition).sum()  # away from all contrasts
    pull = (share * attraction).sum() / tau  # towards those with similar labels
    return push - pull, log_partition.detach()


DENSE_UP_TO = 2**16
"""Scores that "auto" computes at once; for more, blocks are quicker and smaller."""


def choose_backend(backend: str, latents: Tensor, contrasts: int) -> str:
    """Return the backend that "auto" means for these latents; ValueError for "fused" without CUDA."""
    if backend == "fused" and latents.device.type != "cuda":
        raise ValueError(
            f"backend: 'fused' needs latents on a CUDA device, got {latents.device}; take 'streamed'"
        )
    if backend != "auto":
        return backend
    if len(latents) * contrasts <= DENSE_UP_TO:
        return "dense"
    half = latents.dtype in (torch.bfloat16, torch.float16)
    return "fused" if half and latents.device.type == "cuda" else "streamed"


def label_similarity(
    labels: Tensor, contrast_labels: Tensor | None = None, similarity: str = "cosine"
) -> Tensor:
    """Compare every label with every contrast label.

    cosine: y.y' / (|y| |y'|) (GenSCL, Eq. 1); inner_product: y.y'; bhattacharyya: sum_c sqrt(y_c y'_c).

    Args:
        labels: (M, C) distributions or (M,) class numbers.
        contrast_labels: (K, C) or (K,); default: ``labels`` itself.
        similarity: one of ``SIMILARITIES``.

    Returns:
        (M, K) similarities in [0, 1], the diagonal included.

    Raises:
        ValueError: labels are not distributions, shapes disagree, or the similarity is unknown.

    >>> label_similarity(torch.tensor([[1.0, 0.0], [0.5, 0.5]]))
    tensor([[1.0000, 0.7071],
            [0.7071, 1.0000]])
    """
    _checks.check_labels("labels", labels, len(labels))
    if contrast_labels is None:
        contrast_labels = labels
    else:
        _checks.check_labels("contrast_labels", contrast_labels, len(contrast_labels))
        _checks.check_same_kind(labels, contrast_labels)
    _checks.require_choice("similarity", similarity, SIMILARITIES)
    if labels.ndim == 1:
        return (labels[:, None] == contrast_labels[None, :]).float()
    with torch.autocast(labels.device.type, enabled=False):
        return label_features(labels, similarity) @ label_features(contrast_labels, similarity).T


def gen_supcon_loss(
    latents: Tensor,
    labels: Tensor | None = None,
    *,
    contrast_latents: Tensor | None = None,
    contrast_labels: Tensor | None = None,
    weights: Tensor | None = None,
    anchor_mask: Tensor | None = None,
    temperature: float = 0.1,
    similarity: str | Callable[[Tensor, Tensor], Tensor] = "cosine",
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
    matrix: memory grows with M + K (see ``genscl_lite.streaming``).

    Differs: the reference code computes "normalized" with ``base_temperature=0.07``; the paper's text prints
    eq2. An anchor that no contrast resembles (W_i = 0, or below 1e-30, by which float32 could not divide) has
    nothing
    to learn: "normalized" leaves it out of the mean, in eq2 it counts with its value, 0. Where all are left
    out the loss is 0.

    Args:
        latents: (M, D), any length: normalized inside. Or (N, V, D), V views of N images; rows are then taken
            view by view (row v*N + n), which matters only for ``weights``.
        labels: (M, C) distributions (rows non-negative, summing to 1) or (M,) class numbers. With (N, V, D)
            latents: (N, C) or (N,) shared by the views, or (N, V, C) / (N, V) for labels of each view; None:
            every image its own class.
        contrast_latents: (K, D) keys, for instance this batch's and a queue's; none is left out as "self".
            Default: the batch itself, each row without itself.
        contrast_labels: (K, C) or (K,), of the same kind as ``labels``.
        weights: (M, K) label similarities s_ij >= 0 of your own, instead of any labels.
        anchor_mask: (M,) bool, or (N, V): rows that are anchors; the others are contrasts only.
        temperature: tau > 0.
        similarity: one of ``SIMILARITIES``, or a function from (rows, C) and (K, C) distributions to (rows,
            K) values >= 0. Only for distributions. A function, ``weights`` and the entropies of
            ``return_parts`` are
            worked through in blocks of rows: as slow as all pairs are, but never all in memory at once.
        weighting: "normalized" or "eq2".
        base_temperature: multiply the loss by temperature / base_temperature, as SupContrast and the
            reference code do.
        backend: "dense" (all scores at once; the only one that can be differentiated twice), "streamed"
            (blocks of scores, the gradient in the same pass), "fused" (CUDA, FlexAttention; half precision
            latents make the scores in half precision) or "auto": dense for few scores, fused for half
            precision latents on CUDA, else streamed.
        gather: contrast with the rows of all processes of torch.distributed, each of which gives as many.
            Every process returns the loss of the whole batch, and its gradients are such that their mean over
            processes, which DistributedDataParallel takes, is that of one process with all rows. Contrasts of
            a queue are gathered too. With ``gather="anchors"`` they are not: the contrasts you pass are
            already those of all processes, only the anchors are shared out. ``weights`` have a column for
            each contrast of all processes, those of process 0 first.
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
    # What the caller gave, checked and brought to rows
    _checks.check_options(temperature, similarity, weighting, base_temperature, backend, gather)
    gather_contrasts = gather and (gather != "anchors" or contrast_latents is None)
    if gather:
        _checks.check_processes(latents, contrast_latents, validate)
    given = latents, labels, anchor_mask
    latents, labels, anchor_mask = _checks.rows_of_views(*given, labelled=weights is None, gather=gather)
    _checks.check_latents(latents, contrast_latents, validate)
    _checks.check_anchor_mask(anchor_mask, latents)
    pairs = labels, contrast_labels, latents, contrast_latents
    if weights is not None:
        _checks.check_weights(weights, *pairs, gather_contrasts, validate)
    else:
        labels, contrast_labels = _checks.check_label_pair(*pairs, validate)

    with torch.autocast(latents.device.type, enabled=False):
        # Latents of unit length; contrast self_offset + i is anchor i itself, None: no contrast is an anchor
        dtype = torch.float64 if latents.dtype == torch.float64 else torch.float32
        z = contrast_z = F.normalize(latents.to(dtype), dim=1)  # (M, D)
        self_offset = 0
        if contrast_latents is not None:
            contrast_z, self_offset = F.normalize(contrast_latents.to(dtype), dim=1), None  # (K, D)
        if gather_contrasts:
            contrast_z = gather_rows(contrast_z)
            self_offset = None if self_offset is None else len(z) * torch.distributed.get_rank()
            contrast_labels = None if weights is not None else gather_rows(contrast_labels)
        over_processes = sum_over_processes if gather else Tensor.detach

        # Label similarities, of which sums over contrasts are all that is needed
        size = len(z), len(contrast_z)  # M, K
        if weights is not None:
            similar = RowSimilarity(lambda rows: weights[rows].to(dtype), *size, self_offset)
        elif callable(similarity):
            rows_of = _checks.checked_function(similarity, labels, contrast_labels, validate)
            similar = RowSimilarity(lambda rows: rows_of(rows).to(dtype), *size, self_offset)
        elif labels.ndim == 1:
            similar = ClassSimilarity(labels, contrast_labels, self_offset)
        else:
            phi = label_features(labels.to(dtype), similarity)  # (M, C), with s_ij = phi_i . phi_j
            same = contrast_labels is labels
            contrast_phi = phi if same else label_features(contrast_labels.to(dtype), similarity)  # (K, C)
            similar = FeatureSimilarity(phi, contrast_phi, self_offset)
        total, attraction = similar.sums(z, contrast_z)  # both (M,): W_i, and sum_j w_ij z_i . z_j

        # What each anchor counts in the mean: (M,)
        anchors = torch.ones_like(total, dtype=torch.bool) if anchor_mask is None else anchor_mask
        counted = (total > 0) & anchors
        count = over_processes(counted.sum()).clamp(min=1)
        if weighting == "normalized":
            share = counted.to(dtype) / count
        else:
            contrasts = len(contrast_z) - (self_offset is not None)  # |A(i)|
            share = total * counted / (over_processes(anchors.sum()).clamp(min=1) * contrasts)

        chosen = choose_backend(backend, latents, len(contrast_z))
        if chosen == "dense":
            loss, logs = dense_loss(z, contrast_z, attraction, share, temperature, self_offset)
        else:
            options = temperature, self_offset, chosen, latents.dtype
            push, logs = sum_log_partition(z, contrast_z, share, *options)
            loss = push - (share * attraction).sum() / temperature
        if base_temperature is not None:
            loss = loss * (temperature / base_temperature)
        if gather:  # the value of all processes; this process's gradient, as large as their mean needs it
            loss = sum_over_processes(loss) + torch.distributed.get_world_size() * (loss - loss.detach())
        if not return_parts:
            return loss
        with torch.no_grad():
            entropy = over_processes(torch.where(counted, similar.entropy(), 0).sum()) / count
            losses = logs - attraction / temperature  # (M,): -sum_j w_ij log p_ij
            cross_entropy = over_processes(torch.where(counted, losses, 0).sum()) / count
            skipped = over_processes((anchors & ~counted).sum())
            return LossParts(loss, entropy, cross_entropy - entropy, skipped)


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
        temperature: float = 0.1,
        similarity: str | Callable[[Tensor, Tensor], Tensor] = "cosine",
        weighting: str = "normalized",
        base_temperature: float | None = None,
        backend: str = "auto",
        gather: bool | str = False,
        validate: bool = True,
        return_parts: bool = False,
    ):
        super().__init__()
        _checks.check_options(temperature, similarity, weighting, base_temperature, backend, gather)
        self.options = {
            "temperature": temperature, "similarity": similarity, "weighting": weighting,
            "base_temperature": base_temperature, "backend": backend, "gather": gather,
            "validate": validate, "return_parts": return_parts,
        }

    def forward(self, latents: Tensor, labels: Tensor | None = None, **contrasts) -> Tensor | LossParts:
        """Compute the loss; ``contrasts``: contrast_latents, contrast_labels, weights, anchor_mask."""
        return gen_supcon_loss(latents, labels, **contrasts, **self.options)

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self.options.items())
