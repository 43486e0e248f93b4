"""Optimizers by name, of torch and timm, with what differs between groups of parameters."""

import torch
from torch import nn

from genscl_lite.train.methods import METHODS

OPTIMIZERS = ("sgd", "nesterov", "adamw", "muon")
"""SGD with momentum, the same with Nesterov's, AdamW (arXiv 1711.05101), Muon (Jordan 2024)."""

FALLBACK_SCALE = 0.02
"""Muon's learning rate times this is that of NAdamW, which moves what is no matrix inside the network."""


def build_optimizer(config, model: nn.Module) -> torch.optim.Optimizer:
    """Build the optimizer that the configuration names, for the parameters that learn.

    Muon orthogonalizes the update of every matrix; convolutions count as matrices, one row a filter.
    Biases, norms and a classifier's last layer are moved by NAdamW, as is the way with Muon.

    Each group has an ``lr_scale``: the learning rate of a step is the schedule's times this.
    """
    groups = parameter_groups(config, model)
    if config.optimizer in ("sgd", "nesterov"):
        return torch.optim.SGD(
            groups, lr=config.learning_rate, momentum=config.sgd_momentum,
            nesterov=config.optimizer == "nesterov", fused=True,
        )  # fmt: skip
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)
    from timm.optim import Muon  # slow to import, so only if it is asked for

    return Muon(
        groups, lr=config.learning_rate, momentum=config.sgd_momentum, nesterov=True, ns_steps=3,
        ns_coefficients="original", adjust_lr_fn=None, fallback_lr_scale=FALLBACK_SCALE,
    )  # fmt: skip


def parameter_groups(config, model: nn.Module) -> list[dict]:
    """Group the parameters that learn by weight decay, learning rate, and whether Muon may move them."""
    last_layers = {"joint.weight"} | (
        {"head.weight"} if METHODS[config.method].classifies else set()
    )
    groups: dict[tuple, dict] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        decay = config.weight_decay if config.decay_1d or parameter.ndim > 1 else 0.0
        scale = config.encoder_lr_scale if name.startswith("encoder.") else 1.0
        own = {"weight_decay": decay, "lr_scale": scale, "use_fallback": name in last_layers}
        groups.setdefault(tuple(own.values()), {"params": [], **own})["params"].append(parameter)
    return list(groups.values())
