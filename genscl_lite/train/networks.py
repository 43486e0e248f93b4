"""Encoders and classifiers by name, and the model that is trained: an encoder with its head.

Any module from images to (N, F) features can be the encoder. Beside the kit's own networks for small images
there are those of torchvision and timm by name (``torchvision/resnet50``, ``timm/vit_tiny_patch16_224``).
"""

import warnings
from functools import partial
from typing import NamedTuple

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import get_model, get_model_weights, list_models, resnet
from torchvision.models.resnet import BasicBlock

from genscl_lite._checks import nearest, require_choice
from genscl_lite.train.whitened import WhitenedConvNet

SOURCES = ("torchvision", "timm")
SMALL_IMAGE = 64  # pixels of the longer side up to which ``warn_of_coarse_maps`` speaks


class SmallResNet(nn.Module):
    """Three residual blocks for 8 x 8 digits: widths w, 2w, 4w at full, half and quarter resolution."""

    def __init__(self, in_channels: int = 1, width: int = 16):
        super().__init__()
        self.stem = nn.Sequential(
            _conv3x3(in_channels, width), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        )
        self.blocks = nn.Sequential(
            BasicBlock(width, width),
            _halving_block(width, 2 * width),
            _halving_block(2 * width, 4 * width),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.blocks(self.stem(images)).mean(dim=(2, 3))  # (N, 4w)


class SmallConvNet(nn.Sequential):
    """Three stages of widths w, 2w, 4w for 32 x 32 photographs, quick on a CPU.

    The first convolution sees 2 x 2 pixels, each stage has two of 3 x 3; between them the map is halved, to
    15, 7 and 3 pixels. The width is the one that learns most in a given
    time: with 500 labels a class and three minutes on a core, 24 learned more than 32, and 32 more than 48.
    """

    def __init__(self, in_channels: int = 3, width: int = 24):
        super().__init__(
            nn.Conv2d(in_channels, width // 2, kernel_size=2),
            nn.ReLU(inplace=True),
            *_pooling_stage(width // 2, width),
            *_pooling_stage(width, 2 * width),
            *_pooling_stage(2 * width, 4 * width),
            nn.AdaptiveMaxPool2d(1),
            nn.Flatten(),  # (N, 4w)
        )


def _pooling_stage(channels: int, width: int) -> list[nn.Module]:
    return [
        _conv3x3(channels, width),
        nn.MaxPool2d(2),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        _conv3x3(width, width),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
    ]


def small_image_resnet(name: str, in_channels: int = 3) -> nn.Module:
    """Build torchvision's ResNet for 32 x 32 images: a 3 x 3 stem of stride 1, no max-pool, no classifier."""
    encoder = getattr(resnet, name)()
    encoder.conv1 = _conv3x3(in_channels, 64)
    nn.init.kaiming_normal_(encoder.conv1.weight, mode="fan_out", nonlinearity="relu")
    encoder.maxpool = nn.Identity()
    encoder.fc = nn.Identity()
    return encoder


def _conv3x3(channels: int, width: int) -> nn.Conv2d:
    return nn.Conv2d(channels, width, kernel_size=3, padding=1, bias=False)


def _halving_block(channels: int, width: int) -> BasicBlock:
    shortcut = nn.Conv2d(channels, width, kernel_size=1, stride=2, bias=False)
    return BasicBlock(
        channels, width, stride=2, downsample=nn.Sequential(shortcut, nn.BatchNorm2d(width))
    )


ENCODERS = {
    "resnet_small": SmallResNet,
    "convnet_small": SmallConvNet,
    "convnet_medium": partial(SmallConvNet, width=64),
    "whitened_small": WhitenedConvNet,
    "whitened_medium": partial(WhitenedConvNet, widths=(64, 128, 256)),
    "whitened_large": partial(WhitenedConvNet, widths=(128, 384, 512)),
    "resnet18": partial(small_image_resnet, "resnet18"),
    "resnet34": partial(small_image_resnet, "resnet34"),
    "resnet50": partial(small_image_resnet, "resnet50"),
    "wide_resnet50": partial(small_image_resnet, "wide_resnet50_2"),
}


def source_of(arch: str) -> tuple[str, str]:
    """Split ``arch`` into one of ``SOURCES`` and the name there; ("", arch) for any other name.

    >>> source_of("torchvision/vit_b_16"), source_of("resnet18")
    (('torchvision', 'vit_b_16'), ('', 'resnet18'))
    """
    source, _, name = arch.partition("/")
    return (source, name) if source in SOURCES else ("", arch)


def check_arch(arch: str) -> None:
    """Raise ValueError unless ``arch`` is a name in ``ENCODERS``, torchvision/NAME, timm/NAME or "custom".

    >>> check_arch("convnext_tiny")
    Traceback (most recent call last):
    ValueError: arch: 'convnext_tiny' is unknown (did you mean 'torchvision/convnext_tiny'?); expected ...
    """
    source, name = source_of(arch)
    known = _names_of(source, arch) if source else [*ENCODERS, "custom"]
    if name in known:
        return
    if source:
        near = [f"{source}/{name}" for name in known]
        expected = f"a classification model of {source}, as {source}/NAME"
    else:
        theirs = [f"torchvision/{name}" for name in _names_of("torchvision", arch)]
        near = [name for name in theirs if name.endswith(f"/{arch}")] or [*known, *theirs]
        expected = f"one of {', '.join(ENCODERS)}, torchvision/NAME, timm/NAME, custom"
    raise ValueError(f"arch: {arch!r} is unknown{nearest(arch, near)}; expected {expected}")


def _names_of(source: str, arch: str) -> list[str]:
    if source == "torchvision":
        return list_models(module=torchvision.models)
    timm = _timm(arch)
    return [
        *timm.list_models(),
        *timm.list_pretrained(),
    ]  # without and with the tags of their weights


def _timm(arch: str):
    try:
        import timm  # slow to import, so only where it is asked for
    except ImportError as error:
        raise ValueError(
            f"arch: {arch!r} needs timm, which cannot be imported ({error}); run `pip install timm`"
        ) from error
    return timm


def build_encoder(arch: str, in_channels: int = 3, image_size: int | None = None) -> nn.Module:
    """Build a new encoder by name, from images to (N, F) features.

    Args:
        arch: one of ``ENCODERS``, for small images; torchvision/NAME; timm/NAME.
        in_channels: of the images; torchvision's networks take 3.
        image_size: height and width in pixels, for networks made for one size, such as ViT; None: their own.

    Raises:
        ValueError: name, channels or size do not exist or do not fit.

    >>> build_encoder("resnet18")(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 512])
    >>> build_encoder("torchvision/mobilenet_v2")(torch.zeros(2, 3, 64, 64)).shape
    torch.Size([2, 1280])
    """
    check_arch(arch)
    if arch == "custom":
        raise ValueError(
            'arch: "custom" stands for an encoder of your own; none can be built by this name'
        )
    if source_of(arch)[0]:
        return build_network(arch, None, in_channels, image_size)
    return ENCODERS[arch](in_channels)


def build_network(
    arch: str,
    classes: int | None,
    in_channels: int = 3,
    image_size: int | None = None,
    weights: str = "",
) -> nn.Module:
    """Build a network of torchvision or timm. Without ``weights`` nothing is downloaded.

    Args and errors as in ``build_encoder``, and:
        classes: C for logits (N, C), as many as weights know; None for features (N, F), without classifier.
        weights: of torchvision, by torchvision's name ("DEFAULT", "IMAGENET1K_V2"); empty: a new network.

    >>> build_network("torchvision/shufflenet_v2_x0_5", classes=10)(torch.zeros(2, 3, 64, 64)).shape
    torch.Size([2, 10])
    """
    check_arch(arch)
    source, name = source_of(arch)
    if source == "timm":
        if weights:
            raise ValueError(
                f"weights: {weights!r} are torchvision's, and {arch} is of timm; expected none"
            )
        timm = _timm(arch)
        pretrained = timm.get_pretrained_cfg(name)
        sized = (
            {"img_size": image_size}
            if image_size and pretrained and pretrained.fixed_input_size
            else {}
        )
        options = {"num_classes": classes or 0, "in_chans": in_channels} | sized
        return _sized(timm.create_model, arch, image_size, options)
    if in_channels != 3:
        raise ValueError(
            f"in_channels: {arch} takes 3 channels, got {in_channels}; the kit's own names "
            "(resnet18) and timm/NAME take any number"
        )
    options = {"weights": weights or None, "num_classes": classes or 1000}
    if not weights and name in ("googlenet", "inception_v3"):
        options["init_weights"] = True  # what it is anyway; where it is not said, they warn
    if image_size and name.startswith("vit_"):
        options["image_size"] = image_size
    if image_size and name.startswith("maxvit_"):
        options["input_size"] = (image_size, image_size)
    network = _sized(get_model, arch, image_size, options)
    if getattr(
        network, "aux_logits", False
    ):  # GoogLeNet and Inception give several outputs in training mode
        network.aux_logits = False
        network.aux1 = network.aux2 = network.AuxLogits = None
    if classes is None:
        _remove_classifier(network, options["num_classes"])
    return network


def _sized(build, arch: str, image_size: int | None, options: dict) -> nn.Module:
    """Build, and say which size it was where the builder says that it does not fit."""
    try:
        return build(source_of(arch)[1], **options)
    except (AssertionError, ValueError) as error:
        pixels = image_size or "its own"
        raise ValueError(
            f"image_size: {arch} cannot be built for {pixels} pixels: {error}"
        ) from error


def _remove_classifier(network: nn.Module, classes: int) -> None:
    """Put nn.Identity in place of the last linear layer or convolution with so many outputs."""
    names = [
        name
        for name, layer in network.named_modules()
        if getattr(layer, "out_features", getattr(layer, "out_channels", None)) == classes
    ]
    if not names:
        raise ValueError(
            f"arch: {type(network).__name__} has no layer with {classes} outputs that could be "
            "its classifier"
        )
    network.set_submodule(names[-1], nn.Identity())


def pretrained_timm(
    arch: str, in_channels: int = 3
) -> tuple[nn.Module, dict[str, tuple[float, ...]]]:
    """Download a classifier of timm; return it and the ``mean`` and ``std`` of images that it expects."""
    check_arch(arch)
    network = _timm(arch).create_model(source_of(arch)[1], pretrained=True, in_chans=in_channels)
    return network, {name: tuple(network.pretrained_cfg[name]) for name in ("mean", "std")}


def weight_classes(arch: str, weights: str = "DEFAULT") -> tuple[str, ...]:
    """Return the C class names of torchvision's weights, in the order of the logits; nothing is downloaded.

    >>> weight_classes("torchvision/resnet50")[:2]
    ('tench', 'goldfish')
    """
    source, name = source_of(arch)
    if source != "torchvision":
        raise ValueError(
            f"weights: only torchvision/NAME has weights by name, got {weights!r} for {arch!r}"
        )
    check_arch(arch)
    require_choice("weights", weights, known := get_model_weights(name).__members__)
    return tuple(known[weights].meta["categories"])


class Model(nn.Module):
    """Encoder and head: images -> features (N, F) -> outputs (N, ``outputs``).

    The head is the paper's, F-F-D with a ReLU, for latents; one linear layer for the logits of a classifier.
    Warns, once for each model, of an encoder whose maps are too coarse for the images.

    Args:
        encoder: any module from (N, channels, height, width) to (N, F); another shape is a ValueError.
        outputs: D latents or C classes.
        image_shape: (channels, height, width), to find F by one pass.
        classifier: make the linear head.
        joint_classes: C of a linear classifier beside the head, 0: none. In training mode, outputs are then
            (N, outputs + C): its logits stand behind the latents.

    >>> Model(SmallResNet(), 32, (1, 8, 8))(torch.zeros(4, 1, 8, 8)).shape
    torch.Size([4, 32])
    """

    def __init__(
        self,
        encoder: nn.Module,
        outputs: int,
        image_shape: tuple[int, int, int],
        classifier: bool = False,
        joint_classes: int = 0,
    ):
        super().__init__()
        self.encoder = encoder
        probe = probe_encoder(encoder, image_shape)
        warn_of_coarse_maps(probe, image_shape)
        features = probe.features
        self.head = (
            nn.Linear(features, outputs)
            if classifier
            else nn.Sequential(
                nn.Linear(features, features), nn.ReLU(inplace=True), nn.Linear(features, outputs)
            )
        )
        self.joint = nn.Linear(features, joint_classes) if joint_classes else None

    def forward(self, images: Tensor) -> Tensor:
        features = self.encoder(images)
        if self.joint and self.training:
            return torch.cat([self.head(features), self.joint(features)], dim=1)
        return self.head(features)


class EncoderProbe(NamedTuple):
    """What one pass of black images shows of an encoder: F, and (height, width) of its last map, if any."""

    features: int
    last_map: tuple[int, int] | None


@torch.no_grad()
def probe_encoder(encoder: nn.Module, image_shape: tuple[int, int, int]) -> EncoderProbe:
    """Pass two black images through the encoder, in evaluation mode so that nothing changes.

    The last map is that of a convolution or max-pool with a window: layers that look at one pixel at a time
    see 1 x 1 maps behind (or, in squeeze-and-excitation, beside) an average pooling in any network.
    ValueError where the encoder fails on such images, or does not return (N, F) features.

    >>> probe_encoder(build_encoder("resnet_small", 1), (1, 8, 8))
    EncoderProbe(features=64, last_map=(2, 2))
    """
    maps = []
    windows = [
        layer
        for layer in encoder.modules()
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d) and layer.kernel_size not in (1, (1, 1))
    ]
    hooks = [
        layer.register_forward_hook(
            lambda layer, inputs, output: maps.append(tuple(output.shape[-2:]))
        )
        for layer in windows
    ]
    modes = {module: module.training for module in encoder.modules()}
    device = next(encoder.parameters(), torch.empty(0)).device
    try:
        features = encoder.eval()(torch.zeros(2, *image_shape, device=device))
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"encoder: fails on images of shape {tuple(image_shape)}: {error}"
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in modes.items():
            module.training = training
    if not isinstance(features, Tensor) or features.ndim != 2:
        shape = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise ValueError(
            f"encoder: expected features of shape (N, F), got {shape} "
            f"for 2 images of {tuple(image_shape)}"
        )
    return EncoderProbe(features.shape[1], maps[-1] if maps else None)


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
            f"encoder: reduces {height} x {width} images to 1 x 1 maps before pooling, so its last layers "
            "see no neighbours; take arch resnet18 or resnet50, which have a 3 x 3 stem of stride 1, "
            "or larger images",
            stacklevel=3,
        )
