"""What labels have in common: named similarities, similarities of classes, and one for continuous targets.

Symbols as in ``losses``. Most similarities are inner products of features, s_ij = phi(y_i) . psi(y_j), so that
sums over contrasts factor through the classes and need no (M, K) matrix (see ``label_sums``).
"""

import numbers
from collections.abc import Callable, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genscl_lite._checks import (
    check_labels,
    require_choice,
    require_instances,
    require_positive,
)

SIMILARITIES = ("cosine", "inner_product", "bhattacharyya")


def label_similarity(
    labels: Tensor,
    contrast_labels: Tensor | None = None,
    similarity: "str | Tensor | ClassSimilarity" = "cosine",
) -> Tensor:
    """Compare every label with every contrast label.

    cosine: y.y' / (|y| |y'|) (GenSCL, Eq. 1); inner_product: y.y'; bhattacharyya: sum_c sqrt(y_c y'_c).

    Args:
        labels: (M, C) distributions or (M,) class numbers.
        contrast_labels: (K, C) or (K,); default: ``labels`` itself.
        similarity: one of ``SIMILARITIES``, or a matrix of classes, see ``ClassSimilarity``.

    Returns:
        (M, K) similarities in [0, 1], the diagonal included.

    Raises:
        ValueError: labels are not distributions, shapes disagree, or the similarity is unknown.

    >>> label_similarity(torch.tensor([[1.0, 0.0], [0.5, 0.5]]))
    tensor([[1.0000, 0.7071],
            [0.7071, 1.0000]])
    """
    contrast_labels = labels if contrast_labels is None else contrast_labels
    require_instances(Tensor, labels=labels, contrast_labels=contrast_labels)
    check_labels("labels", labels)
    check_labels("contrast_labels", contrast_labels, like=labels)
    kind = cast(str | ClassSimilarity, as_similarity(similarity, functions=False))
    if labels.ndim == 1 and isinstance(kind, str):
        return (labels.long()[:, None] == contrast_labels.long()[None, :]).float()
    with torch.autocast(labels.device.type, enabled=False):
        dtype = labels.dtype if labels.ndim == 2 else torch.float32
        phi, psi = feature_pair(labels, contrast_labels, kind, dtype)
        return phi @ psi.T


