"""The loss in the place of pytorch-metric-learning's ``SupConLoss``: for its miners, memories and trainers.

Importing this file imports pytorch-metric-learning, which the package does not require.
"""

from typing import cast

import torch
from pytorch_metric_learning import losses
from pytorch_metric_learning.distances import CosineSimilarity
from pytorch_metric_learning.utils.loss_and_miner_utils import convert_to_pairs
from torch import Tensor

from genscl_lite import gen_supcon_loss, label_similarity
from genscl_lite.similarity import ClassSimilarity, as_similarity

LossDict = dict[str, dict[str, object]]


class SupConLoss(losses.SupConLoss):
    """Compute the generalized loss as pytorch-metric-learning's own ``SupConLoss`` is called.

    L_i = - sum_{j in A(i)} w_ij log p_ij, for each element of the batch; the reducer makes a scalar of them.
    Class numbers give what pytorch-metric-learning gives. Beyond that, labels may be distributions, and
    memory does not grow with the square of the batch, unless ``indices_tuple`` says which pairs to look at.

    Differs: without any pair of different classes, pytorch-metric-learning's loss is 0; this one is not.

    Args:
        temperature: tau > 0.
        similarity: of labels, a name or a (C, C) matrix, see ``gen_supcon_loss``.
        options: ``reducer``, ``embedding_regularizer`` and others of pytorch-metric-learning's losses.

    Raises:
        ValueError: a ``distance`` other than the cosine, or an argument that ``gen_supcon_loss`` refuses.

    >>> embeddings, labels = torch.randn(6, 8), torch.randn(6, 3).softmax(dim=1)
    >>> SupConLoss(temperature=0.1)(embeddings, labels).shape
    torch.Size([])
    """

    def __init__(
        self,
        temperature: float = 0.1,
        similarity: str | Tensor | ClassSimilarity = "cosine",
        **options: object,
    ):
        super().__init__(temperature=temperature, **options)
        self.similarity = cast(str | ClassSimilarity, as_similarity(similarity, functions=False))
        if type(self.distance) is not CosineSimilarity:
            raise ValueError(
                f"distance: expected CosineSimilarity, got {type(self.distance).__name__}"
            )

    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor | None = None,
        indices_tuple: tuple[Tensor, ...] | None = None,
        ref_emb: Tensor | None = None,
        ref_labels: Tensor | None = None,
    ) -> Tensor:
        """Return the reduced loss.

        Args:
            embeddings: (M, D).
            labels: (M,) class numbers or (M, C) distributions; may be None if pairs are given.
            indices_tuple: a miner's triplets or pairs: A(i) holds those of anchor i. With class numbers the
                positive pairs attract alike; with distributions all pairs do, as their labels resemble.
            ref_emb, ref_labels: (K, D) contrasts and their labels; default: the batch itself.
        """
        self.reset_stats()
        if ref_emb is None:
            ref_emb, ref_labels = embeddings, labels
        each = self.compute_loss(embeddings, labels, indices_tuple, ref_emb, ref_labels)
        self.add_embedding_regularization_to_loss_dict(each, embeddings)
        return self.reducer(each, embeddings, labels)

    def compute_loss(
        self,
        embeddings: Tensor,
        labels: Tensor | None,
        indices_tuple: tuple[Tensor, ...] | None,
        ref_emb: Tensor,
        ref_labels: Tensor | None,
    ) -> LossDict:
        labels, ref_labels = (
            y if y is None else y.to(ref_emb.device) for y in (labels, ref_labels)
        )
        if indices_tuple is None:
            contrasts = {"contrast_latents": ref_emb, "contrast_labels": ref_labels}
            each = gen_supcon_loss(
                embeddings,
                labels,
                **({} if ref_emb is embeddings else contrasts),
                temperature=self.temperature,
                similarity=self.similarity,
                reduction="none",
            )
        else:
            with torch.autocast(embeddings.device.type, enabled=False):
                each = self._of_pairs(embeddings, labels, indices_tuple, ref_emb, ref_labels)
        numbers = torch.arange(len(embeddings), device=embeddings.device)
        return {"loss": {"losses": each, "indices": numbers, "reduction_type": "element"}}

    def _of_pairs(
        self,
        embeddings: Tensor,
        labels: Tensor | None,
        indices_tuple: tuple[Tensor, ...],
        ref_emb: Tensor,
        ref_labels: Tensor | None,
    ) -> Tensor:
        """Return the (M,) losses if A(i) is what ``indices_tuple`` lists."""
        anchors, positives, others, negatives = convert_to_pairs(indices_tuple, labels, ref_labels)
        scores = self.distance(embeddings.float(), ref_emb.float()) / self.temperature  # (M, K)
        listed = torch.zeros_like(scores, dtype=torch.bool)
        listed[anchors, positives] = True
        if labels is None or (labels.ndim == 1 and isinstance(self.similarity, str)):
            similar = listed.to(scores)
            listed[others, negatives] = True
        else:
            listed[others, negatives] = True
            similar = label_similarity(labels, ref_labels, self.similarity).to(scores) * listed
        log_p = scores.masked_fill(~listed, torch.finfo(scores.dtype).min).log_softmax(dim=1)
        tiny = torch.finfo(scores.dtype).tiny
        return -(similar * log_p).sum(dim=1) / similar.sum(dim=1).clamp(min=tiny)
