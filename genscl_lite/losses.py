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

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genscl_lite.checks import require_choice, require_positive

SIMILARITIES = ("cosine", "inner_product", "bhattacharyya")
WEIGHTINGS = ("normalized", "eq2")


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


def label_similarity(labels: Tensor, contrast_labels: Tensor | None = None, similarity: str = "cosine") -> Tensor:
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
    _check_labels("labels", labels, len(labels))
    if contrast_labels is None:
        contrast_labels = labels
    else:
        _check_labels("contrast_labels", contrast_labels, len(contrast_labels))
        _check_same_kind(labels, contrast_labels)
    require_choice("similarity", similarity, SIMILARITIES)
    if labels.ndim == 1:
        return (labels[:, None] == contrast_labels[None, :]).float()
    with torch.autocast(labels.device.type, enabled=False):
        return label_features(labels, similarity) @ label_features(contrast_labels, similarity).T


def label_features(labels: Tensor, similarity: str = "cosine") -> Tensor:
    """Return phi(y), (M, C), whose plain inner products are the similarity: s_ij = phi(y_i) . phi(y_j)."""
    if similarity == "cosine":
        return F.normalize(labels, dim=1)
    return labels.sqrt() if similarity == "bhattacharyya" else labels


def gen_supcon_loss(
    latents: Tensor,
    labels: Tensor | None = None,
    *,
    contrast_latents: Tensor | None = None,
    contrast_labels: Tensor | None = None,
    weights: Tensor | None = None,
    anchor_mask: Tensor | None = None,
    temperature: float = 0.1,
    similarity: str = "cosine",
    weighting: str = "normalized",
    base_temperature: float | None = None,
    validate: bool = True,
    return_parts: bool = False,
) -> Tensor | LossParts:
    """Compute the cross-entropy between label similarity and latent similarity.

    normalized:  L = mean_i - sum_{j in A(i)} w_ij log p_ij
    eq2:         L = mean_i - 1/|A(i)| sum_{j in A(i)} s_ij log p_ij    (GenSCL, Eq. 2)

    One-hot labels and "normalized" give SupCon's L_out (SupCon, Eq. 2); a label of its own for each image gives
    SimCLR's NT-Xent. No (M, K) label matrix is made unless ``weights`` is one or ``return_parts`` asks for entropies
    (then by blocks of rows): with phi from ``label_features``, sum_j s_ij z_i.z_j = phi_i^T (sum_j phi_j z_j^T) z_i.

    Differs: the reference code computes "normalized" with ``base_temperature=0.07``; the paper's text prints eq2.
    An anchor that no contrast resembles (W_i = 0) has nothing to learn: "normalized" leaves it out of the mean, in eq2
    it counts with its value, 0. Where every anchor is left out the loss is 0.

    Args:
        latents: (M, D), any length: normalized inside. Or (N, V, D), V views of N images; rows are then taken view by
            view (row v*N + n), which matters only for ``weights``.
        labels: (M, C) distributions (rows non-negative, summing to 1) or (M,) class numbers. With (N, V, D) latents:
            (N, C) or (N,) shared by the views, or (N, V, C) / (N, V) for labels of each view; None: every image its
            own class.
        contrast_latents: (K, D) keys, for instance this batch's and a queue's; none is left out as "self".
            Default: the batch itself, each row without itself.
        contrast_labels: (K, C) or (K,), of the same kind as ``labels``.
        weights: (M, K) own label similarities s_ij >= 0, instead of any labels.
        anchor_mask: (M,) bool, or (N, V): rows that are anchors; the others are contrasts only.
        temperature: tau > 0.
        similarity: one of ``SIMILARITIES``; only for distributions.
        weighting: "normalized" or "eq2".
        base_temperature: multiply the loss by temperature / base_temperature, as SupContrast and the reference code do.
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
    _check_options(temperature, similarity, weighting, base_temperature)
    latents, labels, anchor_mask = _rows_of_views(latents, labels, anchor_mask, labelled=weights is None)
    _check_latents(latents, contrast_latents, validate)
    if anchor_mask is not None and (anchor_mask.shape != latents.shape[:1] or anchor_mask.dtype != torch.bool):
        raise ValueError(f"anchor_mask: expected bool of shape ({len(latents)},), "
                         f"got {anchor_mask.dtype} of shape {tuple(anchor_mask.shape)}")
    itself = contrast_latents is None
    if weights is not None:
        _check_weights(weights, latents, contrast_latents, labels, contrast_labels, validate)
    else:
        labels, contrast_labels = _check_label_pair(labels, contrast_labels, latents, contrast_latents, validate)

    with torch.autocast(latents.device.type, enabled=False):
        dtype = torch.float64 if latents.dtype == torch.float64 else torch.float32
        z = F.normalize(latents.to(dtype), dim=1)
        contrast_z = z if itself else F.normalize(contrast_latents.to(dtype), dim=1)
        scores = z @ contrast_z.T / temperature
        if itself:
            scores.fill_diagonal_(float("-inf"))
        log_partition = scores.logsumexp(dim=1)

        # total_i = W_i and attraction_i = sum_j w_ij z_i.z_j, over j in A(i)
        if weights is not None:
            similar = _WeightMatrix(weights.to(dtype), itself)
        elif labels.ndim == 1:
            similar = _ClassNumbers(labels, contrast_labels, itself)
        else:
            similar = _Distributions(labels, contrast_labels, similarity, itself)
        total, attraction = similar.sums(z, contrast_z)
        resembled, total = total > 0, total.to(dtype)
        anchors = torch.ones_like(resembled) if anchor_mask is None else anchor_mask

        counted = resembled & anchors
        cross_entropy = torch.where(counted, log_partition - attraction.to(dtype) / temperature, 0)
        if weighting == "normalized":
            loss = cross_entropy.sum() / counted.sum().clamp(min=1)
        else:
            loss = (cross_entropy * total).sum() / anchors.sum().clamp(min=1) / (len(contrast_z) - itself)
        if base_temperature is not None:
            loss = loss * (temperature / base_temperature)
        if not return_parts:
            return loss
        with torch.no_grad():
            entropy = torch.where(counted, similar.entropy().to(dtype), 0).sum() / counted.sum().clamp(min=1)
            kl = cross_entropy.sum() / counted.sum().clamp(min=1) - entropy
            return LossParts(loss, entropy, kl, (anchors & ~resembled).sum())


class GenSupConLoss(nn.Module):
    """``gen_supcon_loss`` as a module that keeps its options.

    Called as SupContrast's ``SupConLoss`` is, with (N, V, D) latents and (N,) class numbers or none, and with all that
    ``gen_supcon_loss`` takes beyond. Arguments and errors: see there.

    >>> loss = GenSupConLoss(temperature=0.1)
    >>> z = torch.randn(8, 2, 16, generator=torch.Generator().manual_seed(0))  # 8 images, 2 views
    >>> loss(z, torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])).shape
    torch.Size([])
    """

    def __init__(
        self,
        temperature: float = 0.1,
        similarity: str = "cosine",
        weighting: str = "normalized",
        base_temperature: float | None = None,
        validate: bool = True,
        return_parts: bool = False,
    ):
        super().__init__()
        self.options = {"temperature": temperature, "similarity": similarity, "weighting": weighting,
                        "base_temperature": base_temperature}  # fmt: skip
        _check_options(**self.options)
        self.options |= {"validate": validate, "return_parts": return_parts}

    def forward(
        self,
        latents: Tensor,
        labels: Tensor | None = None,
        *,
        contrast_latents: Tensor | None = None,
        contrast_labels: Tensor | None = None,
        weights: Tensor | None = None,
        anchor_mask: Tensor | None = None,
    ) -> Tensor | LossParts:
        return gen_supcon_loss(latents, labels, contrast_latents=contrast_latents, contrast_labels=contrast_labels,
                               weights=weights, anchor_mask=anchor_mask, **self.options)

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self.options.items())


# Three forms of label similarity. Each gives, over A(i), W_i with the mean of z_i.z_j weighted by w_ij (0 where W_i is 0)
# and then, on demand, the entropies H(w_i).


class _WeightMatrix:
    """The caller's own s, (M, K)."""

    def __init__(self, weights: Tensor, itself: bool):
        s = weights.masked_fill(torch.eye(len(weights), dtype=torch.bool, device=weights.device), 0) if itself else weights
        self.largest = s.amax(dim=1)
        self.s = s / self.largest.where(self.largest > 0, 1)[:, None]  # however small or large, no sum is lost

    def sums(self, z: Tensor, contrast_z: Tensor) -> tuple[Tensor, Tensor]:
        self.total = self.s.sum(dim=1)
        return self.total * self.largest, _ratio(((self.s @ contrast_z) * z).sum(dim=1), self.total)

    def entropy(self) -> Tensor:
        return _entropy(self.s, self.total)


