"""Generalized Supervised Contrastive Learning (arXiv 2206.00384): the loss, explained in notebooks and
measured.

Names are loaded when they are used, so that ``genscl check`` can report a torch that does not work.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from genscl_lite.distillation import Teacher
    from genscl_lite.losses import GenSupConLoss, gen_supcon_loss, label_similarity
    from genscl_lite.mixing import cutmix, mixup, mixup_or_cutmix
    from genscl_lite.momentum import LabelledQueue, MomentumEncoder

__all__ = [
    "gen_supcon_loss", "GenSupConLoss", "label_similarity",
    "mixup", "cutmix", "mixup_or_cutmix",
    "Teacher",
    "MomentumEncoder", "LabelledQueue",
]  # in reading order
_HOMES = dict.fromkeys(__all__[:3], "losses") | dict.fromkeys(__all__[3:6], "mixing")
_HOMES |= {"Teacher": "distillation"} | dict.fromkeys(__all__[7:], "momentum")


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


_MOVED = {
    "checks": "_checks", "loss_checks": "_checks", "distributed": "gather", "similarities": "streaming",
    "partition": "streaming", "data": "datasets", "distributions": "datasets.folder",
    "folderscan": "datasets.folder", "imagefolder": "datasets.folder", "imagefiles": "datasets.images",
    "decoding": "datasets.images",
    "config": "train.config (METHODS: train.methods)", "augment": "train.augment",
    "views": "train.batches", "models": "train.networks", "zoo": "train.networks",
    "training": "train.loop (the command: genscl train)", "evaluation": "train.evaluate",
    "parallel": "train.processes", "teachers": "train.teachers", "weights": "train.weights",
    "runfolder": "datasets.files and train.run_folder", "rows": "runs.seeds (the command: genscl train)",
    "presets": "runs.plan", "results": "runs.finish and runs.tables", "inputs": "runs.trained",
    "encoder": "runs.trained (the commands: genscl predict, features, export)", "progress": "lessons.live",
    "check": "tools.doctor (the command: genscl check)",
    "benchmark": "tools.benchmark (the command: genscl benchmark)",
    "benchmark_loss": "tools.benchmark.loss", "benchmark_step": "tools.benchmark.step",
    "notebook": "lessons.exercises", "plots": "lessons.plots", "interactive": "lessons.hover_map",
    "lesson_plots": "lessons.figures",
}
"""Modules of version 0.1 and where their content is now."""


class _OldNames:
    """Asked last by the import system: says where a module of version 0.1 has gone."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        package, _, module = name.partition(".")
        if package == __name__ and module in _MOVED:
            raise ModuleNotFoundError(f"{name} is now {__name__}.{_MOVED[module]}", name=name)


sys.meta_path.append(_OldNames)
