"""Any classifier as a teacher: its tempered softmax is one more label distribution."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genscl_lite._checks import require_instances, require_positive
from genscl_lite.losses import LossParts, gen_supcon_loss


class Teacher(nn.Module):
    """Turn images into label distributions: softmax(logits / temperature) of a trained classifier.

    The classifier computes in evaluation mode and gets no gradient. Its training modes and its parameters'
    ``requires_grad`` stay the caller's own: a teacher inside a larger module is not for the optimizer, and
    under DistributedDataParallel wants ``classifier.requires_grad_(False)``.

    Args:
        classifier: a module from images to (N, C) logits. It sees what the student sees, augmented,
            normalized and mixed; wrap one that expects other images.
        temperature: above 0; higher is softer.
        validate: check values too, which makes a GPU wait.

    Raises:
        ValueError: the temperature is not above 0; when called: the output is not (N, C) finite logits.

    >>> teacher = Teacher(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), temperature=2.0)
    >>> teacher(torch.rand(5, 1, 8, 8)).shape
    torch.Size([5, 10])
    """

    def __init__(self, classifier: nn.Module, temperature: float = 1.0, validate: bool = True):
        super().__init__()
        require_positive("temperature", temperature)
        require_instances(nn.Module, classifier=classifier)
        self.classifier = classifier
        self.temperature, self.validate = temperature, validate

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Return (N, C) label distributions in float32, without gradient."""
        with evaluation_mode(self.classifier):
            logits = self.classifier(images)
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        if len(shape) != 2 or shape[0] != len(images) or not shape[1]:
            raise ValueError(
                f"classifier: expected logits of shape ({len(images)}, C) "
                f"for {len(images)} images, got {shape}"
            )
        logits = logits.float() / self.temperature
        if self.validate and not torch.isfinite(logits).all():
            raise ValueError(
                "classifier: its logits hold NaN or infinity, or do when divided by temperature"
            )
        return F.softmax(logits, dim=1)


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Put all parts of a module into evaluation mode; afterwards, each is back in its own."""
    modes = [(part, part.training) for part in module.modules()]
    try:
        for part, _ in modes:
            part.training = False
        yield
    finally:
        for part, training in modes:
            part.training = training


def distilled_loss(
    latents: Tensor,
    targets: Tensor,
    target_weights: list[float],
    *,
    contrast_latents: Tensor | None = None,
    contrast_targets: Tensor | None = None,
    **options,
) -> LossParts:
    """Add up the generalized loss over several label distributions of each row: sum_t weight_t L(z, y_t).

    The paper's choice is the (mixed) label and the teacher's distribution with weights (1, alpha), alpha = 1
    in the reference code. Weights (0, 1) learn from the teacher alone.

    Args:
        latents: (M, D).
        targets: (M, T, C), T label distributions of each row.
        target_weights: T numbers >= 0; a target of weight 0 is not computed.
        contrast_latents, contrast_targets: (K, D) and (K, T, C), for instance from a queue.
        options: of ``gen_supcon_loss``.

    Returns:
        ``LossParts``, each the weighted sum over targets (``skipped``: of the last one).

    Raises:
        ValueError: the number of weights is not T, a weight is negative, or all are 0.

    >>> z, y = torch.randn(6, 8), torch.softmax(torch.randn(6, 2, 3), dim=2)
    >>> distilled_loss(z, y, [1.0, 1.0]).loss.shape
    torch.Size([])
    """
    _check_weights(targets, target_weights)
    total = None
    for t, weight in enumerate(target_weights):
        if weight:
            contrast_labels = None if contrast_targets is None else contrast_targets[:, t]
            parts = gen_supcon_loss(
                latents,
                targets[:, t],
                contrast_latents=contrast_latents,
                contrast_labels=contrast_labels,
                return_parts=True,
                **options,
            )
            total = add_parts(total, weight, parts)
    return total


def distilled_cross_entropy(
    logits: Tensor, targets: Tensor, target_weights: list[float]
) -> LossParts:
    """Compute the same sum for a plain classifier: sum_t weight_t CE(y_t, softmax(logits)).

    Logits are (M, C), targets (M, T, C). Differs from Hinton et al. (arXiv 1503.02531): the student is not
    tempered, so there is no factor T^2; at temperature 1, the paper's value, both agree.

    >>> distilled_cross_entropy(torch.zeros(4, 2), torch.full((4, 1, 2), 0.5), [1.0]).loss
    tensor(0.6931)
    """
    _check_weights(targets, target_weights)
    log_p = F.log_softmax(logits.float(), dim=1)
    total = None
    for t, weight in enumerate(target_weights):
        if weight:
            loss = -(targets[:, t] * log_p).sum(dim=1).mean()
            entropy = torch.special.entr(targets[:, t]).sum(dim=1).mean()
            kl, skipped = loss.detach() - entropy, torch.zeros_like(entropy)
            total = add_parts(total, weight, LossParts(loss, entropy, kl, skipped))
    return total


def add_parts(total: LossParts | None, weight: float, parts: LossParts) -> LossParts:
    """Return ``total`` (None: nothing yet) plus ``weight`` times ``parts``."""
    loss, entropy, kl = (weight * part for part in parts[:3])
    if total is not None:
        loss, entropy, kl = total.loss + loss, total.entropy + entropy, total.kl + kl
    return LossParts(loss, entropy, kl, parts.skipped)


def _check_weights(targets: Tensor, target_weights: list[float]) -> None:
    require_instances(Tensor, targets=targets)
    if targets.ndim != 3 or targets.shape[1] != len(target_weights):
        raise ValueError(
            f"targets: expected shape (M, {len(target_weights)}, C) for {len(target_weights)} "
            f"weights, got {tuple(targets.shape)}"
        )
    if not all(0 <= weight < float("inf") for weight in target_weights) or not any(target_weights):
        raise ValueError(
            "target_weights: expected numbers >= 0, one of them above 0, "
            f"got {list(target_weights)}"
        )
