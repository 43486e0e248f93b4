"""Random views of a whole batch at once, on the device that holds it, with parameters drawn for each image.

By hand, as torchvision's transforms draw once for a whole batch. Geometry is one affine map for each image
and one ``grid_sample``; color follows torchvision's ColorJitter. What is drawn (uniform numbers, on the CPU)
is apart from what is done with it (a function of tensors, which ``torch.compile`` makes one piece of).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from genscl_lite._checks import require_choice
from genscl_lite.datasets.imports import import_function, names_a_function, one_line

GRAY = (0.2989, 0.587, 0.114)
"""Shares of red, green and blue in brightness (ITU-R 601-2), as in torchvision."""


@dataclass(frozen=True)
class Augment:
    """One random view of each image; call it twice for two views.

    ``generator`` is drawn from on its own device; a CPU generator gives the same views on every device.

    Differs from torchvision: a crop taller or wider than the image is cut to it, not drawn again; crops need
    not start at whole pixels and are interpolated with their real surroundings.

    >>> digits = torch.randint(256, (4, 1, 8, 8), dtype=torch.uint8)
    >>> Augment(degrees=15, flip=0.5)(digits).shape
    torch.Size([4, 1, 8, 8])
    """

    # smallest and largest area of a crop, shares of the image
    crop_scale: tuple[float, float] = (1.0, 1.0)
    # smallest and largest width / height of a crop, even in the logarithm
    crop_ratio: tuple[float, float] = (1.0, 1.0)
    degrees: float = 0.0  # rotation by up to so many degrees, either way
    translate: float = 0.0  # shift by up to this share of width and of height, either way
    shift: int = 0  # shift by up to so many whole pixels, either way
    zoom: tuple[float, float] = (1.0, 1.0)  # smallest and largest magnification
    flip: float = 0.0  # probability of a horizontal flip
    # strengths s of brightness, contrast, saturation (factors 1 - s to 1 + s), hue (turns -s to s); RGB only
    jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    jitter_probability: float = 0.8
    grayscale: float = 0.0  # probability of losing all color; RGB only
    # what lies outside the image, as for grid_sample: "zeros", "border" or "reflection"
    padding: str = "zeros"

    def without_crop(self) -> "Augment":
        """Return the same for images that have been cropped already; it draws as many uniforms."""
        return replace(self, crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0))

    @property
    def uniforms_per_image(self) -> int:
        """U, how many uniform numbers decide a view of one image."""
        return GEOMETRY_UNIFORMS + COLOR_UNIFORMS * any(self.jitter) + (self.grayscale > 0)

    @property
    def needs_rgb(self) -> bool:
        """Whether it changes colors."""
        return any(self.jitter) or self.grayscale > 0

    def draw(self, images: int, generator: Generator | None = None) -> Tensor:
        """Draw what decides one view of each image: (U, N) numbers, uniform in [0, 1)."""
        device = generator.device if generator else None
        return torch.rand(self.uniforms_per_image, images, generator=generator, device=device)

    def __call__(self, images: Tensor, generator: Generator | None = None) -> Tensor:
        """Turn (N, channels, H, W) uint8, or floating point in [0, 1], into one view: float32 in [0, 1].

        Raises:
            ValueError: the shape or type is another, or color changes are asked of images that are not RGB.
        """
        return self.apply(images, self.draw(len(images), generator).to(images.device))

    def apply(self, images: Tensor, uniforms: Tensor) -> Tensor:
        """Do what ``__call__`` does, by the (U, N) ``uniforms`` of ``draw``, on the images' device."""
        views = as_unit_float(images)
        if self.needs_rgb and images.shape[1] != 3:
            raise ValueError(
                "images: color jitter and grayscale need 3 channels, "
                f"got shape {tuple(images.shape)}"
            )
        theta = self._affine(uniforms[:GEOMETRY_UNIFORMS], *images.shape[2:])
        views = views.clone() if theta is None else warp(views, theta, self.padding)
        if any(self.jitter):
            self._change_color(views, uniforms[GEOMETRY_UNIFORMS:])
        if self.grayscale:
            views.lerp_(_gray(views), _each((uniforms[-1] < self.grayscale).float()))
        return views

    def _affine(self, uniforms: Tensor, pixels_y: int, pixels_x: int) -> Tensor | None:
        """Return (N, 2, 3) maps from view to image. None: there is no geometry to change."""
        windows = self.crop_scale, self.crop_ratio, self.zoom
        moves = self.degrees, self.translate, self.shift, self.flip
        if windows == ((1.0, 1.0),) * 3 and not any(moves):
            return None
        aspect = pixels_x / pixels_y
        area, ratio, x, y, shift_x, shift_y, angle, zoom, flip = uniforms
        area = _between(area, *self.crop_scale)
        ratio = _between(ratio, *map(math.log, self.crop_ratio)).exp() / aspect
        width, height = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
        center_x, center_y = _between(x, -1, 1) * (1 - width), _between(y, -1, 1) * (1 - height)
        shift_x, shift_y = (
            2 * _between(u, -self.translate, self.translate) + 2 * self._whole_shift(u) / pixels
            for u, pixels in ((shift_x, pixels_x), (shift_y, pixels_y))
        )
        angle, zoom = _between(angle, -self.degrees, self.degrees), _between(zoom, *self.zoom)
        width = torch.where(flip < self.flip, -width, width)
        return affine_map(
            angle, zoom, center_x - shift_x, center_y - shift_y, width, height, aspect
        )

    def _whole_shift(self, uniforms: Tensor) -> Tensor:
        """Return whole pixels from -shift to shift."""
        return (uniforms * (2 * self.shift + 1)).floor() - self.shift

    def _change_color(self, views: Tensor, uniforms: Tensor) -> None:
        """Make the four changes in each image's own order and strengths; in place, in a CPU's cache.

        Hue costs most, so it is turned once for all: the other three have their turn before it and again
        behind it, and change an image in the turn that its order says.
        """
        order, drawn = uniforms[:4].argsort(dim=0), uniforms[4:8]  # (4, N)
        jittered = uniforms[8] < self.jitter_probability  # (N,)
        limits = [(max(0.0, 1 - strength), 1 + strength) for strength in self.jitter[:3]]
        factors = torch.stack([_between(drawn[i], *limits[i]) for i in range(3)])  # (3, N)
        place = torch.arange(4, device=order.device)[:, None]
        hue_at = (order == 3).int().argmax(dim=0)
        active = torch.cat([(place < hue_at)[:3], (place > hue_at)[1:]]) & jittered  # (6, N)
        change = torch.cat([order[:3], order[1:]])
        share = torch.where(active, factors.gather(0, change.clamp(max=2)), 1)  # 1 changes nothing
        mean, own = (1 - share) * (change == 1), (1 - share) * (change == 2)
        # blend with black (brightness), an image's mean gray (contrast) or each pixel's own (saturation)
        for turn in range(6):
            if turn == 3:
                turn_hue_(views, _between(drawn[3], -self.jitter[3], self.jitter[3]) * jittered)
            gray = _gray(views)
            average = mean[turn] * gray.mean(dim=(1, 2, 3))
            gray.mul_(_each(own[turn])).add_(_each(average))
            views.mul_(_each(share[turn])).add_(gray).clamp_(0, 1)


