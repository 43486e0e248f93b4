"""A run's teacher: a classifier of an earlier run, a pretrained one by name, or a table of probabilities."""

from pathlib import Path

import torch
from torch import Tensor, nn

from genscl_lite.datasets import Dataset
from genscl_lite.datasets.files import as_path
from genscl_lite.datasets.labels import first_few, read_table
from genscl_lite.distillation import Teacher
from genscl_lite.train.config import TrainConfig
from genscl_lite.train.methods import METHODS
from genscl_lite.train.networks import check_arch, source_of
from genscl_lite.train.run_folder import seeds_in
from genscl_lite.train.start import build_pretrained
from genscl_lite.train.state import new_model
from genscl_lite.train.weights import described, load_weights, read_about, warn_if_seen


def check_teacher(name: str) -> None:
    """Raise ValueError unless the name is that of a network of timm, or of a file or folder that is there."""
    if not source_of(name)[0] and not as_path(name).exists():
        raise ValueError(f"teacher: there is no file or folder {name!r}")


def load_teacher(config: TrainConfig, dataset: Dataset) -> Teacher | Tensor | None:
    """Load what ``config.teacher`` names: a classifier, or a table of predictions; None for methods without KD.

    - ``NAME.csv``: the (N, C) distributions of a folder's training files. They describe whole images; when
      images are mixed, they are mixed like labels.
    - ``timm/NAME``: a classifier of timm with its weights.
    - ``NAME.safetensors``: a trained classifier.
    - the folder of a method's runs, of which one is taken: with few labels that of the same seed, as another
      one has seen labels that this run must not know, and where some are wrong, as another one has others; else,
      and of experts, that of the lowest.

    Raises:
        ValueError: nothing is named, its run is missing or unfinished, it is no classifier, its data set or
            classes are others, or a CSV does not fit the files.
    """
    if not METHODS[config.method].distils:
        return None
    if not config.teacher:
        raise ValueError(
            f"teacher: method {config.method} learns from a teacher; "
            "give the folder of a finished ce_mix run"
        )
    if config.teacher.endswith(".csv"):
        return _table(config.teacher, dataset)
    if source_of(config.teacher)[0]:
        return Teacher(_pretrained(config.teacher, dataset), config.teacher_temperature)
    return Teacher(_trained(config, dataset), config.teacher_temperature)


def _trained(config: TrainConfig, dataset: Dataset) -> nn.Module:
    """Load the classifier of an earlier run, for images normalized as ``dataset`` says."""
    path = teacher_path(config)
    if not path.is_file():
        raise ValueError(
            f"teacher: {path.parent} holds no finished run; "
            f"train method ce_mix with seed {config.seed} there first"
        )
    about = read_about(path)
    theirs, data = described(path, about)
    if not METHODS[theirs.method].classifies:
        raise ValueError(
            f"teacher: {path.parent} holds {theirs.method}, which is no classifier; "
            "use teacher, ce or ce_mix"
        )
    needed = {
        "dataset": config.dataset,
        "labels_per_class": _labels_of_teacher(config),
        "label_noise": config.label_noise,
    }
    if seed_decides_labels(config):  # another seed drew other ones
        needed["seed"] = config.seed
    for name, value in needed.items():
        if getattr(theirs, name) != value:
            raise ValueError(
                f"teacher: {path.parent} was trained with {name} {getattr(theirs, name)!r}, "
                f"this run needs {value!r}"
            )
    if theirs.arch == "custom":
        raise ValueError(
            f"teacher: {path.parent} holds an encoder of its own; "
            "build it and give it as pretrain(teacher=...)"
        )
    if data:
        check_classes(str(path.parent), data.class_names, dataset)
        warn_if_seen(path, about, dataset)
    model = new_model(theirs, dataset)
    load_weights(path, model)
    if data and (data.mean, data.std) != (dataset.mean, dataset.std):
        return nn.Sequential(Renormalize(dataset, data.mean, data.std), model)
    return model


def teacher_path(config: TrainConfig) -> Path:
    """Return the file of weights that ``config.teacher`` means, which need not exist."""
    given = as_path(config.teacher)
    if given.suffix == ".safetensors":
        return given
    seed = config.seed
    if not seed_decides_labels(config):
        there = seeds_in(given).items()
        seed = next((n for n, run in there if (run / "model.safetensors").exists()), seed)
    return given / f"seed{seed}" / "model.safetensors"


def seed_decides_labels(config: TrainConfig) -> bool:
    """Tell whether a seed draws which labels a teacher knows, or which of them are wrong."""
    return bool(_labels_of_teacher(config) or config.label_noise)


def _labels_of_teacher(config: TrainConfig) -> int:
    """Return how many labels a class a teacher may know: as many as the run does, an expert all (0)."""
    return 0 if METHODS[config.method].expert else config.labels_per_class


def _table(path: str, dataset: Dataset) -> Tensor:
    """Read the (N, C) distributions that a CSV gives for a folder's training files."""
    if not dataset.train_files:
        raise ValueError(
            f"teacher: a CSV names files, and {dataset.name} has none; it goes with dataset folder"
        )
    table = read_table(path, "teacher")
    return table.distributions(dataset.train_files, dataset.class_names, others=None)


def _pretrained(name: str, dataset: Dataset) -> nn.Module:
    """Download a classifier, timm/NAME, for images normalized as ``dataset`` says.

    Its classes must be those of the data set, in the same order: WordNet's, as ImageNet's folders are named.
    """
    check_arch(name, "teacher")
    import timm  # slow to import, so only if it is needed
    from timm.data import ImageNetInfo, infer_imagenet_subset

    about = timm.get_pretrained_cfg(source_of(name)[1])
    if not about:
        raise ValueError(f"teacher: timm has no weights for {name}")
    subset = infer_imagenet_subset(about.to_dict())
    if not subset:
        raise ValueError(
            f"teacher: {name} does not tell its classes; build it yourself and give it as "
            "pretrain(teacher=...)"
        )
    check_classes(name, ImageNetInfo(subset).label_names(), dataset)
    channels, _, size = dataset.image_shape
    network = build_pretrained(name, channels, size)
    return nn.Sequential(Renormalize(dataset, about.mean, about.std), network)


class Renormalize(nn.Module):
    """Take images from a data set's mean and deviation of each channel to those that a network expects."""

    def __init__(self, dataset: Dataset, mean: tuple[float, ...], std: tuple[float, ...]):
        super().__init__()
        own_mean, own_std, mean, std = map(torch.tensor, (dataset.mean, dataset.std, mean, std))
        self.register_buffer("scale", (own_std / std).reshape(-1, 1, 1))
        self.register_buffer("shift", ((own_mean - mean) / std).reshape(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return images * self.scale + self.shift


def check_classes(teacher: str, theirs: list[str] | tuple[str, ...], dataset: Dataset) -> None:
    """Raise ValueError unless a teacher's classes are the data set's, in the same order."""
    if len(theirs) != dataset.num_classes:
        raise ValueError(
            f"teacher: {teacher} knows {len(theirs)} classes, "
            f"{dataset.name} has {dataset.num_classes}"
        )
    pairs = enumerate(zip(theirs, dataset.class_names, strict=True))
    different = [f"{c}: {there} there, {here} here" for c, (there, here) in pairs if there != here]
    if different:
        raise ValueError(
            f"teacher: {teacher} has other classes, or another order: {first_few(different, 3)}"
        )
