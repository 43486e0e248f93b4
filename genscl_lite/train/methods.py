"""The rows of the table: an objective, the head it is computed from, and ingredients.

A new row is one entry of ``METHODS``; with an objective of its own, one function more. Nothing else changes.
"""

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from genscl_lite._checks import require_choice
from genscl_lite.distillation import distilled_cross_entropy
from genscl_lite.losses import LossParts, gen_supcon_loss_parts

HEADS = ("classifier", "projection")


class LossInputs(NamedTuple):
    """What a loss is computed from: M rows, V views of N images; with a queue, the N queries alone."""

    # (M, D) latents of a projection head, or (M, C) logits of a classifier
    outputs: Tensor
    # (M, T, C) distributions: the label and, with a teacher, what it says; or (M,) class numbers
    targets: Tensor
    # (M,) which image a row shows
    images: Tensor
    # (K, D) keys of batch and queue; None: the batch is its own contrast
    contrast_latents: Tensor | None
    # (K, T, C) or (K,)
    contrast_targets: Tensor | None


def weighted(targets: Tensor, target_weights: list[float]) -> list[tuple[float, Tensor]]:
    """Return pairs of a weight and labels, as the losses take them."""
    targets = [targets] if targets.ndim == 1 else targets.unbind(1)
    return list(zip(target_weights, targets, strict=True))


def cross_entropy(inputs: LossInputs, target_weights: list[float], **options) -> LossParts:
    """Compare logits with the label distributions: an ordinary classifier."""
    return distilled_cross_entropy(inputs.outputs, weighted(inputs.targets, target_weights))


def instance_loss(inputs: LossInputs, target_weights: list[float], **options) -> LossParts:
    """Compare latents where every image is a class of its own: SimCLR."""
    return gen_supcon_loss_parts(inputs.outputs, inputs.images, **options)


def label_loss(inputs: LossInputs, target_weights: list[float], **options) -> LossParts:
    """Compare similarities of latents with those of label distributions: SupCon and GenSCL."""
    contrasts = inputs.contrast_targets
    return gen_supcon_loss_parts(
        inputs.outputs,
        weighted(inputs.targets, target_weights),
        contrast_latents=inputs.contrast_latents,
        contrast_labels=None
        if contrasts is None
        else [y for _, y in weighted(contrasts, target_weights)],
        **options,
    )


def largest_label_loss(inputs: LossInputs, target_weights: list[float], **options) -> LossParts:
    """Compare as SupCon does, of each label distribution the largest class alone: what soft labels add."""

    def largest(targets: Tensor) -> Tensor:
        return targets if targets.ndim == 1 else targets[:, 0].argmax(dim=1)

    contrasts = inputs.contrast_targets
    return gen_supcon_loss_parts(
        inputs.outputs,
        largest(inputs.targets),
        contrast_latents=inputs.contrast_latents,
        contrast_labels=None if contrasts is None else largest(contrasts),
        **options,
    )


def loss_of_labels(function: Callable[[Tensor, Tensor, float], Tensor]) -> Callable[..., LossParts]:
    """Make a method's loss of ``function(latents, labels, temperature)``, which returns a scalar.

    It gets (M, D) latents (of a classifier its (M, C) logits) in float32 and (M, C) label distributions.
    Beside a teacher it is called for either's labels, and the terms are added with their weights. As its
    floor is not known, the log has a label entropy of 0. Differs: of several processes each has its own rows.

    Raises:
        ValueError: when called, for a method with a queue: the function knows no contrasts but the batch.
    """

    def loss(
        inputs: LossInputs, target_weights: list[float], *, temperature: float, **options
    ) -> LossParts:
        if inputs.contrast_latents is not None:
            raise ValueError(
                "loss: a function of latents and labels knows no queue; take another method"
            )
        pairs = weighted(inputs.targets, target_weights)
        with torch.autocast(inputs.outputs.device.type, enabled=False):
            total = sum(
                weight * function(inputs.outputs, y, temperature) for weight, y in pairs if weight
            )
        return LossParts(
            total,
            torch.zeros_like(total),
            total.detach(),
            skipped=torch.zeros_like(total),
            chance=torch.full_like(total, math.nan),
        )

    return loss