class _ClassNumbers:
    """s_ij = 1 for equal class numbers: sums over classes, never a one-hot matrix."""

    def __init__(self, labels: Tensor, contrast_labels: Tensor, itself: bool):
        numbers, index = torch.cat([labels, contrast_labels]).unique(return_inverse=True)
        self.classes, self.itself = len(numbers), itself
        self.index, self.contrast_index = index.split([len(labels), len(contrast_labels)])

    def sums(self, z: Tensor, contrast_z: Tensor) -> tuple[Tensor, Tensor]:
        counts = self.contrast_index.bincount(minlength=self.classes)
        class_sums = z.new_zeros(self.classes, z.shape[1]).index_add(0, self.contrast_index, contrast_z)
        others = class_sums[self.index] - z if self.itself else class_sums[self.index]
        self.total = (counts[self.index] - int(self.itself)).to(z.dtype)
        return self.total, _ratio((others * z).sum(dim=1), self.total)

    def entropy(self) -> Tensor:
        return self.total.clamp(min=1).log()


class _Distributions:
    """s_ij = phi_i . phi_j, through the (C, D) matrix sum_j phi_j z_j^T.

    Taking the self term out of a sum cancels digits. So sums are in float64 (float32 where a device has none), and the
    few anchors of which hardly anything is left are summed contrast by contrast.
    """

    def __init__(self, labels: Tensor, contrast_labels: Tensor, similarity: str, itself: bool):
        self.dtype = torch.float32 if labels.device.type == "mps" else torch.float64
        self.phi = label_features(labels.to(self.dtype), similarity)
        self.contrast_phi = self.phi if itself else label_features(contrast_labels.to(self.dtype), similarity)
        self.itself = itself

    def sums(self, z: Tensor, contrast_z: Tensor) -> tuple[Tensor, Tensor]:
        self.total, attraction = self._exact_sums(z.to(self.dtype), contrast_z.to(self.dtype))
        return self.total, _ratio(attraction, self.total)

    def _exact_sums(self, z: Tensor, contrast_z: Tensor) -> tuple[Tensor, Tensor]:
        everything = self.phi @ self.contrast_phi.sum(dim=0)
        attraction = ((self.phi @ (self.contrast_phi.T @ contrast_z)) * z).sum(dim=1)
        if not self.itself:
            return everything, attraction
        own = self.phi.square().sum(dim=1)
        total, attraction = everything - own, attraction - own * z.square().sum(dim=1)
        rows = (total < 1e-3 * own).nonzero()[:, 0]
        if len(rows):
            s = self.phi[rows] @ self.phi.T
            s[torch.arange(len(rows), device=s.device), rows] = 0
            total = total.index_put((rows,), s.sum(dim=1))
            attraction = attraction.index_put((rows,), ((s @ z) * z[rows]).sum(dim=1))
        return total, attraction

    def entropy(self, rows: int = 1024) -> Tensor:
        blocks = []
        for start in range(0, len(self.phi), rows):
            s = self.phi[start : start + rows] @ self.contrast_phi.T
            if self.itself:
                s.diagonal(start).zero_()
            blocks.append(_entropy(s, self.total[start : start + rows]))
        return torch.cat(blocks)


