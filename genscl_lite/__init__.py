"""Generalized Supervised Contrastive Learning (arXiv 2206.00384), thin and readable."""

_broken = None
try:
    from genscl_lite.distillation import Teacher
    from genscl_lite.gradient_cache import gradient_cache
    from genscl_lite.losses import GenSupConLoss, gen_supcon_loss, gen_supcon_loss_parts
    from genscl_lite.mixing import CutMix, MixUp, MixUpOrCutMix, cutmix, mixup, mixup_or_cutmix
    from genscl_lite.momentum import LabelledQueue, MomentumEncoder
    from genscl_lite.similarity import (
        ClassSimilarity,
        distributions_from_counts,
        gaussian_similarity,
        label_similarity,
        superclass_similarity,
    )
except (ImportError, OSError) as error:  # no torch, or a broken one: `genscl check` says what to do
    _broken = f"genscl_lite needs PyTorch, which cannot be imported ({error}): pip install torch"

__all__ = [
    "gen_supcon_loss",
    "gen_supcon_loss_parts",
    "GenSupConLoss",
    "label_similarity",
    "ClassSimilarity",
    "superclass_similarity",
    "gaussian_similarity",
    "distributions_from_counts",
    "gradient_cache",
    "mixup",
    "cutmix",
    "mixup_or_cutmix",
    "MixUp",
    "CutMix",
    "MixUpOrCutMix",
    "Teacher",
    "MomentumEncoder",
    "LabelledQueue",
]

_RENAMED = {"ClassKernel": "ClassSimilarity", "superclass_kernel": "superclass_similarity"}
"""Names of version 0.2, which work for one version more."""


def __getattr__(name: str) -> object:
    if _broken and name in __all__:
        raise ImportError(_broken)
    if name not in _RENAMED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from genscl_lite._deprecated import warn

    warn(f"genscl_lite.{name}", f"genscl_lite.{_RENAMED[name]}")
    return globals()[_RENAMED[name]]