@dataclass(frozen=True)
class Method:
    """A row of the table.

    Raises:
        ValueError: the head is unknown, or a queue, which keeps latents, is asked for beside a classifier.
    """

    title: str
    loss: Callable[..., LossParts]
    """Called with ``LossInputs``, the weights of the T targets and the options of ``gen_supcon_loss``."""
    head: str  # "projection" (latents) or "classifier" (logits of C classes)
    family: str  # rows of one family have one color in plots
    mixes: bool = False
    distils: bool = False
    # its teacher is the row "expert", which knows the labels of all training images
    expert: bool = False
    queues: bool = False
    # a queue's keys come from a momentum encoder; False: from the encoder itself
    momentum_keys: bool = True
    class_numbers: bool = False
    """Its loss takes (M,) class numbers too, which targets then are if nothing is mixed or taught."""

    @property
    def classifies(self) -> bool:
        """Tell whether the head gives logits of classes, not latents."""
        return self.head == "classifier"

    def __post_init__(self):
        require_choice("head", self.head, HEADS)
        if self.queues and self.classifies:
            raise ValueError(
                f"queues: a queue keeps latents, {self.title!r} has a classifier's head"
            )

    def learns_from_numbers(self, distributions: Tensor | None) -> bool:
        """Tell whether class numbers stay numbers, given the data's label distributions, if it has any."""
        return self.class_numbers and distributions is None and not (self.mixes or self.distils)


def _classifier(title: str, **ingredients: bool) -> Method:
    return Method(
        title, cross_entropy, "classifier", "cross_entropy", class_numbers=True, **ingredients
    )


def _by_labels(title: str, **ingredients: bool) -> Method:
    return Method(title, label_loss, "projection", "label", class_numbers=True, **ingredients)


METHODS = {
    "teacher": _classifier("Teacher: CE + MixUp-CutMix", mixes=True),
    "expert": _classifier("Expert: CE + MixUp-CutMix on all labels", mixes=True),
    "ce": _classifier("CE"),
    "ce_mix": _classifier("CE + MixUp-CutMix", mixes=True),
    "ce_mix_kd": _classifier("CE + MixUp-CutMix + KD", mixes=True, distils=True),
    "ce_mix_kd_expert": _classifier(
        "CE + MixUp-CutMix + KD of an expert", mixes=True, distils=True, expert=True
    ),
    "simclr": Method("SimCLR", instance_loss, "projection", "instance", class_numbers=True),
    "supcon": _by_labels("SupCon"),
    "supcon_mix": Method(
        "SupCon + MixUp-CutMix, larger label",
        largest_label_loss,
        "projection",
        "label",
        mixes=True,
    ),
    "genscl_kd": _by_labels("GenSCL + KD", distils=True),
    "genscl_mix": _by_labels("GenSCL + MixUp-CutMix", mixes=True),
    "genscl_mix_queue": _by_labels(
        "GenSCL + MixUp-CutMix, momentum and queue", mixes=True, queues=True
    ),
    "genscl_mix_kd": _by_labels("GenSCL + MixUp-CutMix + KD", mixes=True, distils=True),
    "genscl_mix_kd_expert": _by_labels(
        "GenSCL + MixUp-CutMix + KD of an expert", mixes=True, distils=True, expert=True
    ),
    "genscl_mix_kd_queue": _by_labels(
        "GenSCL + both, momentum and queue", mixes=True, distils=True, queues=True
    ),
    "genscl_mix_kd_queue_m0": _by_labels(
        "GenSCL + both, queue without momentum",
        mixes=True,
        distils=True,
        queues=True,
        momentum_keys=False,
    ),
}

TEACHERS = ("teacher", "expert")
"""Rows that are trained only if another one learns from them."""


def teacher_of(method: str, by_method: Collection[str] = ()) -> str:
    """Return the row that a row with KD learns from; "" for one that learns from none.

    It is the expert, or else "teacher" if a preset says what that is (in ``by_method``), else "ce_mix".

    >>> teacher_of("genscl_kd"), teacher_of("genscl_kd", {"teacher": {"arch": "resnet50"}}), teacher_of("ce")
    ('ce_mix', 'teacher', '')
    """
    if not METHODS[method].distils:
        return ""
    return "expert" if METHODS[method].expert else "teacher" if "teacher" in by_method else "ce_mix"