def _ratio(value: Tensor, total: Tensor) -> Tensor:
    return torch.where(total > 0, value / total.where(total > 0, 1), 0)


def _entropy(s: Tensor, total: Tensor) -> Tensor:
    return torch.special.entr(_ratio(s, total[:, None])).sum(dim=1)


# Checks: each message names the argument, what was expected and what came.


def _check_options(temperature, similarity, weighting, base_temperature):
    require_positive("temperature", temperature)
    if base_temperature is not None:
        require_positive("base_temperature", base_temperature)
    require_choice("similarity", similarity, SIMILARITIES)
    require_choice("weighting", weighting, WEIGHTINGS)


def _rows_of_views(latents, labels, anchor_mask, labelled):
    """Bring (N, V, D) latents and what belongs to them to M = V*N rows, view by view."""
    if latents.ndim != 3:
        return latents, labels, anchor_mask
    images, views = latents.shape[:2]
    rows = latents.transpose(0, 1).flatten(0, 1)
    if anchor_mask is not None and anchor_mask.shape == (images, views):
        anchor_mask = anchor_mask.T.reshape(-1)
    if not labelled:
        return rows, labels, anchor_mask
    if labels is None:
        labels = torch.arange(images, device=latents.device)
    each_view = labels.shape[:2] == (images, views) and labels.ndim == (3 if labels.is_floating_point() else 2)
    if each_view:
        labels = labels.transpose(0, 1).flatten(0, 1)
    elif len(labels) == images and labels.ndim == (2 if labels.is_floating_point() else 1):
        labels = labels.repeat(views, *[1] * (labels.ndim - 1))
    else:
        raise ValueError(f"labels: expected one for each of {images} images (or {images} x {views} views), "
                         f"got shape {tuple(labels.shape)}")
    return rows, labels, anchor_mask


