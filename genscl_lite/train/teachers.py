"""A run's teacher: a classifier of an earlier run, a pretrained one by name, or a table of probabilities."""

from pathlib import Path

import torch
from torch import Tensor, nn

from genscl_lite.datasets import Dataset
from genscl_lite.datasets.files import as_path
from genscl_lite.datasets.labels import first_few, read_distributions
from genscl_lite.distillation import Teacher
from genscl_lite.train.config import TrainConfig
from genscl_lite.train.methods import METHODS
from genscl_lite.train.networks import check_arch, source_of
from genscl_lite.train.start import build_pretrained
from genscl_lite.train.state import is_classifier, new_model
from genscl_lite.train.weights import described, load_weights, read_about


def load_teacher(config: TrainConfig, dataset: Dataset) -> Teacher | None:
    """Load the classifier that ``config.teacher`` names; None for methods without KD, and for a CSV.

    It may name the folder of a method's runs, of which one is taken: with few labels that of the same seed,
    as another one has seen labels that this run must not know; with all labels, and of experts, that of the
    lowest seed. Or a ``model.safetensors``, or ``timm/NAME``.

    Raises:
        ValueError: nothing is named, its run is missing or unfinished, it is no classifier, or its data set
            or classes are others.
    """
    if not METHODS[config.method].distils or _is_table(config):
        return None
    if not config.teacher:
        raise ValueError(
            f"teacher: method {config.method} learns from a teacher; "
            "give the folder of a finished ce_mix run"
        )
    if source_of(config.teacher)[0]:
        return Teacher(_pretrained(config.teacher, dataset), config.teacher_temperature)
    path = teacher_path(config)
    if not path.is_file():
        raise ValueError(
            f"teacher: {path.parent} holds no finished run; "
            f"train method ce_mix with seed {config.seed} there first"
        )
    about = read_about(path)
    theirs, data = described(path, about)
    if not is_classifier(theirs):
        raise ValueError(
            f"teacher: {path.parent} holds {theirs.method}, which is no classifier; "
            "use teacher, ce or ce_mix"
        )
    about_labels = {
        "labels_per_class": _labels_of_teacher(config),
        "label_noise": config.label_noise,
    }
    for name, value in {"dataset": config.dataset, **about_labels}.items():
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
    model = new_model(theirs, dataset)
    load_weights(path, model)
    if data and (data.mean, data.std) != (dataset.mean, dataset.std):
        model = nn.Sequential(Renormalize(dataset, data.mean, data.std), model)
    return Teacher(model, config.teacher_temperature)


def teacher_path(config: TrainConfig) -> Path:
    """Return the file of weights that ``config.teacher`` means, which need not exist."""
    given = as_path(config.teacher)
    if given.suffix == ".safetensors":
        return given
    seed = config.seed
    if not _labels_of_teacher(config):
        seeds = [int(path.parent.name[4:]) for path in given.glob("seed*/model.safetensors")]
        seed = min(seeds, default=seed)
    return given / f"seed{seed}" / "model.safetensors"


def _labels_of_teacher(config: TrainConfig) -> int:
    """Return how many labels a class a teacher may know: as many as the run does, an expert all (0)."""
    return 0 if METHODS[config.method].expert else config.labels_per_class


def _is_table(config: TrainConfig) -> bool:
    return config.teacher.endswith(".csv")


def read_teacher_table(config: TrainConfig, dataset: Dataset) -> Tensor | None:
    """Read the (N, C) distributions that a CSV gives for a folder's training files; None for other teachers.

    They describe whole images; when images are mixed, they are mixed like labels. ValueError if the data set
    is not a folder, or the CSV does not fit it.
    """
    if not METHODS[config.method].distils or not _is_table(config):
        return None
    if not dataset.train_files:
        raise ValueError(
            f"teacher: a CSV names files, and {dataset.name} has none; it goes with dataset folder"
        )
    files, classes = dataset.train_files, dataset.class_names
    return read_distributions(config.teacher, files, classes, others=None, name="teacher")


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
        buffers = {
            "mean": dataset.mean,
            "std": dataset.std,
            "expected_mean": mean,
            "expected_std": std,
        }
        for name, values in buffers.items():
            self.register_buffer(name, torch.tensor(values).reshape(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return (images * self.std + self.mean - self.expected_mean) / self.expected_std


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