class ClassSimilarity(nn.Module):
    """Compare labels by a similarity of classes, which comes from a hierarchy or from frequent confusions.

    s_ij = y_i^T S y_j / sqrt(y_i^T S y_i  y_j^T S y_j): with S = L L^T the cosine of y_i L and y_j L. S =
    identity gives the cosine of GenSCL, Eq. 1. Only the proportions of S count. Class numbers stand for
    one-hot distributions.

    Differs: not computed from L but as s_ij = psi_i^T T psi_j, with u = d y, psi = u / sqrt(u^T T u),
    d = sqrt(diag S) and T_ab = S_ab / (d_a d_b). Nothing in it is negative: labels with nothing in common
    keep exactly 0, where products of rows of L leave noise of both signs, from which anchors would learn.

    Cost: the eigenvalues of S are computed once, on the CPU, in order C^3. So make it once, not at each step.
    Each use is of order (M + K) C^2; ``.to`` the labels' device saves a copy of S at each use.

    Args:
        matrix: S, (C, C) real numbers >= 0, symmetric and positive semidefinite to the rounding of its type,
            with a diagonal above 0 (at least 1e-30 of its largest). It is copied and gets no gradient.
        validate: check values, too, not just shape and type.

    Raises:
        ValueError: S is not such a matrix; when used: it does not have a row for each class.

    >>> related = ClassSimilarity(torch.tensor([[2.0, 1.0, 0.0], [1.0, 2.0, 0.0], [0.0, 0.0, 2.0]]))
    >>> related(torch.tensor([0, 1]), torch.tensor([0, 1, 2]))
    tensor([[1.0000, 0.5000, 0.0000],
            [0.5000, 1.0000, 0.0000]])
    """

    unit: Tensor
    scale: Tensor

    def __init__(self, matrix: Tensor, validate: bool = True):
        super().__init__()
        require_instances(Tensor, similarity=matrix)
        square = matrix.ndim == 2 and matrix.shape[0] == matrix.shape[1] > 0
        if not square or matrix.is_complex():
            raise ValueError(
                "similarity: expected real numbers of shape (C, C), "
                f"got {matrix.dtype} of shape {tuple(matrix.shape)}"
            )
        s = matrix.detach().double()
        scale = s.diagonal().sqrt()
        unit = s / scale[:, None] / scale
        if validate:
            _check_class_similarity(
                s.cpu(), unit.cpu(), tolerance=1e-2 if matrix.element_size() == 2 else 1e-4
            )
        unit = ((unit + unit.T) / 2).fill_diagonal_(1)
        dtype = torch.float64 if matrix.dtype == torch.float64 else torch.float32
        self.register_buffer("unit", unit.to(dtype))  # (C, C) T
        self.register_buffer("scale", (scale / scale.max()).to(dtype))  # (C,) d, up to a factor

    def forward(self, labels: Tensor, contrast_labels: Tensor | None = None) -> Tensor:
        """Return (M, K) similarities; arguments and errors as in ``label_similarity``."""
        return label_similarity(labels, contrast_labels, self)

    def features(
        self, labels: Tensor, contrast_labels: Tensor, dtype: torch.dtype, validate: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Return T psi of labels, (M, C), and psi of contrasts, (K, C), both in [0, 1]."""
        unit = self.unit.to(labels.device, torch.promote_types(dtype, torch.float32))
        for y in (labels, contrast_labels):
            if y.ndim == 2 and y.shape[1] != len(unit):
                raise ValueError(
                    f"similarity: expected a matrix for {y.shape[1]} classes, "
                    f"got one of shape ({len(unit)}, {len(unit)})"
                )
            if y.ndim == 1 and validate and (y.long() >= len(unit)).any():
                raise ValueError(
                    f"similarity: expected class numbers below {len(unit)}, the rows of the matrix, "
                    f"got {int(y.long().max())}"
                )
        if labels.ndim == 1:
            classes = torch.arange(len(unit), device=labels.device)
            psi = contrast_labels.long()[:, None] == classes  # one-hot
            return unit[labels.long()].to(dtype), psi.to(dtype)
        psi, contrast_psi = (self._psi(y, unit) for y in (labels, contrast_labels))
        return (psi @ unit).to(dtype), contrast_psi.to(dtype)

    def _psi(self, labels: Tensor, unit: Tensor) -> Tensor:
        u = labels.to(unit) * self.scale.to(unit)
        square = ((u @ unit) * u).sum(dim=1, keepdim=True)
        return u / square.clamp(min=torch.finfo(u.dtype).tiny).sqrt()

    def __repr__(self) -> str:
        return f"ClassSimilarity({len(self.unit)} classes)"


def superclass_similarity(groups: Sequence[object] | Tensor, within: float = 0.5) -> Tensor:
    """Return the matrix of a two-level hierarchy: 1 for the same class, ``within`` for the same group, else 0.

    S = (1 - within) I + within G, where G_ab = 1 if a and b are in one group, else 0: a sum of two positive
    semidefinite matrices. ``within`` = 0 gives the cosine of classes; 1 makes each group one class.

    Args:
        groups: the group of each of C classes, as a name or number; for CIFAR-100, the superclass of each class.
        within: in [0, 1].

    Returns:
        (C, C), for the loss's ``similarity``.

    Raises:
        ValueError: there is no class, or ``within`` is outside [0, 1].

    >>> superclass_similarity(["fish", "fish", "bird"], within=0.25)
    tensor([[1.0000, 0.2500, 0.0000],
            [0.2500, 1.0000, 0.0000],
            [0.0000, 0.0000, 1.0000]])
    """
    groups = groups.tolist() if hasattr(groups, "tolist") else groups
    if not isinstance(groups, list | tuple) or not groups:
        raise ValueError(f"groups: expected a list, the group of each of C classes, got {groups!r}")
    if not isinstance(within, numbers.Real) or not 0 <= within <= 1:
        raise ValueError(f"within: expected a number in [0, 1], got {within!r}")
    group = torch.tensor([groups.index(name) for name in groups])
    return ((group[:, None] == group) * float(within)).fill_diagonal_(1)


def gaussian_similarity(bandwidth: float) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a similarity of continuous targets, for regression: ``similarity=gaussian_similarity(0.5)``.

    s_ij = exp(-|t_i - t_j|^2 / (2 bandwidth^2)), the kernel of y-aware contrastive learning (arXiv
    2106.08808, Eq. 2). With it, the row-normalized loss is theirs.

    Args:
        bandwidth: > 0, in the unit of the targets: targets this far apart have a similarity of 0.61.

    Returns:
        A function from (M,) or (M, d) and (K,) or (K, d) floating point targets to (M, K) values in [0, 1].

    Raises:
        ValueError: the bandwidth is not above 0.

    >>> gaussian_similarity(1.0)(torch.tensor([20.0, 21.0]), torch.tensor([20.0, 23.0]))
    tensor([[1.0000, 0.0111],
            [0.6065, 0.1353]])
    """
    require_positive("bandwidth", bandwidth)

    def similarity(targets: Tensor, contrast_targets: Tensor) -> Tensor:
        rows, contrasts = (
            t.to(torch.promote_types(t.dtype, torch.float32)).reshape(len(t), -1) / bandwidth
            for t in (targets, contrast_targets)
        )
        difference = rows[:, None] - contrasts  # (M, K, d): exact also for near targets
        return (difference.square().sum(dim=2) / -2).exp()

    return similarity


def distributions_from_counts(counts: Tensor) -> Tensor:
    """Divide counts of votes, or rows of several classes, by their sums: (N, C) label distributions.

    The loss itself refuses counts, because a forgotten softmax looks the same.

    Args:
        counts: (N, C) numbers >= 0, at least one of each row above 0.

    Returns:
        (N, C) in float32 (float64 for float64), each row of sum 1.

    Raises:
        ValueError: the counts are not like this; the message names the first such row.

    >>> distributions_from_counts(torch.tensor([[3, 1], [0, 5]]))
    tensor([[0.7500, 0.2500],
            [0.0000, 1.0000]])
    """
    require_instances(Tensor, counts=counts)
    if counts.ndim != 2 or counts.is_complex():
        raise ValueError(
            f"counts: expected numbers of shape (N, C), got {counts.dtype} "
            f"of shape {tuple(counts.shape)}"
        )
    shares = counts if counts.dtype == torch.float64 else counts.float()
    total = shares.sum(dim=1, keepdim=True)
    good = (shares >= 0).all(dim=1) & (total[:, 0] > 0) & total[:, 0].isfinite()
    if not good.all():
        row = int((~good).nonzero()[0])
        raise ValueError(
            f"counts: expected finite numbers >= 0, one of them above 0, in each row, "
            f"but row {row} is {counts[row].tolist()[:10]}"
        )
    return shares / total


def feature_pair(
    labels: Tensor,
    contrast_labels: Tensor,
    similarity: str | ClassSimilarity,
    dtype: torch.dtype,
    validate: bool = True,
) -> tuple[Tensor, Tensor]:
    """Return phi, (M, C), of labels and psi, (K, C), of contrasts: s_ij = phi(y_i) . psi(y_j)."""
    if isinstance(similarity, ClassSimilarity):
        return similarity.features(labels, contrast_labels, dtype, validate)
    phi = label_features(labels.to(dtype), similarity)
    if contrast_labels is labels:
        return phi, phi
    return phi, label_features(contrast_labels.to(phi), similarity)


def label_features(labels: Tensor, similarity: str = "cosine") -> Tensor:
    """Return phi(y), (M, C), whose inner products are a named similarity: s_ij = phi(y_i) . phi(y_j).

    Rows whose sums are a little off 1, because their numbers were rounded, are brought to 1.
    """
    if similarity == "cosine":
        return F.normalize(labels, dim=1)
    labels = F.normalize(labels, p=1, dim=1)
    return labels.sqrt() if similarity == "bhattacharyya" else labels


def as_similarity(
    similarity: object, validate: bool = True, functions: bool = True
) -> str | Callable | ClassSimilarity:
    """Return a matrix as a ``ClassSimilarity``, and any other similarity as it is; or raise ValueError."""
    if isinstance(similarity, str):
        require_choice("similarity", similarity, SIMILARITIES)
    elif isinstance(similarity, Tensor):
        return ClassSimilarity(similarity, validate)
    elif not isinstance(similarity, ClassSimilarity) and not (functions and callable(similarity)):
        raise ValueError(
            f"similarity: expected a name, a (C, C) Tensor{' or a function' * functions}, "
            f"got {type(similarity).__name__}"
        )
    return similarity


def _check_class_similarity(s: Tensor, unit: Tensor, tolerance: float) -> None:
    """Check S, (C, C), and T, the same scaled to a diagonal of 1; both in float64 on the CPU."""

    def refuse(wrong: Tensor, message: str) -> None:
        if wrong.any():
            a, b = wrong.nonzero()[0].tolist()
            raise ValueError(
                "similarity: expected " + message.format(a=a, b=b, ab=s[a, b], ba=s[b, a])
            )

    refuse(~s.isfinite(), "finite numbers, but [{a}, {b}] is {ab:g}")
    refuse(s < 0, "numbers >= 0, but [{a}, {b}] is {ab:g}")
    lost = (s == 0) | (s < 1e-30 * s.diagonal().max())  # the latter in float32
    refuse(
        lost & torch.eye(len(s), dtype=torch.bool),
        "each class to resemble itself, but [{a}, {a}], that of class {a}, is {ab:g}",
    )
    refuse(
        (unit - unit.T).abs() > tolerance,
        "a symmetric matrix, but [{a}, {b}] is {ab:g} and [{b}, {a}] is {ba:g}",
    )
    least = float(torch.linalg.eigvalsh(unit.clamp(max=1e9))[0])
    if least < -tolerance:
        raise ValueError(
            "similarity: expected a positive semidefinite matrix, but scaled to a diagonal of 1 "
            f"its least eigenvalue is {least:.3g}"
        )
