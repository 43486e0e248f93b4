"""The loss of a step: the method's own, against the batch or against keys and queue, whole or in pieces."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from genscl_lite.datasets import Dataset
from genscl_lite.distillation import Teacher, distilled_cross_entropy
from genscl_lite.gradient_cache import gradient_cache
from genscl_lite.losses import LossParts
from genscl_lite.train import processes
from genscl_lite.train.batches import Views
from genscl_lite.train.config import TrainConfig
from genscl_lite.train.methods import METHODS, LossInputs, loss_of_labels, weighted
from genscl_lite.train.precision import autocast
from genscl_lite.train.state import Run, compiled


@dataclass(frozen=True)
class Pieces:
    """What a step calls, each compiled if the configuration asks for it."""

    views: Callable
    model: Callable
    loss: Callable
    keys: Callable | None
    teacher: Teacher | None

    @classmethod
    def of(
        cls,
        run: Run,
        dataset: Dataset,
        teacher: Teacher | Tensor | None = None,
        loss: Callable | None = None,
    ) -> "Pieces":
        """Take a teacher to ask, or the (all, C) distributions that one gave beforehand.

        A ``loss`` of the caller's own takes the place of the method's.
        """
        table = teacher if isinstance(teacher, Tensor) else None
        if isinstance(teacher, Teacher):
            network = compiled(teacher.classifier, run.compiles)
            teacher = Teacher(network, teacher.temperature, validate=False)
        return cls(
            views=compiled(Views.of(run.config, dataset, table, bool(loss)), run.compiles),
            model=compiled(processes.parallel(run.model, run.device), run.compiles),
            loss=partial(batch_loss, loss=loss_of_labels(loss))
            if loss
            else compiled(batch_loss, run.compiles and processes.world_size() == 1),
            keys=run.key_encoder and compiled(run.key_encoder, run.compiles),
            teacher=teacher if table is None else None,
        )


def batch_loss(
    config: TrainConfig,
    outputs: Tensor,
    targets: Tensor,
    index: Tensor,
    *contrasts: tuple[Tensor, Tensor],
    loss: Callable | None = None,
) -> LossParts:
    """Compute the method's loss of (M, D) latents, (M, D + C) latents and joint logits, or (M, C) logits.

    ``targets`` are (M, T, C), or (M,) class numbers; ``index`` (N,) says which image a row shows, view by
    view. ``contrasts`` are pairs of latents (K, D) and targets (K, T, C) or (K,); if there are none, the
    batch is its own contrast.
    """
    method = METHODS[config.method]
    weights = [config.label_weight, config.kd_weight] if method.distils else [1.0]
    latents, logits = outputs[:, : config.latent_dim], outputs[:, config.latent_dim :]
    images = index.repeat(len(outputs) // len(index))  # (M,)
    contrast = map(torch.cat, zip(*contrasts, strict=True)) if contrasts else (None, None)
    parts = (loss or method.loss)(
        LossInputs(outputs if method.classifies else latents, targets, images, *contrast),
        weights,
        temperature=config.temperature,
        similarity=config.similarity,
        weighting=config.weighting,
        base_temperature=config.base_temperature or None,
        validate=False,
        gather_distributed=processes.world_size() > 1,  # keys are gathered already
    )
    if config.ce_weight and not method.classifies:
        joint = distilled_cross_entropy(logits, weighted(targets, weights))
        parts = LossParts(*(a + config.ce_weight * b for a, b in zip(parts, joint, strict=True)))
    return parts


def queue_loss(
    run: Run, pieces: Pieces, views: Tensor, targets: Tensor, index: Tensor
) -> tuple[LossParts, Tensor, Tensor]:
    """Contrast queries with the keys of the other views and with the queue, view by view.

    Queries are the first view of each image or, if the configuration says so, all V in turn.

    Returns:
        The mean of the views' losses, and (K, D) keys with their (K, T, C) targets for the queue.
    """
    config, n = run.config, len(index)
    turns = range(config.views if config.queries == "all" else 1)
    latents = pieces.model(views[: len(turns) * n]).float().split(n)
    seen = 0 if len(turns) > 1 else 1  # the first view that becomes a key
    keys = pieces.keys(views[seen * n :]).float()
    keys = processes.gather_views(keys, config.views - seen)
    key_targets = processes.gather_views(targets[seen * n :], config.views - seen)
    whole, queued, parts = len(keys) // (config.views - seen), run.queue.contents(), []
    growing = run.queue.filled < config.queue_size  # each size would be compiled for itself
    for view in turns:
        others = torch.arange(len(keys), device=keys.device) // whole + seen != view
        contrasts = (keys[others], key_targets[others]), queued
        own = targets[view * n : (view + 1) * n]
        with torch.compiler.set_stance("force_eager") if growing else nullcontext():
            parts.append(pieces.loss(config, latents[view], own, index, *contrasts))
    mean = LossParts(*(torch.stack(part).float().mean(dim=0) for part in zip(*parts, strict=True)))
    return mean, keys, key_targets


def backward_in_pieces(
    run: Run, pieces: Pieces, views: Tensor, targets: Tensor, index: Tensor
) -> LossParts:
    """Compute loss and gradients of the whole batch with the memory of ``micro_batch`` views."""
    parts = []

    def encode(some: Tensor) -> Tensor:
        with autocast(run.dtype, run.device):
            return pieces.model(some).float()

    def loss(outputs: Tensor) -> Tensor:
        with autocast(run.dtype, run.device):
            parts.append(pieces.loss(run.config, outputs, targets, index))
        return parts[0].loss

    encode.no_sync = getattr(pieces.model, "no_sync", nullcontext)
    gradient_cache(encode, views, loss, run.config.micro_batch)
    return parts[0]


def teacher_labels(teacher: Teacher, views: Tensor, classes: int) -> Tensor:
    """Return the (M, C) distributions that a teacher gives of views; ValueError if it knows other classes."""
    labels = teacher(views)
    if labels.shape[1] != classes:
        raise ValueError(
            f"teacher: expected {classes} classes as in the data, got {labels.shape[1]}"
        )
    return labels
