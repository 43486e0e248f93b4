"""Encoders for small images and the projection head. Any module from images to (N, F) features can be the encoder."""

import torch
from torch import Tensor, nn
from torchvision.models import resnet
from torchvision.models.resnet import BasicBlock

from genscl_lite.checks import require_choice


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
    "resnet18": lambda in_channels: small_image_resnet("resnet18", in_channels),
    "resnet34": lambda in_channels: small_image_resnet("resnet34", in_channels),
    "resnet50": lambda in_channels: small_image_resnet("resnet50", in_channels),
    "wide_resnet50": lambda in_channels: small_image_resnet("wide_resnet50_2", in_channels),
}


def build_encoder(arch: str, in_channels: int = 3) -> nn.Module:
    """Build an encoder by name, one of ``ENCODERS``.

    >>> build_encoder("resnet18")(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 512])
    """
    require_choice("arch", arch, ENCODERS)
    return ENCODERS[arch](in_channels)


class Model(nn.Module):
    """Encoder and head: images -> features (N, F) -> outputs (N, ``outputs``).

    The head is the paper's, F-F-D with a ReLU, for latents; one linear layer for the logits of a classifier.

    Args:
        encoder: any module from (N, channels, height, width) to (N, F).
        outputs: D latents or C classes.
        image_shape: (channels, height, width), to find F by one pass.
        classifier: make the linear head.

    Raises:
        ValueError: the encoder does not return (N, F) features.

    >>> Model(SmallResNet(), 32, (1, 8, 8))(torch.zeros(4, 1, 8, 8)).shape
    torch.Size([4, 32])
    """

    def __init__(self, encoder: nn.Module, outputs: int, image_shape: tuple[int, int, int], classifier: bool = False):
        super().__init__()
        self.encoder = encoder
        features = feature_size(encoder, image_shape)
        self.head = nn.Linear(features, outputs) if classifier else nn.Sequential(
            nn.Linear(features, features), nn.ReLU(inplace=True), nn.Linear(features, outputs)
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.encoder(images))


@torch.no_grad()
def feature_size(encoder: nn.Module, image_shape: tuple[int, int, int]) -> int:
    """Return F by passing two black images through the encoder, in evaluation mode so that nothing changes."""
    training = encoder.training
    device = next(encoder.parameters(), torch.empty(0)).device
    features = encoder.eval()(torch.zeros(2, *image_shape, device=device))
    encoder.train(training)
    if not isinstance(features, Tensor) or features.ndim != 2:
        shape = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise ValueError(f"encoder: expected features of shape (N, F), got {shape} for 2 images of {tuple(image_shape)}")
    return features.shape[1]


def _conv3x3(channels: int, width: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, width, kernel_size=3, stride=stride, padding=1, bias=False)


def _halving_block(channels: int, width: int) -> BasicBlock:
    shortcut = nn.Sequential(nn.Conv2d(channels, width, kernel_size=1, stride=2, bias=False), nn.BatchNorm2d(width))
    return BasicBlock(channels, width, stride=2, downsample=shortcut)