GEOMETRY_UNIFORMS, COLOR_UNIFORMS = 9, 9
"""For crop, shift, turn, zoom and flip; for the order, strengths and chance of the changes of color."""

CROP = {"crop_ratio": (3 / 4, 4 / 3), "flip": 0.5, "padding": "border"}
JITTER = {"jitter": (0.4, 0.4, 0.4, 0.1), "jitter_probability": 0.8, "grayscale": 0.2}
AUGMENTATIONS = {
    "none": Augment(),
    "affine": Augment(degrees=15, translate=0.1, zoom=(0.85, 1.15)),
    "crop": Augment(crop_scale=(0.2, 1.0), **CROP),
    "shift": Augment(shift=4, flip=0.5, padding="reflection"),
    "crop_jitter_light": Augment(crop_scale=(0.4, 1.0), **CROP, **JITTER),
    "crop_jitter": Augment(crop_scale=(0.2, 1.0), **CROP, **JITTER),
}
"""For digits "affine"; as in SupContrast and GenSCL v1 "crop_jitter" for training, "crop" for their probe."""


@dataclass(frozen=True)
class OwnAugment:
    """A view of each image by a function of your own, such as a torchvision v2 transform.

    It is called image by image, with (channels, H, W) float32 in [0, 1], as torchvision's transforms draw once
    for all images that they are given. What it draws from torch's global generator is decided by the run's
    own: the image's uniform number is the seed, so a resumed run sees the same views.
    """

    transform: Callable[[Tensor], Tensor]
    uniforms_per_image = 1
    crop_scale = crop_ratio = (1.0, 1.0)

    def without_crop(self) -> "OwnAugment":
        return self

    def draw(self, images: int, generator: Generator | None = None) -> Tensor:
        return torch.rand(1, images, generator=generator)

    def apply(self, images: Tensor, uniforms: Tensor) -> Tensor:
        views, devices = [], [images.device] if images.is_cuda else []
        with torch.random.fork_rng(devices):
            for image, seed in zip(
                as_unit_float(images), (uniforms[0] * 2**31).tolist(), strict=True
            ):
                torch.manual_seed(int(seed))
                views.append(self._view(image))
        return torch.stack(views).float()

    def _view(self, image: Tensor) -> Tensor:
        try:
            view = self.transform(image)
        except Exception as error:  # whatever somebody else's function does
            raise ValueError(f"augmentation: the transform fails: {one_line(error)}") from error
        if not isinstance(view, Tensor) or view.shape != image.shape:
            raise ValueError(
                f"augmentation: expected a view of shape {tuple(image.shape)} of such an image, "
                f"got {tuple(getattr(view, 'shape', ())) or type(view).__name__}"
            )
        if not view.is_floating_point():
            raise ValueError(f"augmentation: expected a floating point view, got {view.dtype}")
        least, most = view.aminmax()
        if not (least > -0.5 and most < 1.5):  # NaN too; bicubic interpolation may overshoot
            raise ValueError(
                f"augmentation: expected a view with values in [0, 1], got {least:.3g} to "
                f"{most:.3g}; leave out normalization, which the run adds"
            )
        return view


