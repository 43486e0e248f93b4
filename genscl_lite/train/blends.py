"""What a run makes of images between two classes: three small numbers, stored with every run."""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from genscl_lite.similarity import label_similarity


def class_shares(arrays: dict[str, np.ndarray], temperature: float | None) -> Tensor:
    """Return the (B, C) shares of the classes in each blend: in its similarity to whole test images.

    Args:
        arrays: of ``embeddings.npz``; blends are made of the first B test images, the others are whole.
        temperature: of the latents; None: they are a classifier's logits, and the shares its probabilities.
    """
    blends, latents = (
        torch.from_numpy(arrays[name]).float() for name in ("mixed_latents", "latents")
    )
    if temperature is None:
        return blends.softmax(dim=1)
    classes = torch.from_numpy(arrays["labels"]).long()[len(blends) :]
    members = torch.eye(arrays["mixed_labels"].shape[1])[classes]
    similar = (normalize(blends) @ normalize(latents[len(blends) :]).T / temperature).softmax(dim=1)
    return normalize(similar @ (members / members.sum(dim=0).clamp(min=1)), p=1)


def share_of_first(shares: Tensor, labels: Tensor, first: Tensor) -> Tensor:
    """Return, of each blend of two classes, the share that the first of them has of the two together."""
    two = (labels > 0).sum(dim=1) == 2
    other = labels.scatter(1, first[:, None], 0).argmax(dim=1)
    return normalize(shares.gather(1, torch.stack([first, other], dim=1))[two], p=1)[:, 0]


def blend_similarity(arrays: dict[str, np.ndarray], temperature: float | None) -> Tensor:
    """Return the (B, B) similarities of blends, rows of sum 1; a classifier's of what it predicts."""
    z = torch.from_numpy(arrays["mixed_latents"]).float()
    if temperature is None:
        return normalize(label_similarity(z.softmax(dim=1)).fill_diagonal_(0), p=1)
    cosine = normalize(z) @ normalize(z).T
    return (cosine / temperature).fill_diagonal_(-torch.inf).softmax(dim=1)


def blend_measures(
    arrays: dict[str, np.ndarray], temperature: float | None
) -> dict[str, float | None]:
    """Say how far a run's similarities are from the labels' on blends of test images; None: not defined.

    ``blend_kl``: from label similarities to the run's, nats. ``blend_share_gap``: of the two classes of a
    blend, how far the first one's share is from its share in the label. ``blend_correlation``: of the entropy
    of the label and that of the class shares.
    """
    labels = torch.from_numpy(arrays["mixed_labels"]).float()
    if len(labels) < 3:
        return dict.fromkeys(("blend_kl", "blend_share_gap", "blend_correlation"))
    first = torch.from_numpy(arrays["labels"]).long()[: len(labels)]
    target = normalize(label_similarity(labels).fill_diagonal_(0), p=1)
    found = blend_similarity(arrays, temperature).clamp(min=1e-30)
    kl = (torch.special.xlogy(target, target) - target * found.log()).sum(dim=1).mean()
    shares = class_shares(arrays, temperature)
    gap = (
        (share_of_first(shares, labels, first) - share_of_first(labels, labels, first)).abs().mean()
    )
    entropies = torch.stack([torch.special.entr(part).sum(dim=1) for part in (labels, shares)])
    measures = {
        "blend_kl": kl,
        "blend_share_gap": gap,
        "blend_correlation": torch.corrcoef(entropies)[0, 1],
    }
    return {
        name: round(float(value), 6) if value.isfinite() else None
        for name, value in measures.items()
    }
