"""A finished run in memory: features, latents, classes of new images; the encoder alone for other programs.

An exported ``timm/resnet18`` needs nothing of this kit:

    network = timm.create_model("resnet18", num_classes=0)
    network.load_state_dict(safetensors.torch.load_file("OUT.safetensors"))
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as F

from genscl_lite._checks import require_whole
from genscl_lite.datasets import Dataset, files
from genscl_lite.datasets.check import check_images
from genscl_lite.datasets.decode import center_crop, read_rgb
from genscl_lite.datasets.files import RunFolderError
from genscl_lite.datasets.images import ImageFiles
from genscl_lite.train.config import TrainConfig
from genscl_lite.train.device import default_device
from genscl_lite.train.evaluate import extract
from genscl_lite.train.methods import METHODS
from genscl_lite.train.networks import Model
from genscl_lite.train.state import kept_parts, new_model
from genscl_lite.train.weights import (
    described,
    load_weights,
    read_about,
    save_weights,
    weights_path,
)

Images = Tensor | ImageFiles | Sequence[str | Path | Image.Image]


@dataclass(eq=False)
class Encoder:
    """A trained encoder with its head and its classifier, in evaluation mode; made by ``Encoder.load``.

    ``images`` are, in all methods, a uint8 tensor (N, channels, H, W), or floating point in [0, 1], of
    ``image_shape``; ``ImageFiles``; or a list of paths and PIL images, of which the middle square is taken
    and resized. ``rows`` images at a time go through the network; None: as many as suit their size.

    >>> from tempfile import TemporaryDirectory
    >>> from genscl_lite.datasets import load_dataset
    >>> from genscl_lite.runs.job import Job, train_job
    >>> config = TrainConfig("supcon", epochs=1, warmup_epochs=0, probe_epochs=1)
    >>> with TemporaryDirectory() as folder:
    ...     [(run, summary)] = train_job(Job("supcon", (config,), Path(folder)))
    ...     encoder = Encoder.load(folder)
    >>> images = load_dataset("digits").test_images
    >>> encoder.features(images).shape, encoder.latents(images).shape
    (torch.Size([797, 64]), torch.Size([797, 64]))
    >>> names = encoder.predict(images)
    >>> len(names), set(names) <= set(encoder.class_names)
    (797, True)
    """

    model: Model
    """Encoder and head."""
    probe: nn.Linear | None
    """The linear classifier of the features; None if the head is the classifier."""
    config: TrainConfig
    summary: dict
    """What ``summary.json`` holds."""
    dataset: Dataset
    """What it was trained on, without the images: class names, shape, mean and deviation."""

    @classmethod
    def load(
        cls,
        path: str | Path,
        device: torch.device | str | None = None,
        module: nn.Module | None = None,
    ) -> "Encoder":
        """Load what a finished run left behind.

        Args:
            path: the run's own folder (METHOD/seedN), METHOD of a single seed, or its model.safetensors.
            device: default: as $GENSCL_DEVICE says, else the GPU if there is one.
            module: for arch "custom", an encoder of the same structure, to read the weights into.

        Raises:
            ValueError: there is no run, it is not finished, there are several, or ``module`` does not fit.
            RunFolderError: the file is damaged, of another model, or was written by an earlier version.
        """
        path = weights_path(path)
        config, summary, dataset = _read_header(path)
        if config.arch == "custom" and module is None:
            raise ValueError(
                f"module: {path} holds an encoder of its own (arch custom); "
                "build it and give it as module="
            )
        if config.arch != "custom" and module is not None:
            raise ValueError(
                f"module: {path} holds a {config.arch}, which is built by this name; "
                f"expected None, got {type(module).__name__}"
            )
        with torch.random.fork_rng(devices=[]):
            model = new_model(config, dataset, module)
            probe = None
            if not METHODS[config.method].classifies:
                probe = nn.Linear(model.head[0].in_features, dataset.num_classes)
        parts = kept_parts(model, probe)
        load_weights(path, parts)
        device = device or default_device()
        parts.to(device, memory_format=torch.channels_last)
        return cls(model.eval(), probe, config, summary, dataset)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The C classes, in the order of the probabilities."""
        return self.dataset.class_names

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of the images it was trained on."""
        return self.dataset.image_shape

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def features(self, images: Images, rows: int | None = None) -> Tensor:
        """Return the encoder's features, (N, F) float32 on its device: what the probe saw."""
        return self._extract(self.model.encoder, images, rows)

    def latents(self, images: Images, rows: int | None = None) -> Tensor:
        """Return the head's latents, (N, D) float32, not of unit length; ValueError for a classifier."""
        if self.probe is None:
            raise ValueError(
                f"latents: method {self.config.method} is a classifier, "
                "whose head gives probabilities"
            )
        return self._extract(self.model, images, rows)

    def probabilities(self, images: Images, rows: int | None = None) -> Tensor:
        """Return the probability of each class, (N, C)."""
        return self._logits(images, rows).softmax(dim=1)

    def predict(self, images: Images, rows: int | None = None) -> list[str]:
        """Return the name of the most probable class of each image."""
        return [
            self.class_names[number] for number in self._logits(images, rows).argmax(dim=1).tolist()
        ]

    @torch.no_grad()
    def _logits(self, images: Images, rows: int | None) -> Tensor:
        if self.probe is None:
            return self._extract(self.model, images, rows)
        return self.probe(self.features(images, rows))

    def _extract(self, module: nn.Module, images: Images, rows: int | None) -> Tensor:
        parts = in_parts(images, self.image_shape, rows, self.dataset.intensity)
        return torch.cat([extract(module, self.dataset, part.to(self.device)) for part in parts])

    def export(self, path: str | Path) -> None:
        """Write the encoder alone for other programs; beside it, as ``.json``, what belongs to it.

        Tensors have the names of the module: of ``timm/NAME`` those of that network
        without its classifier. The header holds arch, mean, std, image_shape, class_names,
        intensity, config, summary.

        Raises:
            ValueError: ``path`` does not end in .safetensors, or would overwrite what is no export.
        """
        path = files.as_path(path)
        beside = path.with_suffix(".json")
        if path.suffix != ".safetensors":
            raise ValueError(f"path: expected a file name ending in .safetensors, got {path}")
        if path.is_dir() or path.exists() and "arch" not in read_about(path):
            raise ValueError(f"path: {path} exists and is no exported encoder; choose another name")
        if beside.exists() and not path.exists():
            raise ValueError(
                f"path: {beside} exists and belongs to no exported encoder; choose another name"
            )
        names = ("mean", "std", "image_shape", "class_names", "intensity")
        about = {
            "arch": self.config.arch,
            **{name: getattr(self.dataset, name) for name in names},
            "config": asdict(self.config),
            "summary": self.summary,
        }
        save_weights(path, self.model.encoder, **about)
        files.write_json(beside, about)