def check_augmentation(name: str) -> None:
    """Raise ValueError unless the name is one of ``AUGMENTATIONS`` or like "module:function"."""
    if not names_a_function(name):
        require_choice("augmentation", name, [*AUGMENTATIONS, "module:function"])


def build_augment(name: str) -> Augment | OwnAugment:
    """Return one of ``AUGMENTATIONS``, or the transform that the function "module:function" returns.

    Raises:
        ValueError: the name is unknown, or the function is not there or returns nothing to call.
    """
    check_augmentation(name)
    if name in AUGMENTATIONS:
        return AUGMENTATIONS[name]
    make = import_function("augmentation", name)
    try:
        transform = make()
    except Exception as error:
        raise ValueError(f"augmentation: {name}() fails: {one_line(error)}") from error
    if not callable(transform):
        raise ValueError(f"augmentation: {name} should return a transform, got {transform!r}")
    return OwnAugment(transform)


def check_channels(parameter: str, name: str, channels: int) -> None:
    """Raise ValueError if an augmentation changes colors and images have no 3 channels.

    >>> check_channels("augmentation", "crop_jitter", 1)
    Traceback (most recent call last):
    ValueError: augmentation: crop_jitter changes colors of 3 channels, the images have 1; choose none, affine, crop or shift
    """
    made = AUGMENTATIONS.get(name)  # one of your own says itself what it needs
    if channels != 3 and made and made.needs_rgb:
        *others, last = [other for other, made in AUGMENTATIONS.items() if not made.needs_rgb]
        raise ValueError(
            f"{parameter}: {name} changes colors of 3 channels, the images have {channels}; "
            f"choose {', '.join(others)} or {last}"
        )


