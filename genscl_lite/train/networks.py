"""Encoders and classifiers by name, and the model that is trained: an encoder with its head.

Any module from images to (N, F) features can be the encoder. Beside the kit's own networks for small images
there are timm's by name (``timm/vit_tiny_patch16_224``).
"""

from functools import partial

import torch
from torch import Tensor, nn
from torchvision.models import resnet
from torchvision.models.resnet import BasicBlock

from genscl_lite._checks import nearest
from genscl_lite.distillation import evaluation_mode
from genscl_lite.train.whitened import WhitenedConvNet

SOURCES = ("timm", "torchvision")
"""Where named networks come from; the second was one of old, and ``check_arch`` says its new name."""


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

    >>> source_of("timm/vit_tiny_patch16_224"), source_of("resnet18")
    (('timm', 'vit_tiny_patch16_224'), ('', 'resnet18'))
    """
    source, _, name = arch.partition("/")
    return (source, name) if source in SOURCES else ("", arch)


def check_arch(arch: str, argument: str = "arch") -> None:
    """Raise ValueError unless ``arch`` is a name in ``ENCODERS``, timm/NAME or "custom".

    >>> check_arch("convnext_tiny")
    Traceback (most recent call last):
    ValueError: arch: 'convnext_tiny' is unknown (did you mean 'timm/convnext_tiny'?); expected one of ...
    """
    if arch in ENCODERS or arch == "custom":
        return
    import timm  # slow to import, so only if it is needed

    theirs = [f"timm/{name}" for name in (*timm.list_models(), *timm.list_pretrained())]
    if arch in theirs:
        return
    source, name = source_of(arch)
    if source == "torchvision":
        new = f"timm/{name.partition('@')[0]}"
        new = repr(new) if new in theirs else f"timm/NAME{nearest(new, theirs)}"
        raise ValueError(f"{argument}: {arch!r}: named networks now come from timm; write {new}")
    hint = nearest(arch, theirs if source else [*ENCODERS, "custom", *theirs])
    raise ValueError(
        f"{argument}: {arch!r} is unknown{hint}; expected one of {', '.join(ENCODERS)}, "
        "timm/NAME, custom"
    )


def check_pretrained(argument: str, arch: str) -> None:
    """Raise ValueError unless ``arch`` is timm/NAME with weights of timm.

    >>> check_pretrained("pretrained", "resnet18")
    Traceback (most recent call last):
    ValueError: pretrained: expected arch timm/NAME, whose weights timm has, got 'resnet18'
    """
    import timm

    source, name = source_of(arch)
    if not source or not timm.is_model_pretrained(name):
        raise ValueError(
            f"{argument}: expected arch timm/NAME, whose weights timm has, got {arch!r}"
        )


def build_encoder(arch: str, in_channels: int = 3, image_size: int | None = None) -> nn.Module:
    """Build a new encoder by name, from images to (N, F) features.

    Args:
        arch: one of ``ENCODERS``, for small images; or timm/NAME.
        in_channels: of the images.
        image_size: height and width in pixels, for networks made for one size, such as ViT; None: their own.

    Raises:
        ValueError: the name does not exist, or the size does not fit.

    >>> build_encoder("resnet18")(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 512])
    """
    check_arch(arch)
    if arch == "custom":
        raise ValueError(
            'arch: "custom" stands for an encoder of your own; none can be built by this name'
        )
    if arch in ENCODERS:
        return ENCODERS[arch](in_channels)
    return build_timm(arch, in_channels, image_size, num_classes=0)


def build_timm(
    arch: str, in_channels: int = 3, image_size: int | None = None, **options
) -> nn.Module:
    """Build timm/NAME with timm's own ``options``; nothing is downloaded unless ``pretrained`` is one.

    Args and errors as in ``build_encoder``.

    >>> build_timm("timm/test_resnet", num_classes=10)(torch.zeros(2, 3, 64, 64)).shape
    torch.Size([2, 10])
    """
    import timm

    _, name = source_of(arch)
    about = timm.get_pretrained_cfg(name)
    if image_size and about and about.fixed_input_size:
        options["img_size"] = image_size
    try:
        return timm.create_model(name, in_chans=in_channels, **options)
    except (AssertionError, ValueError) as error:
        pixels = image_size or "its own"
        raise ValueError(
            f"image_size: {arch} cannot be built for {pixels} pixels: {error}"
        ) from error


class Model(nn.Module):
    """Encoder and head: images -> features (N, F) -> outputs (N, ``outputs``).

    The head is the paper's, F-F-D with a ReLU, for latents; one linear layer for the logits of a classifier.

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
        features = count_features(encoder, image_shape)
        self.head = (
            nn.Linear(features, outputs)
            if classifier
            else nn.Sequential(
                nn.Linear(features, features), nn.ReLU(inplace=True), nn.Linear(features, outputs)
            )
        )
        self.joint = nn.Linear(features, joint_classes) if joint_classes else None
        self.frozen = False

    def freeze(self) -> None:
        """Keep the encoder as it is from now on: no gradient, and BatchNorm with the statistics it has."""
        self.frozen = True
        self.encoder.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "Model":
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        features = self.encoder(images)
        if self.joint and self.training:
            return torch.cat([self.head(features), self.joint(features)], dim=1)
        return self.head(features)


@torch.no_grad()
def count_features(encoder: nn.Module, image_shape: tuple[int, int, int]) -> int:
    """Return the F of an encoder's (N, F) features, by a pass of two black images in evaluation mode.

    ValueError if the encoder fails on such images, or returns another shape.

    >>> count_features(build_encoder("resnet_small", 1), (1, 8, 8))
    64
    """
    device = next(encoder.parameters(), torch.empty(0)).device
    try:
        with evaluation_mode(encoder):
            features = encoder(torch.zeros(2, *image_shape, device=device))
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"encoder: fails on images of shape {tuple(image_shape)}: {error}"
        ) from error
    if not isinstance(features, Tensor) or features.ndim != 2:
        shape = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise ValueError(
            f"encoder: expected features of shape (N, F), got {shape} "
            f"for 2 images of {tuple(image_shape)}"
        )
    return features.shape[1]