def _read_header(path: Path) -> tuple[TrainConfig, dict, Dataset]:
    """Return configuration, summary and a ``Dataset`` without images."""
    about = read_about(path)
    if "arch" in about:
        raise RunFolderError(
            f"{path}: an exported encoder without its head; give the run's model.safetensors"
        )
    for name in ("config", "summary", "data"):
        if name not in about:
            raise RunFolderError(
                f"{path}: holds no {name}, an earlier version wrote it; "
                "delete the summary.json of this run and finish it again"
            )
    config, dataset = described(path, about)
    return config, about["summary"], dataset


# The images that a trained model is given


def in_parts(
    images: Images,
    image_shape: tuple[int, int, int],
    rows: int | None = None,
    intensity: tuple[float, float] | None = None,
) -> Iterator[Tensor]:
    """Check images against a model's (channels, H, W) and return them in parts, (rows, channels, H, W).

    The last part may be smaller. Files become RGB, or gray for 1 channel, and those with more than 8 bits are
    stretched by ``intensity``, as the images were that the model was trained on.

    Raises:
        ValueError: there are none, they are of another kind, shape or range, or a file cannot be read.

    >>> [len(part) for part in in_parts(torch.zeros(5, 1, 8, 8), (1, 8, 8), rows=2)]
    [2, 2, 1]
    >>> in_parts(torch.zeros(5, 3, 8, 8), (1, 8, 8))
    Traceback (most recent call last):
    ValueError: images: expected one or more of shape (1, 8, 8), got (5, 3, 8, 8)
    """
    if rows is None:  # 83 images of 224 x 224
        rows = min(1000, max(1, 2**22 // (image_shape[1] * image_shape[2])))
    require_whole("rows", rows)
    if not isinstance(images, Tensor | ImageFiles | list | tuple):
        raise ValueError(
            "images: expected a tensor, ImageFiles, or a list of paths or PIL images, "
            f"got {type(images).__name__}"
        )
    if not len(images):
        raise ValueError("images: expected at least one, got none")
    if isinstance(images, Tensor | ImageFiles):
        check_images("images", images, image_shape)
        return iter(images.split(rows))
    _check_list(images, image_shape)
    parts = (images[start : start + rows] for start in range(0, len(images), rows))
    return (
        torch.stack([_read_picture(image, image_shape, intensity) for image in part])
        for part in parts
    )


def _check_list(images: Sequence, image_shape: tuple[int, int, int]) -> None:
    for place, image in enumerate(images):
        if not isinstance(image, str | Path | Image.Image):
            raise ValueError(
                "images: expected paths or PIL images in the list, "
                f"got {type(image).__name__} at {place}"
            )
    channels, height, width = image_shape
    if channels not in (1, 3) or height != width:
        raise ValueError(
            "images: files become square and of 1 or 3 channels, but the model takes "
            f"{channels} x {height} x {width}; "
            f"expected a tensor (N, {channels}, {height}, {width})"
        )


def _read_picture(
    image: str | Path | Image.Image,
    image_shape: tuple[int, int, int],
    intensity: tuple[float, float] | None,
) -> Tensor:
    pixels = center_crop(read_rgb(image, intensity), image_shape[-1])
    if image_shape[0] == 1:
        return F.pil_to_tensor(F.to_pil_image(pixels).convert("L"))
    return pixels
