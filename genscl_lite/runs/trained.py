"""Use a finished run: features, latents, classes of new images, and the encoder alone for other programs.

    genscl predict RUN FILE...                     prints file, class and probability
    genscl features RUN FILE... --out OUT.npz      writes features (N, F) and files (N,)
    genscl export RUN OUT.safetensors              writes the encoder, and OUT.json beside it

An exported ``torchvision/resnet18`` needs nothing of this kit:

    network = torchvision.models.resnet18()
    network.fc = torch.nn.Identity()
    network.load_state_dict(safetensors.torch.load_file("OUT.safetensors"))
"""

import argparse
import dataclasses
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from genscl_lite.datasets import Dataset, files
from genscl_lite.datasets.files import RunFolderError
from genscl_lite.runs.inputs import Images, in_parts
from genscl_lite.train.config import TrainConfig
from genscl_lite.train.evaluate import extract
from genscl_lite.train.networks import Model
from genscl_lite.train.state import is_classifier, kept_parts, new_model
from genscl_lite.train.weights import load_weights, read_about, save_state


class Encoder:
    """A trained encoder with its head and its classifier, in evaluation mode and float32; made by ``Encoder.load``.

    ``images`` are, in all methods, a uint8 tensor (N, channels, H, W), or floating point in [0, 1], of ``image_shape``;
    ``ImageFiles``; or a list of paths or PIL images, which are resized and cropped (``genscl_lite.runs.inputs``). ``rows`` are
    images at a time; None: as many as are good for their size. Other images: ValueError.

    >>> from tempfile import TemporaryDirectory
    >>> from genscl_lite.datasets import load_dataset
    >>> from genscl_lite.runs.finish import finish_run
    >>> from genscl_lite.train.loop import pretrain
    >>> digits = load_dataset("digits", labels_per_class=3)
    >>> config = TrainConfig("supcon", labels_per_class=3, epochs=1, warmup_epochs=0, batch_size=30, probe_epochs=1)
    >>> with TemporaryDirectory() as folder:
    ...     _ = finish_run(pretrain(config, digits, folder), digits, folder)
    ...     encoder = Encoder.load(folder)
    >>> encoder.features(digits.test_images).shape, encoder.latents(digits.test_images).shape
    (torch.Size([797, 64]), torch.Size([797, 64]))
    >>> names = encoder.predict(digits.test_images)
    >>> len(names), set(names) <= set(digits.class_names)
    (797, True)
    """

    model: Model
    """Encoder and head."""
    probe: nn.Linear | None
    """The linear classifier of the features; None where the head is the classifier."""
    config: TrainConfig
    summary: dict
    """What ``summary.json`` holds."""

    def __init__(self, model: Model, probe: nn.Linear | None, config: TrainConfig, summary: dict, dataset: Dataset):
        self.model, self.probe, self.config, self.summary, self._dataset = model, probe, config, summary, dataset

    @classmethod
    def load(cls, path: str | Path, device: torch.device | str | None = None, module: nn.Module | None = None) -> "Encoder":
        """Load what a finished run left behind.

        Args:
            path: the run's own folder (METHOD/seedN), the folder METHOD of a single seed, or a file model.safetensors.
            device: default: the GPU if there is one.
            module: for arch "custom", an encoder of the same structure as the trained one; the weights are read into it.

        Raises:
            ValueError: there is no run, it is not finished, there are several, or ``module`` is missing or not needed.
            RunFolderError: the file is damaged, of another model, or was written by an earlier version.
        """
        path = weights_path(path)
        config, summary, dataset = _read_header(path)
        if config.arch == "custom" and module is None:
            raise ValueError(f"module: {path} holds an encoder of its own (arch custom); build it and give it as module=")
        if config.arch != "custom" and module is not None:
            raise ValueError(f"module: {path} holds a {config.arch}, which is built by this name; expected None, "
                             f"got {type(module).__name__}")
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.filterwarnings("ignore", message="encoder: reduces")  # said when it was trained
            model = new_model(config, dataset, module)
            features = next(layer for layer in model.head.modules() if isinstance(layer, nn.Linear)).in_features
            probe = None if is_classifier(config) else nn.Linear(features, dataset.num_classes)
        parts = kept_parts(model, probe)
        load_weights(path, parts)
        parts.to(device or ("cuda" if torch.cuda.is_available() else "cpu"), memory_format=torch.channels_last)
        return cls(model.eval(), probe, config, summary, dataset)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The C classes, in the order of the probabilities."""
        return self._dataset.class_names

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of the images it was trained on."""
        return self._dataset.image_shape

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def features(self, images: Images, rows: int | None = None) -> Tensor:
        """Return the encoder's features, (N, F) float32 on its device: what the probe saw."""
        return self._pass(self.model.encoder, images, rows)

    def latents(self, images: Images, rows: int | None = None) -> Tensor:
        """Return the head's latents, (N, D) float32, not brought to unit length; ValueError for a classifier, which has none."""
        if self.probe is None:
            raise ValueError(f"latents: method {self.config.method} is a classifier, whose head gives probabilities")
        return self._pass(self.model, images, rows)

    def probabilities(self, images: Images, rows: int | None = None) -> Tensor:
        """Return the probability of each class, (N, C), rows summing to 1."""
        return self._logits(images, rows).softmax(dim=1)

    def predict(self, images: Images, rows: int | None = None) -> list[str]:
        """Return the name of the most probable class of each image."""
        return [self.class_names[i] for i in self._logits(images, rows).argmax(dim=1).tolist()]

    @torch.no_grad()
    def _logits(self, images: Images, rows: int | None) -> Tensor:
        if self.probe is None:
            return self._pass(self.model, images, rows)
        return self.probe(self.features(images, rows))

    def _pass(self, module: nn.Module, images: Images, rows: int | None) -> Tensor:
        parts = in_parts(images, self.image_shape, rows)
        return torch.cat([extract(module, self._dataset, part.to(self.device)) for part in parts])

    def export(self, path: str | Path) -> None:
        """Write the encoder alone for other programs, and beside it, as ``.json``, what belongs to it, for people.

        Tensors have the names of the module: of ``torchvision/NAME`` and ``timm/NAME`` those of that network without its
        classifier. The header holds arch, mean, std, image_shape, class_names, config and summary, each as JSON.

        Raises:
            ValueError: ``path`` does not end in .safetensors, or would overwrite what is no export.
        """
        path = Path(path)
        _check_free(path)
        names = ("mean", "std", "image_shape", "class_names")
        about = {"arch": self.config.arch, **{name: getattr(self._dataset, name) for name in names},
                 "config": dataclasses.asdict(self.config), "summary": self.summary}  # fmt: skip
        save_state(path, self.model.encoder, **about)
        files.write_json(path.with_suffix(".json"), about)


