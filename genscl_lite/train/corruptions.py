"""Worse copies of test images: how robust is a model to what it was not trained for?"""

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

NOISE = 0.1
"""Standard deviation of the noise, of pixels in [0, 1]."""


def blur(images: Tensor) -> Tensor:
    """Smooth (N, channels, H, W) images by the weights 1, 2, 1, down and across; edges repeat."""
    weights = torch.tensor([0.25, 0.5, 0.25], device=images.device)
    channels = images.shape[1]
    kernel = (weights[:, None] * weights).expand(channels, 1, 3, 3)
    return F.conv2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), kernel, groups=channels)


def add_noise(images: Tensor) -> Tensor:
    """Add normal noise to (N, channels, H, W) images in [0, 1], the same at each call; cut to [0, 1]."""
    noise = torch.randn(images.shape, generator=Generator().manual_seed(0))
    return (images + NOISE * noise.to(images.device)).clamp(0, 1)


CORRUPTIONS = {"blur": blur, "noise": add_noise}
