"""Encoders and classifiers by name, and the projection head. Any module from images to (N, F) features can be the encoder."""

import warnings
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models import resnet
from torchvision.models.resnet import BasicBlock

from genscl_lite._checks import nearest, require_whole
from genscl_lite.train.zoo import SOURCES, build_network, check_network, source_of, torchvision_names


class SmallResNet(nn.Module):
    """Three residual blocks for 8 x 8 digits: widths w, 2w, 4w at full, half and quarter resolution; features (N, 4w)."""

    def __init__(self, in_channels: int = 1, width: int = 16):
        super().__init__()
        self.stem = nn.Sequential(_conv3x3(in_channels, width), nn.BatchNorm2d(width), nn.ReLU(inplace=True))
        self.blocks = nn.Sequential(
            BasicBlock(width, width), _halving_block(width, 2 * width), _halving_block(2 * width, 4 * width)
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.blocks(self.stem(images)).mean(dim=(2, 3))


def small_image_resnet(name: str, in_channels: int = 3) -> nn.Module:
    """Build a ResNet of torchvision for 32 x 32 images: a 3 x 3 stem of stride 1, no max-pool, no classifier.

    Features: (N, 512), or (N, 2048) for "resnet50" and "wide_resnet50_2".
    """
    encoder = getattr(resnet, name)()
    encoder.conv1 = _conv3x3(in_channels, 64)
    nn.init.kaiming_normal_(encoder.conv1.weight, mode="fan_out", nonlinearity="relu")
    encoder.maxpool = nn.Identity()
    encoder.fc = nn.Identity()
    return encoder


ENCODERS = {
    "resnet_small": SmallResNet,
    "resnet18": partial(small_image_resnet, "resnet18"),
    "resnet34": partial(small_image_resnet, "resnet34"),
    "resnet50": partial(small_image_resnet, "resnet50"),
    "wide_resnet50": partial(small_image_resnet, "wide_resnet50_2"),
}


def check_arch(arch: str) -> None:
    """Raise ValueError unless ``arch`` is one of ``ENCODERS``, torchvision/NAME, timm/NAME or "custom"; nothing is built.

    >>> check_arch("convnext_tiny")
    Traceback (most recent call last):
    ValueError: arch: 'convnext_tiny' is unknown (did you mean 'torchvision/convnext_tiny'?); expected one of ...
    """
    if source_of(arch)[0]:
        check_network(arch)
    elif arch not in (*ENCODERS, "custom"):
        known = [f"torchvision/{name}" for name in torchvision_names()]
        hint = nearest(arch, [name for name in known if name.endswith(f"/{arch}")] or [*ENCODERS, *known, "custom"])
        raise ValueError(f"arch: {arch!r} is unknown{hint}; expected one of {', '.join(ENCODERS)}, "
                         f"{', '.join(f'{source}/NAME' for source in SOURCES)}, custom")


def build_encoder(arch: str, in_channels: int = 3, image_size: int | None = None, weights: str = "") -> nn.Module:
    """Build an encoder by name, from images to (N, F) features. Without ``weights`` nothing is downloaded.

    Args:
        arch: one of ``ENCODERS``, for small images; torchvision/NAME; timm/NAME, where timm is installed.
        in_channels: of the images; torchvision's networks take 3.
        image_size: height and width in pixels, for networks that are made for one size, such as ViT; None: their own.
        weights: of torchvision/NAME, by torchvision's name ("DEFAULT", "IMAGENET1K_V2"); empty: a new network.

    Raises:
        ValueError: name, channels, size or weights do not exist or do not fit.

    >>> build_encoder("resnet18")(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 512])
    >>> build_encoder("torchvision/mobilenet_v2")(torch.zeros(2, 3, 64, 64)).shape
    torch.Size([2, 1280])
    """
    check_arch(arch)
    if arch == "custom":
        raise ValueError('arch: "custom" stands for an encoder of your own; there is none to build by this name')
    if source_of(arch)[0]:
        return build_network(arch, None, in_channels, image_size, weights)
    if weights:
        raise ValueError(f"weights: {arch} has none by name, got {weights!r}; only torchvision/NAME has")
    return ENCODERS[arch](in_channels)


def classifier_by_name(arch: str, classes: int, in_channels: int, image_size: int, weights: str = "") -> nn.Module:
    """Build a classifier, from images to (N, ``classes``) logits, for instance as a teacher.

    With pretrained ``weights``, compare ``weight_classes`` with the data set's ``class_names``: logits have
    an order.

    Args:
        arch, in_channels, image_size, weights: as in ``build_encoder``.
        classes: C; weights must have as many.

    Raises:
        ValueError: as ``build_encoder``; or the weights have another number of classes.

    >>> classifier_by_name("resnet_small", 10, 1, 8)(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 10])
    """
    require_whole("classes", classes)
    if source_of(arch)[0]:
        return build_network(arch, classes, in_channels, image_size, weights)
    encoder = build_encoder(arch, in_channels, image_size, weights)
    return Model(encoder, classes, (in_channels, image_size, image_size), classifier=True)


class Model(nn.Module):
    """Encoder and head: images -> features (N, F) -> outputs (N, ``outputs``).

    The head is the paper's, F-F-D with a ReLU, for latents; one linear layer for the logits of a classifier. Warns, once
    for each model, of an encoder whose maps are too coarse for the images (``warn_of_coarse_maps``).

    Args:
        encoder: any module from (N, channels, height, width) to (N, F).
        outputs: D latents or C classes.
        image_shape: (channels, height, width), to find F by one pass.
        classifier: make the linear head.
        joint_classes: C of a linear classifier beside the head, 0: none. In training mode, outputs are then (N, outputs + C):
            its logits stand behind the latents.

    Raises:
        ValueError: the encoder does not return (N, F) features.

    >>> Model(SmallResNet(), 32, (1, 8, 8))(torch.zeros(4, 1, 8, 8)).shape
    torch.Size([4, 32])
    """

    def __init__(
        self, encoder: nn.Module, outputs: int, image_shape: tuple[int, int, int], classifier: bool = False,
        joint_classes: int = 0,
    ):  # fmt: skip
        super().__init__()
        self.encoder = encoder
        probe = probe_encoder(encoder, image_shape)
        warn_of_coarse_maps(probe, image_shape)
        features = probe.features
        self.head = nn.Linear(features, outputs) if classifier else nn.Sequential(
            nn.Linear(features, features), nn.ReLU(inplace=True), nn.Linear(features, outputs)
        )

        self.joint = nn.Linear(features, joint_classes) if joint_classes else None

    def forward(self, images: Tensor) -> Tensor:
        features = self.encoder(images)
        if self.joint and self.training:
            return torch.cat([self.head(features), self.joint(features)], dim=1)
        return self.head(features)


class EncoderProbe(NamedTuple):
    """What one pass of black images shows of an encoder."""

    features: int
    """F."""
    last_map: tuple[int, int] | None
    """Height and width of the last map that a convolution or max-pool with a window makes; None where there is no such layer."""


@torch.no_grad()
def probe_encoder(encoder: nn.Module, image_shape: tuple[int, int, int]) -> EncoderProbe:
    """Pass two black images through the encoder, in evaluation mode so that nothing changes.

    Layers that look at one pixel at a time do not count for the last map: those behind (or, in squeeze-and-excitation,
    beside) an average pooling see 1 x 1 maps in any network.

    Raises:
        ValueError: the encoder fails on such images, or does not return (N, F) features.

    >>> probe_encoder(build_encoder("resnet_small", 1), (1, 8, 8))
    EncoderProbe(features=64, last_map=(2, 2))
    """
    maps = []
    hooks = [layer.register_forward_hook(lambda layer, inputs, output: maps.append(tuple(output.shape[-2:])))
             for layer in encoder.modules() if _has_window(layer)]  # fmt: skip
    modes = {module: module.training for module in encoder.modules()}
    device = next(encoder.parameters(), torch.empty(0)).device
    try:
        features = encoder.eval()(torch.zeros(2, *image_shape, device=device))
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"encoder: fails on images of shape {tuple(image_shape)}: {error}") from error
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in modes.items():
            module.training = training
    if not isinstance(features, Tensor) or features.ndim != 2:
        shape = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise ValueError(f"encoder: expected features of shape (N, F), got {shape} for 2 images of {tuple(image_shape)}")
    return EncoderProbe(features.shape[1], maps[-1] if maps else None)


