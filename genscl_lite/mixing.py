"""MixUp and CutMix: images and label distributions in, the same out.

Both are one operation. A blend map b in [0, 1] of the size of an image says how much of each pixel comes from
the image itself; the rest comes from a partner, drawn by a random permutation of the batch:

    x' = b x + (1 - b) x[partner]        y' = lam y + (1 - lam) y[partner],   lam = mean of b

MixUp (arXiv 1710.09412) has a constant map, CutMix (arXiv 1905.04899) a map with a hole. Because lam is the
mean of the map, it is right also where CutMix's box is clipped at the border.

``generator`` is drawn from on its own device; a CPU generator gives the same mix on every device. What is
drawn, a ``Mixture``, is apart from what is done with it, ``blend``, a function of tensors alone.
"""

from typing import NamedTuple

import torch
from torch import Generator, Tensor

from genscl_lite._checks import require_choice, require_instances, require_positive

MIXINGS = ("mixup_cutmix", "mixup", "cutmix")


def mixup(
    images: Tensor,
    labels: Tensor,
    *,
    alpha: float = 1.0,
    per_image: bool = False,
    generator: Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Blend each image with a partner: lam ~ Beta(alpha, alpha), one for the batch or one for each image.

    Args:
        images: (N, channels, height, width), floating point.
        labels: (N, C) distributions.
        alpha: > 0; 1 is uniform, near 0 leaves images nearly whole.
        per_image: draw lam for each image instead of once for the batch.
        generator: source of randomness; default: torch's global one.

    Returns:
        Mixed images and labels, of the shapes that came in.

    Raises:
        ValueError: images are not floating point, labels not (N, C), or alpha is not above 0.

    >>> x, y = torch.rand(4, 1, 8, 8), torch.eye(4)
    >>> [t.shape for t in mixup(x, y)]
    [torch.Size([4, 1, 8, 8]), torch.Size([4, 4])]
    """
    return mix(
        images, labels, mixing="mixup", alpha=alpha, per_image=per_image, generator=generator
    )


def cutmix(
    images: Tensor,
    labels: Tensor,
    *,
    alpha: float = 1.0,
    per_image: bool = False,
    generator: Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Replace a box of each image by its partner's: sides sqrt(1 - lam) of the image's, uniform centre.

    The box is clipped; labels have the share of the pixels really kept. All else: see ``mixup``.

    >>> x, y = torch.zeros(2, 1, 8, 8), torch.eye(2)
    >>> bool(torch.isclose(cutmix(x, y)[1].sum(), torch.tensor(2.0)))
    True
    """
    return mix(
        images, labels, mixing="cutmix", alpha=alpha, per_image=per_image, generator=generator
    )


def mixup_or_cutmix(
    images: Tensor,
    labels: Tensor,
    *,
    alpha: float = 1.0,
    per_image: bool = False,
    generator: Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Flip a fair coin, for the batch or for each image, between ``mixup`` and ``cutmix``.

    It is GenSCL's "MixUp-CutMix". Arguments, returns and errors: see ``mixup``.

    >>> x, y = torch.rand(4, 3, 8, 8), torch.eye(4)
    >>> bool((mixup_or_cutmix(x, y, per_image=True)[1] >= 0).all())
    True
    """
    return mix(
        images, labels, mixing="mixup_cutmix", alpha=alpha, per_image=per_image, generator=generator
    )


def mix(
    images: Tensor,
    labels: Tensor,
    *,
    mixing: str = "mixup_cutmix",
    alpha: float = 1.0,
    per_image: bool = False,
    generator: Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Mix by name: "mixup", "cutmix" or "mixup_cutmix". Arguments, returns and errors: see ``mixup``.

    >>> mix(torch.rand(2, 1, 8, 8), torch.eye(2), mixing="cut_mix")
    Traceback (most recent call last):
    ValueError: mixing: 'cut_mix' is unknown (did you mean 'cutmix'?); expected one of mixup_cutmix, ...
    """
    _check(images, labels)
    mixture = draw_mixture(
        len(images),
        images.shape[2:],
        mixing=mixing,
        alpha=alpha,
        per_image=per_image,
        generator=generator,
    )
    return blend(images, labels, Mixture(*(part.to(images.device) for part in mixture)))


class Mixture(NamedTuple):
    """What decides how N images are mixed; all of shape (N,)."""

    lam: Tensor  # the image's share, before a box is clipped
    row: Tensor  # centre of CutMix's box, in pixels from the top
    column: Tensor  # the same from the left
    cuts: Tensor  # True: CutMix, False: MixUp
    partner: Tensor  # index of the image mixed in


def draw_mixture(
    images: int,
    size: tuple[int, int],
    *,
    mixing: str,
    alpha: float,
    per_image: bool,
    generator: Generator | None = None,
) -> Mixture:
    """Draw how to mix so many images of (height, width) ``size``. Other arguments and errors: see ``mix``."""
    require_choice("mixing", mixing, MIXINGS)
    require_positive("alpha", alpha)
    device = generator.device if generator is not None else "cpu"
    count = images if per_image else 1
    lam = _draw_beta(alpha, count, generator, device)
    row = column = torch.zeros(count, dtype=torch.long, device=device)
    cuts = torch.zeros(count, dtype=torch.bool, device=device)
    if mixing != "mixup":
        row, column = (
            torch.randint(pixels, (count,), generator=generator, device=device) for pixels in size
        )
        cuts = (torch.rand(count, generator=generator, device=device) >= 0.5) | (mixing == "cutmix")
    partner = torch.randperm(images, generator=generator, device=device)
    return Mixture(*(part.expand(images) for part in (lam, row, column, cuts)), partner)


def blend(images: Tensor, labels: Tensor, mixture: Mixture) -> tuple[Tensor, Tensor]:
    """Mix (N, channels, height, width) images and (N, C) labels as drawn, on their device."""
    lam, row, column, cuts, partner = mixture
    precise = torch.promote_types(labels.dtype, torch.float32)
    side, inside_box = (1 - lam).sqrt(), []
    for size, centre in zip(images.shape[2:], (row, column), strict=True):
        half = (side * size).int() // 2
        pixel = torch.arange(size, device=images.device)
        inside_box.append((pixel >= (centre - half)[:, None]) & (pixel < (centre + half)[:, None]))
    in_rows, in_columns = inside_box  # (N, height), (N, width)
    kept = (
        1 - (in_rows.sum(dim=1) * in_columns.sum(dim=1)).to(precise) / images.shape[2:].numel()
    )  # (N,)
    in_rows = torch.where(
        cuts[:, None], in_rows, (1 - lam)[:, None]
    )  # MixUp's box is the image, but thin
    in_box = (
        in_rows[:, None, :, None] * (in_columns | ~cuts[:, None])[:, None, None, :]
    )  # (N, 1, H, W)
    lam = torch.where(cuts, kept, lam.to(precise)).to(labels)[:, None]  # (N, 1)
    mixed = images.index_select(0, partner).lerp_(
        images, (1 - in_box).to(images)
    )  # in a CPU's cache
    return mixed, torch.lerp(labels[partner], labels, lam)


def _draw_beta(
    alpha: float, count: int, generator: Generator | None, device: torch.device | str
) -> Tensor:
    """Draw (count,) from Beta(alpha, alpha). torch's takes no generator, so a number of its seeds NumPy's."""
    try:
        import numpy as np
    except ImportError:
        raise ImportError(
            "mixup and cutmix draw their shares with NumPy: "
            "pip install numpy (or 'genscl-lite[train]')"
        ) from None
    seed = torch.randint(2**62, (), generator=generator, device=device).item()
    lam = np.random.default_rng(seed).beta(alpha, alpha, count)
    return torch.from_numpy(lam.astype(np.float32)).to(device)


def _check(images: Tensor, labels: Tensor) -> None:
    require_instances(Tensor, images=images, labels=labels)
    if images.ndim != 4 or 0 in images.shape[2:] or not images.is_floating_point():
        raise ValueError(
            f"images: expected floating point (N, channels, height, width), "
            f"got {images.dtype} of shape {tuple(images.shape)}"
        )
    if labels.ndim != 2 or not labels.is_floating_point() or len(labels) != len(images):
        raise ValueError(
            f"labels: expected floating point distributions ({len(images)}, C), "
            f"got {labels.dtype} of shape {tuple(labels.shape)}; one-hot class numbers first"
        )