def weights_path(path: str | Path) -> Path:
    """Return the file of weights that ``path`` means: a file, a run's folder, or a folder METHOD with one seed.

    >>> weights_path("no/such/run")
    Traceback (most recent call last):
    ValueError: path: no/such/run does not exist; expected a run's folder or a model.safetensors
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f"path: {path} does not exist; expected a run's folder or a model.safetensors")
    if path.is_file():
        return path
    seeds = sorted(path.glob("seed*/"), key=lambda folder: (len(folder.name), folder.name))
    if len(seeds) > 1:
        raise ValueError(f"path: {path} holds {len(seeds)} seeds; expected one of {', '.join(str(seed) for seed in seeds)}")
    folder = seeds[0] if seeds else path
    if (folder / "model.safetensors").is_file():
        return folder / "model.safetensors"
    if (folder / "config.json").exists():
        raise ValueError(f"path: the run in {folder} is not finished; the command that began it goes on from there")
    raise ValueError(f"path: {folder} holds no finished run; expected a folder METHOD/seedN with model.safetensors")


def _read_header(path: Path) -> tuple[TrainConfig, dict, Dataset]:
    """Return configuration, summary and a ``Dataset`` without images, which knows classes, shape and how to normalize."""
    about = read_about(path)
    if "arch" in about:
        raise RunFolderError(f"{path}: an exported encoder without its head; give the run's model.safetensors")
    for name in ("config", "summary", "data"):
        if name not in about:
            raise RunFolderError(f"{path}: holds no {name}, an earlier version wrote it; delete the summary.json of this run "
                                 "and finish it again")
    try:
        config, data = TrainConfig(**about["config"]), about["data"]
    except TypeError as error:
        raise RunFolderError(f"{path}: its configuration is of another version ({error})") from None
    images, labels = torch.empty(0, *data["image_shape"], dtype=torch.uint8), torch.empty(0, dtype=torch.long)
    lists = (tuple(data[name]) for name in ("class_names", "mean", "std"))
    return config, about["summary"], Dataset(data["name"], images, labels, images, labels, *lists)


def _check_free(path: Path) -> None:
    """Raise ValueError where an export to ``path`` would overwrite anything but an earlier export."""
    if path.suffix != ".safetensors":
        raise ValueError(f"path: expected a file name ending in .safetensors, got {path}")
    beside = path.with_suffix(".json")
    if path.exists() and "arch" not in read_about(path):
        raise ValueError(f"path: {path} exists and is no exported encoder; choose another name")
    if beside.exists() and not path.exists():
        raise ValueError(f"path: {beside} exists and belongs to no exported encoder; choose another name")


# The command line


def predict(arguments: list[str] | None = None) -> int:
    """Be ``genscl predict``: print file, class and probability."""
    parser = _parser("predict", "Print file, class and probability of each image.", files=True)
    return _use(_predict, parser.parse_args(arguments))


def features(arguments: list[str] | None = None) -> int:
    """Be ``genscl features``: write features (N, F) and files (N,)."""
    parser = _parser("features", "Write features (N, F) and files (N,).", files=True)
    parser.add_argument("--out", required=True, type=Path, help="file .npz")
    return _use(_features, parser.parse_args(arguments))


def export(arguments: list[str] | None = None) -> int:
    """Be ``genscl export``: write the encoder alone, and a .json beside it."""
    parser = _parser("export", "Write the encoder alone, and a .json beside it.")
    parser.add_argument("out", type=Path, metavar="OUT.safetensors")
    return _use(_export, parser.parse_args(arguments))


def _parser(command: str, description: str, files: bool = False) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"genscl {command}", description=description)
    parser.add_argument("run", help="folder of the run (METHOD/seedN), or its model.safetensors")
    if files:
        parser.add_argument("files", nargs="+", metavar="FILE", help="image")
    return parser


def _use(use: Callable[[Encoder, argparse.Namespace], None], options: argparse.Namespace) -> int:
    try:
        use(Encoder.load(options.run), options)
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def _predict(encoder: Encoder, options: argparse.Namespace) -> None:
    confidences, classes = encoder.probabilities(options.files).max(dim=1)
    for file, confidence, number in zip(options.files, confidences.tolist(), classes.tolist(), strict=True):
        print(f"{file}\t{encoder.class_names[number]}\t{confidence:.4f}")


def _features(encoder: Encoder, options: argparse.Namespace) -> None:
    if options.out.suffix != ".npz":
        raise ValueError(f"--out: expected a file name ending in .npz, got {options.out}")
    files.write_arrays(options.out, features=encoder.features(options.files).cpu().numpy(), files=np.array(options.files))
    print(f"written: {options.out}")


def _export(encoder: Encoder, options: argparse.Namespace) -> None:
    encoder.export(options.out)
    print(f"written: {options.out} and {options.out.with_suffix('.json')}")
