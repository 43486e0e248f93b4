"""The teacher of a run: a classifier that an earlier run left behind."""

from pathlib import Path

from genscl_lite.config import METHODS, TrainConfig
from genscl_lite.data import Dataset
from genscl_lite.distillation import Teacher
from genscl_lite.runs import new_model
from genscl_lite.weights import load_weights, read_about


def load_teacher(config: TrainConfig, dataset: Dataset) -> Teacher | None:
    """Load the classifier that ``config.teacher`` names; None for methods without KD.

    With few labels it must be the run of the same seed, as another one has seen labels that this run must not know. Where
    all labels are known, the run with the lowest seed serves all.

    Raises:
        ValueError: nothing is named, its run is missing or unfinished, it is no classifier, or of another data set.
    """
    if not METHODS[config.method].distils:
        return None
    if not config.teacher:
        raise ValueError(f"teacher: method {config.method} learns from a teacher; give the folder of a finished ce_mix run")
    path = teacher_path(config)
    if not path.is_file():
        raise ValueError(f"teacher: {path.parent} holds no finished run; train method ce_mix with seed {config.seed} there first")
    theirs = TrainConfig(**read_about(path)["config"])
    if METHODS[theirs.method].objective != "cross_entropy":
        raise ValueError(f"teacher: {path.parent} holds {theirs.method}, which is no classifier; use teacher, ce or ce_mix")
    for name in ("dataset", "labels_per_class"):
        if getattr(theirs, name) != getattr(config, name):
            raise ValueError(f"teacher: {path.parent} was trained with {name} {getattr(theirs, name)!r}, "
                             f"this run has {getattr(config, name)!r}")
    if theirs.arch == "custom":
        raise ValueError(f"teacher: {path.parent} holds an encoder of its own; build it and give it as pretrain(teacher=...)")
    model = new_model(theirs, dataset)
    load_weights(path, model)
    return Teacher(model, config.teacher_temperature)


def teacher_path(config: TrainConfig) -> Path:
    """Return the file of weights that ``config.teacher`` means, which need not exist."""
    given = Path(config.teacher)
    if given.suffix == ".safetensors":
        return given
    seed = config.seed
    if not config.labels_per_class:
        seeds = [int(path.parent.name[4:]) for path in given.glob("seed*/model.safetensors")]
        seed = min(seeds, default=seed)
    return given / f"seed{seed}" / "model.safetensors"
