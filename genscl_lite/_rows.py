"""What comes into the loss, as rows: views one after another, labels and what they are contrasted with."""

import math
import numbers
from typing import NamedTuple

import torch
from torch import Tensor

from genscl_lite import _checks
from genscl_lite.gather import Group
from genscl_lite.similarity import ClassSimilarity


class Rows(NamedTuple):
    """The arguments of ``gen_supcon_loss`` that have rows, as M anchors and K contrasts; all are checked."""

    latents: Tensor  # (M, D)
    pairs: list[tuple[float, Tensor, Tensor | None]]  # a_t, labels and contrast labels; or none
    pair_similarity: Tensor | None  # (M, K), in place of labels
    anchor_weight: Tensor | None  # (M,)


def as_rows(
    latents: Tensor,
    labels,
    contrast_latents: Tensor | None,
    contrast_labels,
    similarity,
    pair_similarity: Tensor | None,
    mask: Tensor | None,
    anchor_weight: Tensor | None,
    group: Group,
    validate: bool,
) -> Rows:
    """Take (N, V, D) latents view by view, and what belongs to them; check all. Arguments: see the loss."""
    given = {
        "contrast_latents": contrast_latents,
        "pair_similarity": pair_similarity,
        "mask": mask,
        "anchor_weight": anchor_weight,
    }
    given = {name: value for name, value in given.items() if value is not None}
    _checks.require_instances(Tensor, latents=latents, **given)
    replaced = given.keys() & {"pair_similarity", "mask"}
    if replaced and (len(replaced) == 2 or labels is not None or contrast_labels is not None):
        raise ValueError(f"{min(replaced)}: it takes the place of labels; give one or the other")
    images, views = latents.shape[:2] if latents.ndim > 2 else (len(latents), None)
    if views and labels is None and not replaced and isinstance(similarity, str):
        labels = torch.arange(images, device=latents.device) + group.rank * images  # SimCLR
    pairs = as_pairs(labels, contrast_labels)
    if views:
        latents = latents.flatten(2).transpose(0, 1).flatten(0, 1)
        any_kind = callable(similarity) and not isinstance(similarity, ClassSimilarity)
        pairs = [(a, repeat_for_views(y, images, views, any_kind), c) for a, y, c in pairs]
        if anchor_weight is not None and anchor_weight.shape == (images, views):
            anchor_weight = anchor_weight.T.reshape(-1)
        if mask is not None and mask.shape == (images, images * group.size):
            mask = mask.unflatten(1, (group.size, 1, images)).expand(-1, -1, views, -1)
            mask = mask.flatten(1).repeat(views, 1)  # of each process view by view
    rows = Rows(latents, pairs, pair_similarity if mask is None else mask, anchor_weight)
    _check(
        rows,
        contrast_latents,
        similarity,
        "mask" if mask is not None else "pair_similarity",
        group,
        validate,
    )
    return rows


def as_pairs(labels, contrast_labels) -> list[tuple[float, Tensor, Tensor | None]]:
    """Return (a_t, labels, contrast labels) for labels, or a list of (a_t, labels), where a_t is not 0."""
    if labels is None:
        return []
    if not isinstance(labels, list | tuple):
        labels, contrast_labels = [(1.0, labels)], [contrast_labels]
    many = len(labels)
    if not labels or not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in labels):
        raise ValueError(
            "labels: expected a Tensor, or a list of pairs (weight, Tensor), got another list"
        )
    if contrast_labels is None:
        contrast_labels = [None] * many
    if not isinstance(contrast_labels, list | tuple) or len(contrast_labels) != many:
        raise ValueError(f"contrast_labels: expected a list of {many} Tensors, as labels are")
    weights = [weight for weight, _ in labels]
    if not all(
        isinstance(a, numbers.Real) and 0 <= float(a) < math.inf for a in weights
    ) or not any(weights):
        raise ValueError(
            f"labels: expected weights >= 0, one of them above 0, in pairs (weight, Tensor), got {weights}"
        )
    return [(float(a), y, c) for (a, y), c in zip(labels, contrast_labels, strict=True) if a]


def repeat_for_views(labels: Tensor, images: int, views: int, any_kind: bool = False) -> Tensor:
    """Return the labels of V*N rows, view by view, from those of N images or of N images and V views.

    >>> repeat_for_views(torch.tensor([3, 4]), images=2, views=2)
    tensor([3, 4, 3, 4])
    """
    _checks.require_instances(Tensor, labels=labels)
    dimensions = 2 if labels.is_floating_point() else 1
    if labels.shape[:2] == (images, views) and labels.ndim == dimensions + 1:
        return labels.transpose(0, 1).flatten(0, 1)
    if (any_kind or labels.ndim == dimensions) and labels.ndim and len(labels) == images:
        return labels.repeat(views, *[1] * (labels.ndim - 1))
    raise ValueError(
        f"labels: expected one for each of {images} images (or {images} x {views} views), an "
        f"integer or C probabilities, got {labels.dtype} of shape {tuple(labels.shape)}"
        f"{_checks.DIVIDE}"
    )


def one_hot(numbers: Tensor, classes: int) -> Tensor:
    """Return float32 (M, C) distributions of (M,) class numbers; torch's own makes a GPU wait."""
    return (numbers[:, None] == torch.arange(classes, device=numbers.device)).float()


def _check(
    rows: Rows,
    contrast_latents: Tensor | None,
    similarity,
    pairs_name: str,
    group: Group,
    validate: bool,
) -> None:
    latents, pairs, pair_similarity, anchor_weight = rows
    _checks.check_rows("latents", latents, validate=validate)
    contrasts = len(latents) * group.size
    if contrast_latents is not None:
        _checks.check_rows("contrast_latents", contrast_latents, latents, validate)
        contrasts = len(contrast_latents)
    elif contrasts < 2:
        raise ValueError("latents: expected at least 2 rows to contrast with each other, got 1")
    if anchor_weight is not None:
        _checks.check_anchor_weight(anchor_weight, len(latents), validate)
    if pair_similarity is not None:
        _checks.check_similarities(
            f"{pairs_name}: expected", pair_similarity, (len(latents), contrasts), validate
        )
    elif not pairs:
        raise ValueError(
            "labels: expected (M, C) distributions or (M,) class numbers (or pair_similarity), got None"
        )
    named = isinstance(similarity, str | ClassSimilarity)
    check = _checks.check_labels if named else _checks.check_targets
    for _, labels, contrast_labels in pairs:
        _checks.require_instances(Tensor, labels=labels)
        check("labels", labels, len(latents), validate)
        if (contrast_latents is None) != (contrast_labels is None):
            raise ValueError("contrast_latents and contrast_labels: give both or neither")
        if contrast_labels is not None:
            _checks.require_instances(Tensor, contrast_labels=contrast_labels)
            check("contrast_labels", contrast_labels, contrasts, validate, like=labels)
