"""The generalized supervised contrastive loss: cross-entropy of label similarity and latent similarity.

Symbols, the same in the whole kit:

====================  ===========================================================================
N, V, M = V*N         images, views of each image, rows of a batch
K                     contrasts (the batch itself, or keys and a queue)
C, D                  classes, latent size
z, ``latents``        (M, D) output of the head, normalized to unit length inside the loss
c                     (K, D) the same of the contrasts: z itself if a batch is its own contrast
y, ``labels``         (M, C) label distributions, or (M,) class numbers
s_ij                  similarity of the labels of anchor i and contrast j; W_i = sum_j s_ij
w_ij = s_ij / W_i     the same as a distribution over contrasts
u_ij                  scores, z_i . c_j / tau
p_ij                  softmax over contrasts j of the scores; log p_ij = u_ij - log Z_i
tau, ``temperature``  softness of p
A(i)                  contrasts of anchor i: all K, without i if a batch is its own contrast
====================  ===========================================================================

As sum_j w_ij = 1, the cross-entropy of w and p is the same formula in every backend:

    L = sum_i a_i (log Z_i - sum_j w_ij u_ij),     log Z_i = log sum_{j in A(i)} exp(u_ij)

``label_sums`` gives the attraction, sum_j w_ij u_ij; ``log_partition`` gives log Z_i.

"GenSCL" below is arXiv 2206.00384; "SupCon" is arXiv 2004.11362.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genscl_lite import _checks
from genscl_lite._deprecated import old_arguments
from genscl_lite._rows import as_rows
from genscl_lite.gather import Group, group_of_processes
from genscl_lite.label_sums import Targets, row_entropy
from genscl_lite.log_partition import (
    all_scores,
    centered,
    choose_backend,
    weighted_log_partition,
)
from genscl_lite.similarity import ClassSimilarity, as_similarity

Labels = Tensor | Sequence[tuple[float, Tensor]]
Similarity = str | Tensor | ClassSimilarity | Callable[[Tensor, Tensor], Tensor]


class LossParts(NamedTuple):
    """The loss and what it is made of; only the loss carries a gradient. All but ``skipped`` are reduced alike.

    (chance - loss) / (chance - entropy) is the share of the way from knowing nothing to the floor.
    """

    loss: Tensor  # to be minimized: entropy + kl
    entropy: Tensor  # in nats, A H(v): the floor, which no latent space can get below
    kl: Tensor  # in nats, A KL(v || p): how far latents are from labels
    skipped: Tensor  # number of anchors (integer) that no contrast resembles
    chance: Tensor | float = float("nan")  # A log |A(i)|: the loss if all contrasts are alike


@old_arguments(
    lambda *args, **options: gen_supcon_loss_parts(*args, **options),
    weights="pair_similarity",
    anchor_mask="anchor_weight",
    gather="gather_distributed",
)
def gen_supcon_loss(
    latents: Tensor,
    labels: Labels | None = None,
    *,
    contrast_latents: Tensor | None = None,
    contrast_labels: Tensor | Sequence[Tensor] | None = None,
    temperature: float | Tensor = 0.1,
    base_temperature: float | None = None,
    similarity: Similarity = "cosine",
    pair_similarity: Tensor | None = None,
    weighting: str = "normalized",
    mask: Tensor | None = None,
    anchor_weight: Tensor | None = None,
    reduction: str = "mean",
    backend: str = "auto",
    gather_distributed: bool = False,
    validate: bool = True,
) -> Tensor:
    """Compute the cross-entropy between label similarity and latent similarity.

    normalized:  L_i = - sum_{j in A(i)} w_ij log p_ij
    eq2:         L_i = - 1/|A(i)| sum_{j in A(i)} s_ij log p_ij    (GenSCL, Eq. 2)

    One-hot labels and "normalized" give SupCon's L_out (SupCon, Eq. 2); a label of its own for each image
    gives SimCLR's NT-Xent. In the streamed and fused backends neither labels nor scores ever make an (M, K)
    matrix: memory grows with M + K.

    Differs: the reference code computes "normalized" with ``base_temperature=0.07``; the paper prints eq2. An
    anchor that no contrast resembles (W_i = 0, or below 1e-30, by which float32 could not divide) learns
    nothing: "normalized" leaves it out of the mean, in eq2 it counts as 0. If all are left out, L is 0.

    Args:
        latents: (M, D) rows of any length; ``unit_rows`` normalizes them. Or (N, V, D), V views of N images,
            which become rows view by view (row v*N + n).
        labels: (M, C) distributions (rows non-negative, summing to 1) or (M,) class numbers. With (N, V, D)
            latents: (N, C) or (N,) shared by the views, or (N, V, C) / (N, V) for labels of each view; None:
            every image its own class. Or a list of T pairs (a_t, labels), a_t >= 0, such as [(1.0, labels),
            (gamma, teacher's)]: sum_t a_t L(labels_t) at the price of one loss, see ``label_sums.Targets``.
        contrast_latents: (K, D) keys; every anchor meets all of them. Default: the batch, without the anchor.
        contrast_labels: (K, C) or (K,), of the same kind as ``labels``; for a list of T pairs, T of them.
        temperature: tau > 0, or a scalar tensor, which can learn.
        base_temperature: multiply the loss by temperature / base_temperature, as SupContrast does.
        similarity: one of ``SIMILARITIES``, for distributions; a (C, C) matrix of classes, which a
            ``ClassSimilarity`` checks once, not each time; or a function from (rows, ...) and (K, ...) labels
            of any kind to (rows, K) values >= 0 (for continuous targets, ``gaussian_similarity``). A function
            is called for blocks of rows: as slow as all pairs, but without holding them all in memory.
        pair_similarity: (M, K) similarities s_ij >= 0 of your own, instead of any labels.
        weighting: "normalized" or "eq2".
        mask: SupContrast's, instead of labels. With (N, V, D) latents: (N, N) similarities of images, 1 for
            positives and 0 for others, shared by all views. With (M, D) latents: as ``pair_similarity``.
        anchor_weight: (M,) or (N, V) weights >= 0 of anchors in the mean, for instance against imbalanced
            classes. Bools pick anchors; the other rows are contrasts only.
        reduction: "mean", "sum" or "none" (one loss for each anchor, 0 for those left out).
        backend: "dense" (all scores at once; can be differentiated twice), "streamed" (blocks of scores, the
            gradient in the same pass), "fused" (CUDA, FlexAttention; scores as precise as the latents) or
            "auto": dense for few scores, fused for half precision latents on CUDA, else streamed.
        gather_distributed: contrast with the rows of all processes of torch.distributed, each of which must
            have equally many. Every process returns the loss of the whole batch (with "none", of its own
            anchors). The mean of their gradients, as DistributedDataParallel takes it, is that of one process
            with all rows. Contrasts that you pass are used as they are; ``gather.gather_rows`` gathers them,
            with gradient. ``pair_similarity`` has columns for all contrasts, those of process 0 first.
        validate: also check values (finite, non-negative, sums), which has to wait for a GPU.

    Returns:
        The loss, a scalar, or (M,) for "none", in float32 (float64 for float64 latents), also under autocast.

    Raises:
        ValueError: an argument has the wrong shape, kind or values; the message names it.

    >>> z = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
    >>> y = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.2, 0.8]])
    >>> bool(gen_supcon_loss(z, y) < gen_supcon_loss(z, y.flip(1)[[0, 2, 1, 3]]))
    True
    """
    return _cross_entropy(
        latents,
        labels,
        contrast_latents,
        contrast_labels,
        temperature,
        base_temperature,
        similarity,
        pair_similarity,
        weighting,
        mask,
        anchor_weight,
        reduction,
        backend,
        gather_distributed,
        validate,
    )[0]


def gen_supcon_loss_parts(
    latents: Tensor,
    labels: Labels | None = None,
    *,
    contrast_latents: Tensor | None = None,
    contrast_labels: Tensor | Sequence[Tensor] | None = None,
    temperature: float | Tensor = 0.1,
    base_temperature: float | None = None,
    similarity: Similarity = "cosine",
    pair_similarity: Tensor | None = None,
    weighting: str = "normalized",
    mask: Tensor | None = None,
    anchor_weight: Tensor | None = None,
    reduction: str = "mean",
    backend: str = "auto",
    gather_distributed: bool = False,
    validate: bool = True,
) -> LossParts:
    """Compute the loss, its floor, the distance between them and the level of chance.

    Arguments and errors as in ``gen_supcon_loss``. The floor takes a second look at all pairs of labels, in
    blocks; for class numbers it is a sum over classes.

    Returns:
        ``LossParts``: scalars, or (M,) each for ``reduction="none"``; ``skipped`` is always a scalar.

    >>> z, y = torch.randn(6, 8), torch.arange(6) // 2  # each anchor has one other of its class
    >>> parts = gen_supcon_loss_parts(z, y)
    >>> parts.entropy, parts.chance  # log 1 and log 5
    (tensor(0.), tensor(1.6094))
    """
    loss, floor = _cross_entropy(
        latents,
        labels,
        contrast_latents,
        contrast_labels,
        temperature,
        base_temperature,
        similarity,
        pair_similarity,
        weighting,
        mask,
        anchor_weight,
        reduction,
        backend,
        gather_distributed,
        validate,
    )
    with torch.no_grad():
        entropy, skipped, chance = floor()
    return LossParts(loss, entropy, loss.detach() - entropy, skipped, chance)


def _cross_entropy(
    latents,
    labels,
    contrast_latents,
    contrast_labels,
    temperature,
    base_temperature,
    similarity,
    pair_similarity,
    weighting,
    mask,
    anchor_weight,
    reduction,
    backend,
    gather_distributed,
    validate,
) -> tuple[Tensor, Callable[[], tuple[Tensor, Tensor, Tensor]]]:
    """Return the loss, and a function that gives its floor, the number of skipped anchors and chance."""
    similarity = as_similarity(similarity, validate)
    _checks.check_options(temperature, weighting, base_temperature, reduction, backend, validate)
    group = group_of_processes(gather_distributed, validate, latents=latents)
    rows = as_rows(
        latents,
        labels,
        contrast_latents,
        contrast_labels,
        similarity,
        pair_similarity,
        mask,
        anchor_weight,
        group,
        validate,
    )
    with torch.autocast(latents.device.type, enabled=False):
        z, c, temperature = score_rows(rows.latents, contrast_latents, temperature, group)
        self_offset = group.rank * len(z) if contrast_latents is None else None
        others = len(c) - (self_offset is not None)  # |A(i)|
        options = {"self_offset": self_offset, "others": others if weighting == "eq2" else None}
        targets = Targets.of(rows, similarity, group, z.dtype, validate, options)

        backend = choose_backend(backend, rows.latents, len(c))
        if backend == "dense":
            u = all_scores(z, c, self_offset)
            w, gain = (
                targets.weights()
            )  # (M, K) w_ij; (M,) their sums: 1, or 0 if nothing resembles i
        else:
            pairs, targets = centered(z, c), targets.merged()
            attraction, gain = targets.attraction(*pairs[:3])  # (M,) sum_j w_ij u_ij

        a = gain.sign() if weighting == "normalized" else torch.ones_like(gain)
        if rows.anchor_weight is not None:
            a = a * rows.anchor_weight.to(a)
        if reduction == "mean":
            a = a / group.sum(a.sum()).clamp(min=torch.finfo(a.dtype).tiny)
        if base_temperature is not None:
            a = a * (temperature / base_temperature)

        each = reduction == "none"
        if backend == "dense":
            loss = F.cross_entropy(u, w, reduction="none")
            loss = a * loss if each else a @ loss
        else:
            fused = rows.latents.dtype if backend == "fused" else None
            loss = weighted_log_partition(pairs, a * gain, self_offset, temperature, fused, each)
            loss = loss - (a * attraction if each else a @ attraction)
        loss = loss if each else group.loss(loss)

    def floor() -> tuple[Tensor, Tensor, Tensor]:
        entropy = row_entropy(w, gain) if backend == "dense" else targets.entropy(gain)
        entropy, chance = a * entropy, a * gain * math.log(others)
        if not each:
            entropy, chance = group.sum(entropy.sum()), group.sum(chance.sum())
        skipped = (gain == 0) & (True if rows.anchor_weight is None else rows.anchor_weight > 0)
        return entropy.detach(), group.sum(skipped.sum()), chance.detach()

    return loss, floor


def score_rows(
    latents: Tensor, contrast_latents: Tensor | None, temperature: float | Tensor, group: Group
) -> tuple[Tensor, Tensor, float | Tensor]:
    """Return z, (M, D), and c, (K, D), of length 1 / sqrt(tau), so that u_ij = z_i . c_j; and tau, a scalar."""
    dtype = torch.float64 if latents.dtype == torch.float64 else torch.float32
    if isinstance(temperature, Tensor):
        temperature = temperature.reshape(()).to(latents.device, dtype)
    root = temperature**0.5
    z = unit_rows(latents, dtype) / root
    if contrast_latents is None:
        return z, group.rows(z), temperature
    return z, unit_rows(contrast_latents, dtype) / root, temperature


def unit_rows(rows: Tensor, dtype: torch.dtype) -> Tensor:
    """Normalize (M, D) rows to length 1, even if the squares of their entries would overflow.

    A row with no entry above 1e-12, or above the smallest normal number of its type, has no direction. It gets
    no gradient, because that could be arbitrarily large.
    """
    smallest, rows = max(1e-12, torch.finfo(rows.dtype).tiny), rows.to(dtype)
    largest = rows.detach().abs().amax(dim=1, keepdim=True)
    rows = rows.where(largest > smallest, rows.detach())
    rows = rows / F.threshold(largest, 1e16, 1)  # by 1, but for very long rows
    return rows / torch.linalg.vector_norm(rows, dim=1, keepdim=True).clamp(min=1e-12)


class GenSupConLoss(nn.Module):
    """``gen_supcon_loss`` as a module that keeps its options.

    Takes what SupContrast's ``SupConLoss`` takes: (N, V, ...) features with (N,) class numbers, with an (N, N)
    ``mask`` of positives, or with neither (SimCLR); its loss is that of ``temperature=0.07,
    base_temperature=0.07``. Differs: features are brought to length 1 here, anchors without positives are left
    out of the mean, and in place of ``contrast_mode="one"`` stands an ``anchor_weight``, (N, V) with ones in
    its first column.

    Args:
        validate: check values at each call on a CPU, but only at the first one on a GPU, which a check has to
            wait for.

    For the other arguments and the errors see ``gen_supcon_loss``.

    >>> loss = GenSupConLoss(temperature=0.1)
    >>> z = torch.randn(8, 2, 16, generator=torch.Generator().manual_seed(0))  # 8 images, 2 views
    >>> loss(z, torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])).shape
    torch.Size([])
    """

    @old_arguments(
        lambda self, *args, **options: self._init_with_parts(*args, **options),
        gather="gather_distributed",
    )
    def __init__(
        self,
        temperature: float | Tensor = 0.1,
        similarity: Similarity = "cosine",
        weighting: str = "normalized",
        base_temperature: float | None = None,
        backend: str = "auto",
        gather_distributed: bool = False,
        validate: bool = True,
        reduction: str = "mean",
    ):
        super().__init__()
        similarity = as_similarity(similarity, validate)  # a matrix is checked here, once
        _checks.check_options(
            temperature, weighting, base_temperature, reduction, backend, validate
        )
        self.temperature, self.similarity = temperature, similarity  # as parameter, as module
        self.validate, self.seen = validate, False
        self.options = {
            "weighting": weighting,
            "base_temperature": base_temperature,
            "backend": backend,
            "gather_distributed": gather_distributed,
            "reduction": reduction,
        }

    def _init_with_parts(self, *args, **options) -> None:
        GenSupConLoss.__init__(self, *args, **options)
        self.forward = self.parts

    @old_arguments(weights="pair_similarity", anchor_mask="anchor_weight")
    def forward(
        self,
        latents: Tensor,
        labels: Labels | None = None,
        mask: Tensor | None = None,
        *,
        contrast_latents: Tensor | None = None,
        contrast_labels: Tensor | Sequence[Tensor] | None = None,
        pair_similarity: Tensor | None = None,
        anchor_weight: Tensor | None = None,
    ) -> Tensor:
        """Return the loss, see ``gen_supcon_loss``."""
        return gen_supcon_loss(
            latents,
            labels,
            mask=mask,
            contrast_latents=contrast_latents,
            contrast_labels=contrast_labels,
            pair_similarity=pair_similarity,
            anchor_weight=anchor_weight,
            **self._options(latents),
        )

    def parts(
        self,
        latents: Tensor,
        labels: Labels | None = None,
        mask: Tensor | None = None,
        *,
        contrast_latents: Tensor | None = None,
        contrast_labels: Tensor | Sequence[Tensor] | None = None,
        pair_similarity: Tensor | None = None,
        anchor_weight: Tensor | None = None,
    ) -> LossParts:
        """Return the loss and what it is made of, see ``gen_supcon_loss_parts``."""
        return gen_supcon_loss_parts(
            latents,
            labels,
            mask=mask,
            contrast_latents=contrast_latents,
            contrast_labels=contrast_labels,
            pair_similarity=pair_similarity,
            anchor_weight=anchor_weight,
            **self._options(latents),
        )

    def _options(self, latents: Tensor) -> dict:
        waits = self.seen and isinstance(latents, Tensor) and latents.device.type != "cpu"
        self.seen = True
        options = {"temperature": self.temperature, "similarity": self.similarity}
        return options | self.options | {"validate": self.validate and not waits}

    def extra_repr(self) -> str:
        options: dict[str, object] = {"temperature": self.temperature}
        options |= {"similarity": self.similarity, **self.options, "validate": self.validate}
        return ", ".join(f"{name}={value!r}" for name, value in options.items())