def feature_size(encoder: nn.Module, image_shape: tuple[int, int, int]) -> int:
    """Return F of an encoder's (N, F) features for images of (channels, height, width)."""
    return probe_encoder(encoder, image_shape).features


def warn_of_coarse_maps(probe: EncoderProbe, image_shape: tuple[int, int, int]) -> None:
    """Warn where a network for large images has reduced small ones, of at most 64 pixels, to a single pixel.

    >>> encoder = build_encoder("torchvision/resnet18")
    >>> with warnings.catch_warnings(record=True) as seen:
    ...     warn_of_coarse_maps(probe_encoder(encoder, (3, 32, 32)), (3, 32, 32))
    >>> print(seen[0].message)
    encoder: reduces 32 x 32 images to 1 x 1 maps before pooling, ...
    """
    height, width = image_shape[-2:]
    if probe.last_map == (1, 1) and 1 < max(height, width) <= SMALL_IMAGE:
        warnings.warn(
            f"encoder: reduces {height} x {width} images to 1 x 1 maps before pooling, so its last layers see no neighbours; "
            "take arch resnet18 or resnet50, which have a 3 x 3 stem of stride 1, or larger images",
            stacklevel=3,
        )


SMALL_IMAGE = 64
"""Pixels of the longer side up to which ``warn_of_coarse_maps`` speaks."""


def _has_window(layer: nn.Module) -> bool:
    size = layer.kernel_size if isinstance(layer, nn.Conv2d | nn.MaxPool2d) else 1
    return size not in (1, (1, 1))


def _conv3x3(channels: int, width: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, width, kernel_size=3, stride=stride, padding=1, bias=False)


def _halving_block(channels: int, width: int) -> BasicBlock:
    shortcut = nn.Sequential(nn.Conv2d(channels, width, kernel_size=1, stride=2, bias=False), nn.BatchNorm2d(width))
    return BasicBlock(channels, width, stride=2, downsample=shortcut)
