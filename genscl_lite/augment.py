"""Random views of a whole batch at once, on the device that holds it, with parameters drawn for each image.

Geometry is one affine map for each image and one ``grid_sample``. Colour follows torchvision's ColorJitter.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from genscl_lite.checks import require_choice

GRAY = (0.2989, 0.587, 0.114)
"""Shares of red, green and blue in brightness (ITU-R 601-2), as in torchvision."""


@dataclass(frozen=True)
class Augment:
    """One random view of each image; call it twice for two views.

    ``generator`` is drawn from on its own device; a CPU generator gives the same views on every device.

    Differs from torchvision: a crop taller or wider than the image is cut to it, not drawn again; crops need not start
    at whole pixels and are interpolated with their real surroundings; the order of the four colour changes is drawn for
    the batch, their strengths for each image.

    >>> digits = torch.randint(256, (4, 1, 8, 8), dtype=torch.uint8)
    >>> Augment(degrees=15, flip=0.5)(digits).shape
    torch.Size([4, 1, 8, 8])
    """

    crop_scale: tuple[float, float] = (1.0, 1.0)
    """Smallest and largest area of a random crop, as shares of the image; it is resized to the whole."""
    crop_ratio: tuple[float, float] = (1.0, 1.0)
    """Smallest and largest width / height of the crop, drawn evenly in its logarithm."""
    degrees: float = 0.0
    """Rotation by up to so many degrees, either way."""
    translate: float = 0.0
    """Shift by up to this share of width and of height, either way."""
    zoom: tuple[float, float] = (1.0, 1.0)
    """Smallest and largest magnification."""
    flip: float = 0.0
    """Probability of a horizontal flip."""
    jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    """Strengths of brightness, contrast, saturation (factors 1 - s to 1 + s) and hue (turns -s to s); RGB only."""
    jitter_probability: float = 0.8
    grayscale: float = 0.0
    """Probability of losing all colour; RGB only."""
    padding: str = "zeros"
    """What lies outside the image: "zeros", or "border" for its outermost pixels."""

    def __call__(self, images: Tensor, generator: Generator | None = None) -> Tensor:
        """Turn (N, channels, H, W) uint8, or floating point in [0, 1], into one view: float32 in [0, 1].

        Raises:
            ValueError: the shape or type is another, or colour changes are asked of images that are not RGB.
        """
        views = as_unit_float(images)
        if (any(self.jitter) or self.grayscale) and images.shape[1] != 3:
            raise ValueError(f"images: colour jitter and grayscale need 3 channels, got shape {tuple(images.shape)}")
        draw = _Draw(len(images), generator, images.device)
        theta = self._affine(draw, images.shape[3] / images.shape[2])
        if theta is not None:
            views = warp(views, theta, self.padding)
        if any(self.jitter):
            views = self._colour(views, draw)
        if self.grayscale:
            views = torch.where(draw.chance(self.grayscale), adjust_saturation(views, draw.constant(0.0)), views)
        return views

    def _affine(self, draw: "_Draw", aspect: float) -> Tensor | None:
        """Draw (N, 2, 3) maps from view to image. None: there is no geometry to change."""
        geometry = (self.crop_scale, self.crop_ratio, self.degrees, self.translate, self.zoom, self.flip)
        if geometry == ((1.0, 1.0), (1.0, 1.0), 0, 0, (1.0, 1.0), 0):
            return None
        area = draw.uniform(*self.crop_scale)
        ratio = draw.uniform(*map(math.log, self.crop_ratio)).exp() / aspect
        width, height = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
        centre_x, centre_y = draw.uniform(-1, 1) * (1 - width), draw.uniform(-1, 1) * (1 - height)
        shift_x, shift_y = (2 * draw.uniform(-self.translate, self.translate) for _ in range(2))
        angle, zoom = draw.uniform(-self.degrees, self.degrees), draw.uniform(*self.zoom)
        width = torch.where(draw.chance(self.flip).flatten(), -width, width)
        return affine_map(angle, zoom, centre_x - shift_x, centre_y - shift_y, width, height, aspect)

    def _colour(self, views: Tensor, draw: "_Draw") -> Tensor:
        brightness, contrast, saturation, hue = self.jitter
        changes = [
            lambda x: adjust_brightness(x, draw.factor(brightness)),
            lambda x: adjust_contrast(x, draw.factor(contrast)),
            lambda x: adjust_saturation(x, draw.factor(saturation)),
            lambda x: adjust_hue(x, draw.uniform(-hue, hue)),
        ]
        changed = views
        for i in draw.order(len(changes)):
            changed = changes[i](changed) if self.jitter[i] else changed
        return torch.where(draw.chance(self.jitter_probability), changed, views)


AUGMENTATIONS = {
    "none": Augment(),
    "affine": Augment(degrees=15, translate=0.1, zoom=(0.85, 1.15)),
    "crop": Augment(crop_scale=(0.2, 1.0), crop_ratio=(3 / 4, 4 / 3), flip=0.5, padding="border"),
    "crop_jitter": Augment(
        crop_scale=(0.2, 1.0), crop_ratio=(3 / 4, 4 / 3), flip=0.5, padding="border",
        jitter=(0.4, 0.4, 0.4, 0.1), jitter_probability=0.8, grayscale=0.2,
    ),
}  # fmt: skip
"""By name: "affine" for digits; "crop_jitter" as in SupContrast and GenSCL v1 for training, "crop" for their probe."""


def build_augment(name: str) -> Augment:
    """Return one of ``AUGMENTATIONS``."""
    require_choice("augmentation", name, AUGMENTATIONS)
    return AUGMENTATIONS[name]


def as_unit_float(images: Tensor) -> Tensor:
    """Bring uint8 images to float32 in [0, 1]; floating point ones keep their values."""
    if images.ndim != 4 or not (images.dtype == torch.uint8 or images.is_floating_point()):
        raise ValueError(f"images: expected uint8 or floating point (N, channels, height, width), "
                         f"got {images.dtype} of shape {tuple(images.shape)}")
    return images.float() / 255 if images.dtype == torch.uint8 else images.float()


def affine_map(angle, zoom, x, y, width, height, aspect: float = 1.0) -> Tensor:
    """Compose (N, 2, 3) maps from view to image, both in coordinates from -1 to 1.

    The image is turned by ``angle`` degrees (positive: clockwise, as torchvision's ``affine``) and magnified by ``zoom``;
    of the result the view shows a window of ``width`` and ``height`` (shares of the whole; a negative width mirrors)
    around (x, y): image = turn^-1 / zoom * (size * view + (x, y)). ``aspect`` is the image's width / height; all other
    arguments have shape (N,).
    """
    cos, sin = angle.deg2rad().cos() / zoom, angle.deg2rad().sin() / zoom
    right, down = sin / aspect, sin * aspect
    return torch.stack([
        torch.stack([cos * width, right * height, cos * x + right * y], dim=1),
        torch.stack([-down * width, cos * height, -down * x + cos * y], dim=1),
    ], dim=1)  # fmt: skip


def warp(images: Tensor, theta: Tensor, padding: str = "zeros") -> Tensor:
    """Sample (N, channels, H, W) images bilinearly where (N, 2, 3) ``theta`` maps each pixel of the view."""
    grid = F.affine_grid(theta.to(images), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode=padding, align_corners=False)


def adjust_brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Scale (N, 3, H, W) images in [0, 1] by (N,) factors."""
    return (images * factor[:, None, None, None]).clamp(0, 1)


def adjust_contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Move pixels away from (factor > 1) or towards the mean gray of their image."""
    return _blend(images, _gray(images).mean(dim=(1, 2, 3), keepdim=True), factor)


def adjust_saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Move pixels away from (factor > 1) or towards their own gray."""
    return _blend(images, _gray(images), factor)


def adjust_hue(images: Tensor, turns: Tensor) -> Tensor:
    """Turn the hue of (N, 3, H, W) RGB images in [0, 1] by (N,) turns of the colour circle."""
    red, green, blue = images.unbind(dim=1)
    value, strongest = images.max(dim=1)
    chroma = value - images.min(dim=1).values
    safe = chroma.where(chroma > 0, 1)
    sixths = torch.stack([(green - blue) / safe, (blue - red) / safe + 2, (red - green) / safe + 4], dim=1)
    hue = sixths.gather(1, strongest[:, None])[:, 0] + 6 * turns[:, None, None]
    # each channel falls from value by chroma over a ramp of the hue circle
    corner = torch.tensor([5.0, 3.0, 1.0], device=images.device).reshape(3, 1, 1)
    position = (corner + hue[:, None]) % 6
    ramp = torch.minimum(position, 4 - position).clamp(0, 1)
    return value[:, None] - chroma[:, None] * ramp


def _gray(images: Tensor) -> Tensor:
    return (images * torch.tensor(GRAY, device=images.device).reshape(3, 1, 1)).sum(dim=1, keepdim=True)


def _blend(images: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    return torch.lerp(other, images, factor[:, None, None, None]).clamp(0, 1)


class _Draw:
    """Random parameters for N images: drawn where the generator lives, used where the images live."""

    def __init__(self, images: int, generator: Generator | None, device: torch.device):
        self.images, self.generator, self.device = images, generator, device
        self.source = generator.device if generator is not None else "cpu"

    def uniform(self, low: float, high: float) -> Tensor:
        return (low + (high - low) * torch.rand(self.images, generator=self.generator, device=self.source)).to(self.device)

    def factor(self, strength: float) -> Tensor:
        return self.uniform(max(0.0, 1 - strength), 1 + strength)

    def chance(self, probability: float) -> Tensor:
        return (self.uniform(0, 1) < probability)[:, None, None, None]

    def constant(self, value: float) -> Tensor:
        return torch.full((self.images,), value, device=self.device)

    def order(self, changes: int) -> list[int]:
        return torch.randperm(changes, generator=self.generator, device=self.source).tolist()
