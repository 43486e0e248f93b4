"""Any classifier as a teacher: its tempered softmax is one more label distribution."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genscl_lite._checks import require_instances, require_positive
from genscl_lite._rows import as_pairs, one_hot
from genscl_lite.losses import LossParts


class Teacher(nn.Module):
    """Turn images into label distributions: softmax(logits / temperature) of a trained classifier.

    The classifier runs in evaluation mode and gets no gradient. Its modes and its parameters'
    ``requires_grad`` are left as they are. So keep a teacher inside a larger module out of the optimizer, and
    under DistributedDataParallel call ``classifier.requires_grad_(False)``.

    Args:
        classifier: a module from images to (N, C) logits. It sees what the student sees, augmented,
            normalized and mixed; if it expects other images, wrap it.
        temperature: above 0; higher is softer.
        validate: also check values, which has to wait for a GPU.

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


def distilled_cross_entropy(
    logits: Tensor, labels: Tensor | Sequence[tuple[float, Tensor]]
) -> LossParts:
    """Compute sum_t a_t CE(y_t, softmax(logits)) = A CE(y, softmax(logits)), y = sum_t a_t y_t / A, A = sum_t a_t.

    The floor is A H(y), that of the mean label. Differs from Hinton et al. (arXiv 1503.02531): the student's
    logits are not divided by T, so there is no factor T^2; at T = 1, the paper's value, both agree.

    Args:
        logits: (M, C).
        labels: (M, C) distributions or (M,) class numbers; or a list of pairs (a_t, labels), a_t >= 0.

    Returns:
        ``LossParts`` of the mean over rows.

    Raises:
        ValueError: a weight is not a number >= 0, or all weights are 0.

    >>> parts = distilled_cross_entropy(torch.zeros(4, 2), torch.full((4, 2), 0.5))
    >>> parts.loss, parts.chance
    (tensor(0.6931), tensor(0.6931))
    """
    log_p = F.log_softmax(logits.float(), dim=1)
    mixed, total = torch.zeros_like(log_p), 0.0
    for weight, y, _ in as_pairs(labels, None):
        y = one_hot(y, log_p.shape[1]) if y.ndim == 1 else F.normalize(y, p=1, dim=1)
        mixed, total = mixed + weight * y.to(log_p), total + weight
    loss = -(mixed * log_p).sum(dim=1).mean()
    entropy = total * torch.special.entr(mixed.detach() / total).sum(dim=1).mean()
    chance = torch.full_like(entropy, total * math.log(log_p.shape[1]))
    return LossParts(loss, entropy, loss.detach() - entropy, torch.zeros_like(entropy), chance)
