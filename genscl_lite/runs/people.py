"""Does a run see as people do? Compared on images held out of training whose distributions are known."""

from collections.abc import Callable

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from genscl_lite.datasets import Dataset
from genscl_lite.losses import unit_rows
from genscl_lite.train.evaluate import Probe, extract
from genscl_lite.train.state import Run


def compare_with_people(run: Run, probe: Probe | None, dataset: Dataset) -> dict:
    """Return ``similarity_correlations`` of features and of the head's outputs, and a cross-entropy in nats.

    The head gives latents or, in a classifier, logits. The cross-entropy is that of the probe's, or of the
    classifier's, probabilities with people's distributions; these predict themselves with ``entropy``.
    """
    people = dataset.held_out_distributions
    features = extract(run.result.encoder, dataset, dataset.held_out_images, dtype=run.dtype)
    outputs = extract(run.result, dataset, dataset.held_out_images, dtype=run.dtype)
    with torch.no_grad():
        said = (probe.classifier(features) if probe else outputs).log_softmax(dim=1)
    return {
        "images": len(people),
        "features": similarity_correlations(features, people),
        "outputs": similarity_correlations(outputs, people),
        "cross_entropy": float(-(people * said).sum(dim=1).mean()),
        "entropy": float(torch.special.entr(people).sum(dim=1).mean()),
    }


def similarity_correlations(vectors: Tensor, distributions: Tensor) -> dict[str, float | None]:
    """Correlate cosines of N vectors with those of their label distributions, over all pairs of two rows.

    Pairs of one class are alike in both, so ``all`` says mostly that classes are told apart. ``between`` is
    of pairs whose largest classes differ: which dog is a little like which cat, as only soft labels teach.

    Args:
        vectors: (N, D).
        distributions: (N, C).

    Returns:
        Spearman's correlation of ``all`` pairs and of those ``between`` classes, of the latter also Pearson's
        (``between_pearson``); None where there are none, or all are alike.

    >>> soft = torch.tensor([[1.0, 0.0], [0.8, 0.2], [0.2, 0.8], [0.0, 1.0]])
    >>> similarity_correlations(soft, soft)
    {'all': 1.0, 'between': 1.0, 'between_pearson': 1.0}
    """
    one, other = np.triu_indices(len(vectors), k=1)
    latent, label = (_cosines(rows)[one, other] for rows in (vectors, distributions))
    largest = distributions.argmax(dim=1).cpu().numpy()
    between = largest[one] != largest[other]
    return {
        "all": _correlation(stats.spearmanr, latent, label),
        "between": _correlation(stats.spearmanr, latent[between], label[between]),
        "between_pearson": _correlation(stats.pearsonr, latent[between], label[between]),
    }


def _cosines(rows: Tensor) -> np.ndarray:
    rows = unit_rows(rows, torch.float64).cpu().numpy()
    return (rows @ rows.T).round(9)  # so that equal ones tie


def _correlation(function: Callable, latent: np.ndarray, label: np.ndarray) -> float | None:
    if len(label) < 2 or not np.ptp(latent) or not np.ptp(label):
        return None
    return round(float(function(latent, label).statistic), 4)
