"""Generalized Supervised Contrastive Learning (arXiv 2206.00384), thin and readable."""

try:
    from genscl_lite.distillation import Teacher
    from genscl_lite.kernels import ClassKernel, superclass_kernel
    from genscl_lite.losses import GenSupConLoss, gen_supcon_loss, label_similarity
    from genscl_lite.mixing import CutMix, MixUp, MixUpOrCutMix, cutmix, mixup, mixup_or_cutmix
    from genscl_lite.momentum import LabelledQueue, MomentumEncoder
except (ImportError, OSError) as error:  # no torch, or a broken one: `genscl check` says what to do
    _missing = f"genscl_lite needs PyTorch, which cannot be imported ({error}): pip install torch"

    def __getattr__(name: str) -> object:
        if name in __all__:
            raise ImportError(_missing)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "gen_supcon_loss",
    "GenSupConLoss",
    "label_similarity",
    "ClassKernel",
    "superclass_kernel",
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
