"""Label similarity as a product of features, so that no sum over contrasts needs an (M, K) matrix.

Symbols as in ``losses``; S, (C, C), is a kernel of classes: how much each two of them have in common.
"""

import numbers
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from genscl_lite._checks import SIMILARITIES, require_choice, require_instances


class ClassKernel:
    """A similarity of labels that follows from one of classes: of a hierarchy, or of what is often confused.

    s_ij = y_i^T S y_j / sqrt(y_i^T S y_i  y_j^T S y_j): with S = L L^T the cosine of y_i L and y_j L. S =
    identity gives the cosine of GenSCL, Eq. 1. Only the proportions of S count. Class numbers stand for
    one-hot distributions.

    Differs: not computed from L but as s_ij = psi_i^T T psi_j, with u = d y, psi = u / sqrt(u^T T u),
    d = sqrt(diag S) and T_ab = S_ab / (d_a d_b). There is no number below 0 in it: what has nothing in common
    keeps exactly 0, where products of rows of L leave noise of both signs, from which anchors would learn.

    Cost: the eigenvalues of S, of order C^3 on the CPU, once; so make it once, not at each step. Each use is
    of order (M + K) C^2, and copies S where labels are on another device than S was.

    Args:
        matrix: S, (C, C) real numbers >= 0, symmetric and positive semidefinite to the rounding of its type,
            with a diagonal above 0 (at least 1e-30 of its largest). It is copied and gets no gradient.
        validate: check the numbers, not the shape and the type alone.

    Raises:
        ValueError: S is not such a matrix; when used: it has not a row for each class.

    >>> kernel = ClassKernel(torch.tensor([[2.0, 1.0, 0.0], [1.0, 2.0, 0.0], [0.0, 0.0, 2.0]]))
    >>> phi, psi = feature_pair(torch.tensor([0, 1]), torch.tensor([0, 1, 2]), kernel, torch.float32)
    >>> phi @ psi.T
    tensor([[1.0000, 0.5000, 0.0000],
            [0.5000, 1.0000, 0.0000]])
    """

    def __init__(self, matrix: Tensor, validate: bool = True):
        require_instances(Tensor, similarity=matrix)
        if (
            matrix.ndim != 2
            or matrix.shape[0] != matrix.shape[1]
            or not len(matrix)
            or matrix.is_complex()
        ):
            raise ValueError(
                "similarity: expected real numbers of shape (C, C), "
                f"got {matrix.dtype} of shape {tuple(matrix.shape)}"
            )
        s = matrix.detach().double()
        scale = s.diagonal().sqrt()
        unit = s / scale[:, None] / scale
        if validate:
            _check_kernel(
                s.cpu(), unit.cpu(), tolerance=1e-2 if matrix.element_size() == 2 else 1e-4
            )
        self.scale = scale / scale.max()  # (C,) d, up to a factor that changes nothing
        self.unit = ((unit + unit.T) / 2).fill_diagonal_(1)  # (C, C) T

    def features(self, labels: Tensor, unit: Tensor) -> Tensor:
        """Return psi, (rows, C) in [0, 1], of class numbers or distributions; ``unit`` is T of their type."""
        if labels.ndim == 1:
            return torch.eye(len(unit), dtype=unit.dtype, device=unit.device)[labels.long()]
        u = labels.to(unit) * self.scale.to(unit)
        return (
            u
            / ((u @ unit) * u).sum(dim=1, keepdim=True).clamp(min=torch.finfo(u.dtype).tiny).sqrt()
        )

    def __repr__(self) -> str:
        return f"ClassKernel({len(self.unit)} classes)"


def feature_pair(
    labels: Tensor,
    contrast_labels: Tensor,
    similarity: str | ClassKernel,
    dtype: torch.dtype,
    validate: bool = True,
) -> tuple[Tensor, Tensor]:
    """Return phi, (M, C), of labels and psi, (K, C), of contrasts: s_ij = phi(y_i) . psi(y_j)."""
    same = contrast_labels is labels
    if not isinstance(similarity, ClassKernel):
        phi = label_features(labels.to(dtype), similarity)
        return phi, phi if same else label_features(contrast_labels.to(phi), similarity)
    classes = len(similarity.unit)
    for y in (labels, contrast_labels)[: 2 - same]:
        if y.ndim == 2 and y.shape[1] != classes:
            raise ValueError(
                f"similarity: expected a matrix for {y.shape[1]} classes, "
                f"got one of shape ({classes}, {classes})"
            )
        if y.ndim == 1 and validate and (y.long() >= classes).any():
            raise ValueError(
                f"similarity: expected class numbers below {classes}, the rows of the matrix, "
                f"got {int(y.long().max())}"
            )
    unit = similarity.unit.to(labels.device, torch.promote_types(dtype, torch.float32))
    psi = similarity.features(labels, unit)
    contrast_psi = psi if same else similarity.features(contrast_labels, unit)
    return (psi @ unit).to(dtype), contrast_psi.to(dtype)


def label_features(labels: Tensor, similarity: str = "cosine") -> Tensor:
    """Return phi(y), (M, C), whose inner products are a named similarity: s_ij = phi(y_i) . phi(y_j)."""
    if similarity == "cosine":
        return F.normalize(labels, dim=1)
    return labels.sqrt() if similarity == "bhattacharyya" else labels


def as_similarity(
    similarity, validate: bool = True, functions: bool = True
) -> str | Callable | ClassKernel:
    """Return a matrix as a ``ClassKernel``, and any other similarity as it is; or raise ValueError."""
    if isinstance(similarity, Tensor):
        return ClassKernel(similarity, validate)
    if isinstance(similarity, str):
        require_choice("similarity", similarity, SIMILARITIES)
    elif not isinstance(similarity, ClassKernel) and not (functions and callable(similarity)):
        raise ValueError(
            f"similarity: expected a name, a (C, C) Tensor{' or a function' * functions}, "
            f"got {type(similarity).__name__}"
        )
    return similarity


def superclass_kernel(groups, within: float = 0.5) -> Tensor:
    """Return the matrix of a hierarchy of two levels: 1 for a class itself, ``within`` for one of its group.

    S = (1 - within) I + within G, where G_ab = 1 if a and b are of one group, else 0: of two positive
    semidefinite matrices. ``within`` = 0 gives the cosine of classes; 1 makes a class of each group.

    Args:
        groups: the group of each of C classes, names or numbers; for CIFAR-100 its 100 coarse labels.
        within: in [0, 1].

    Returns:
        (C, C), for ``similarity`` of the loss.

    Raises:
        ValueError: there is no class, or ``within`` is outside [0, 1].

    >>> superclass_kernel(["fish", "fish", "bird"], within=0.25)
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


def _check_kernel(s: Tensor, unit: Tensor, tolerance: float) -> None:
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
