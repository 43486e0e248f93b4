"""Generalized Supervised Contrastive Learning (arXiv 2206.00384), thin and readable.

The names below are loaded when they are first used, so that importing the package needs no torch.
"""

import importlib
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what follows says the same to editors
    from genscl_lite.distillation import Teacher
    from genscl_lite.kernels import ClassKernel, superclass_kernel
    from genscl_lite.losses import GenSupConLoss, gen_supcon_loss, label_similarity
    from genscl_lite.mixing import cutmix, mixup, mixup_or_cutmix
    from genscl_lite.momentum import LabelledQueue, MomentumEncoder

__all__ = [
    "gen_supcon_loss",
    "GenSupConLoss",
    "label_similarity",
    "mixup",
    "cutmix",
    "mixup_or_cutmix",
    "Teacher",
    "MomentumEncoder",
    "LabelledQueue",
    "ClassKernel",
    "superclass_kernel",
]

_MODULE_OF = {
    "gen_supcon_loss": "losses",
    "GenSupConLoss": "losses",
    "label_similarity": "losses",
    "mixup": "mixing",
    "cutmix": "mixing",
    "mixup_or_cutmix": "mixing",
    "Teacher": "distillation",
    "MomentumEncoder": "momentum",
    "LabelledQueue": "momentum",
    "ClassKernel": "kernels",
    "superclass_kernel": "kernels",
}


def __getattr__(name: str):
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


_MOVED = {
    "augment": ".train.augment",
    "check": ".tools.doctor",
    "checks": "._checks",
    "config": ".train.config and .train.methods",
    "data": ".datasets",
    "decoding": ".datasets.images",
    "distributed": ".gather",
    "distributions": ".datasets.distributions",
    "encoder": ".runs.trained",
    "evaluation": ".train.evaluate",
    "folderscan": ".datasets.folder",
    "imagefiles": ".datasets.images",
    "imagefolder": ".datasets.folder",
    "inputs": ".runs.trained",
    "interactive": "genscl_lessons.hover_map",
    "lesson_plots": "genscl_lessons.figures",
    "loss_checks": "._checks",
    "models": ".train.networks",
    "notebook": "genscl_lessons.exercises",
    "parallel": ".train.processes",
    "partition": ".streaming",
    "plots": "genscl_lessons.plots",
    "presets": ".runs.plan and .runs.request",
    "progress": "genscl_lessons.live and .runs.job",
    "results": ".runs.finish, .runs.tables and .runs.paths",
    "zoo": ".train.networks",
    "runfolder": ".datasets.files and .train.run_folder",
    "similarities": ".streaming",
    "teachers": ".train.teachers",
    "training": ".train.loop, the command `genscl train`",
    "views": ".train.batches",
    "weights": ".train.weights",
    "rows": ".runs.job, the command `genscl train`",
}
"""Where the modules of the flat package of version 0.1 have gone; a dot stands for genscl_lite."""


class _OldNames:
    """The last of Python's finders: it says where a module of the old, flat package has gone."""

    @staticmethod
    def find_spec(fullname: str, path=None, target=None) -> None:
        package, _, module = fullname.partition(".")
        if package == __name__ and module in _MOVED:
            place = f" {_MOVED[module]}".replace(" .", f" {__name__}.")
            raise ModuleNotFoundError(f"{fullname} is now{place}")


sys.meta_path.append(_OldNames)