def _check_latents(latents, contrast_latents, validate):
    for name, tensor in (("latents", latents), ("contrast_latents", contrast_latents)):
        if tensor is None:
            continue
        if tensor.ndim != 2 or not tensor.is_floating_point():
            raise ValueError(f"{name}: expected floating point of shape (rows, D), "
                             f"got {tensor.dtype} of shape {tuple(tensor.shape)}")
        if validate and not torch.isfinite(tensor).all():
            raise ValueError(f"{name}: holds NaN or infinity in "
                             f"{int((~torch.isfinite(tensor)).any(dim=1).sum())} of {len(tensor)} rows")
    if contrast_latents is None and len(latents) < 2:
        raise ValueError(f"latents: expected at least 2 rows to contrast with each other, got {len(latents)}")
    if contrast_latents is not None and contrast_latents.shape[1] != latents.shape[1]:
        raise ValueError(f"contrast_latents: expected latent size {latents.shape[1]} as in latents, "
                         f"got {contrast_latents.shape[1]}")
    if contrast_latents is not None and len(contrast_latents) == 0:
        raise ValueError("contrast_latents: expected at least one row, got none")


def _check_weights(weights, latents, contrast_latents, labels, contrast_labels, validate):
    if labels is not None or contrast_labels is not None:
        raise ValueError("weights: they take the place of labels; give one or the other")
    expected = (len(latents), len(latents if contrast_latents is None else contrast_latents))
    if weights.shape != expected:
        raise ValueError(f"weights: expected shape {expected}, got {tuple(weights.shape)}")
    if validate and not bool((torch.isfinite(weights) & (weights >= 0)).all()):
        raise ValueError("weights: expected finite values >= 0, got NaN, infinite or negative ones")


def _check_label_pair(labels, contrast_labels, latents, contrast_latents, validate):
    if labels is None:
        raise ValueError("labels: expected (M, C) distributions or (M,) class numbers (or weights), got None")
    _check_labels("labels", labels, len(latents), validate)
    if (contrast_latents is None) != (contrast_labels is None):
        raise ValueError("contrast_latents and contrast_labels: give both or neither")
    if contrast_labels is None:
        return labels, labels
    _check_labels("contrast_labels", contrast_labels, len(contrast_latents), validate)
    _check_same_kind(labels, contrast_labels)
    return labels, contrast_labels


def _check_labels(name: str, labels: Tensor, rows: int, validate: bool = True) -> None:
    if len(labels) != rows:
        raise ValueError(f"{name}: expected {rows} rows, one for each latent, got shape {tuple(labels.shape)}")
    if labels.ndim == 1:
        if labels.is_floating_point() or labels.dtype == torch.bool:
            raise ValueError(f"{name}: expected integers as class numbers, got {labels.dtype}; "
                             "distributions have shape (rows, C)")
        if validate and len(labels) and labels.min() < 0:
            raise ValueError(f"{name}: expected class numbers >= 0, got {int(labels.min())}")
        return
    if labels.ndim != 2 or not labels.is_floating_point():
        raise ValueError(f"{name}: expected floating point distributions (rows, C) or integers (rows,), "
                         f"got {labels.dtype} of shape {tuple(labels.shape)}")
    if not validate:
        return
    sums = labels.float().sum(dim=1)
    tolerance = 1e-2 if labels.dtype in (torch.float16, torch.bfloat16) else 1e-3  # what such numbers can hold
    good = (torch.isfinite(labels) & (labels >= 0)).all(dim=1) & ((sums - 1).abs() < tolerance)
    if not good.all():
        row = int((~good).nonzero()[0])
        values = labels[row]
        what = ("holds NaN or infinity" if not torch.isfinite(values).all()
                else f"holds a negative value, {float(values.min()):g}" if values.min() < 0
                else f"sums to {float(sums[row]):g}, not 1")
        raise ValueError(f"{name}: expected distributions, but row {row} {what}")


def _check_same_kind(labels: Tensor, contrast_labels: Tensor) -> None:
    if labels.shape[1:] != contrast_labels.shape[1:]:
        raise ValueError(f"contrast_labels: expected the kind and classes of labels, {tuple(labels.shape)}, "
                         f"got {tuple(contrast_labels.shape)}")