def as_unit_float(images: Tensor) -> Tensor:
    """Bring uint8 images to float32 in [0, 1]; floating point ones keep their values."""
    if images.ndim != 4 or not (images.dtype == torch.uint8 or images.is_floating_point()):
        raise ValueError(
            f"images: expected uint8 or floating point (N, channels, height, width), "
            f"got {images.dtype} of shape {tuple(images.shape)}"
        )
    return images.float().div_(255) if images.dtype == torch.uint8 else images.float()


def affine_map(angle, zoom, x, y, width, height, aspect: float = 1.0) -> Tensor:
    """Compose (N, 2, 3) maps from view to image, both in coordinates from -1 to 1.

    The image is turned by ``angle`` degrees (positive: clockwise, as in torchvision), magnified by ``zoom``;
    of the result the view shows a window of ``width`` and ``height`` (shares of the whole; a negative width
    mirrors) around (x, y): image = turn^-1 / zoom * (size * view + (x, y)). ``aspect`` is the image's
    width / height; all other arguments have shape (N,).
    """
    cos, sin = angle.deg2rad().cos() / zoom, angle.deg2rad().sin() / zoom
    right, down = sin / aspect, sin * aspect
    return torch.stack(
        [
            torch.stack([cos * width, right * height, cos * x + right * y], dim=1),
            torch.stack([-down * width, cos * height, -down * x + cos * y], dim=1),
        ],
        dim=1,
    )


def warp(images: Tensor, theta: Tensor, padding: str = "zeros") -> Tensor:
    """Sample (N, channels, H, W) images bilinearly where (N, 2, 3) ``theta`` maps each pixel of the view."""
    height, width = images.shape[2:]
    x, y = (
        torch.arange(1 - size, size, 2, device=images.device) / size for size in (width, height)
    )
    pixels = torch.stack([x.repeat(height), y.repeat_interleave(width), x.new_ones(height * width)])
    grid = (
        (theta.to(images).flatten(0, 1) @ pixels.to(images))
        .view(-1, 2, height, width)
        .movedim(1, 3)
    )
    return F.grid_sample(images, grid, mode="bilinear", padding_mode=padding, align_corners=False)


def turn_hue_(images: Tensor, turns: Tensor) -> Tensor:
    """Turn the hue of (N, 3, H, W) RGB images in [0, 1] in place, by (N,) turns of the color circle."""
    red, green, blue = images.unbind(dim=1)  # (N, H, W)
    value = torch.maximum(torch.maximum(red, green), blue)
    chroma = value - torch.minimum(torch.minimum(red, green), blue)
    safe = chroma.clamp(min=1e-12)
    # lerp chooses quicker than where
    is_red, is_green = (value == red).float(), (value == green).float()
    hue = torch.lerp((red - green).div_(safe).add_(4), (blue - red).div_(safe).add_(2), is_green)
    hue = hue.lerp_((green - blue).div_(safe), is_red).add_(6 * turns[:, None, None])
    hue = hue.sub_((hue / 6).floor_(), alpha=6)  # in sixths of the circle
    # how far each channel falls from value, in parts of chroma
    falls = 2 - (hue - 3).abs_(), (hue - 2).abs_().sub_(1), (hue - 4).abs_().sub_(1)
    turned = (turns != 0).float()[:, None, None]  # others keep every bit
    for channel, fall in zip((red, green, blue), falls, strict=True):
        # value - chroma fall
        channel.lerp_(fall.clamp_(0, 1).mul_(chroma).sub_(value).neg_(), turned)
    return images


def _gray(images: Tensor) -> Tensor:
    """Return the (N, 1, H, W) brightness of (N, 3, H, W) images."""
    red, green, blue = images.split(1, dim=1)
    return (GRAY[0] * red).add_(green, alpha=GRAY[1]).add_(blue, alpha=GRAY[2])


def _each(values: Tensor) -> Tensor:
    """Shape (N,) values to meet (N, channels, H, W) images."""
    return values[:, None, None, None]


def _between(uniforms: Tensor, low: float, high: float) -> Tensor:
    return low + (high - low) * uniforms
