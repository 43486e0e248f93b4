"""MixUp and CutMix: images and labels in, mixed images and label distributions out.

Both are one operation. A blend map b in [0, 1], as large as an image, says how much of each pixel comes from
the image itself; the rest comes from a partner, drawn by a random permutation of the batch:

    x' = b x + (1 - b) x[partner]        y' = lam y + (1 - lam) y[partner],   lam = mean of b

MixUp (arXiv 1710.09412) has a constant map, CutMix (arXiv 1905.04899) a map with a hole. Because lam is the
mean of the map, it is also right when CutMix's box is clipped at the border.

What is drawn, a ``Mixture``, is apart from what is done with it: ``blend`` is a function of tensors alone.
Numbers are drawn on the device of the ``generator``, so a CPU generator gives the same mix on every device.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Generator, Tensor
from torch.utils.data import get_worker_info

from genscl_lite._checks import require_choice, require_instances, require_positive, require_whole
from genscl_lite._rows import one_hot

MIXINGS = ("mixup_cutmix", "mixup", "cutmix")


def mixup(
    images: Tensor,
    labels: Tensor,
    *,
    alpha: float = 1.0,
    num_classes: int | None = None,
    per_image: bool = False,
    probability: float = 1.0,
    generator: Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Blend each image with a partner: lam ~ Beta(alpha, alpha).

    Args:
        images: (N, ...), floating point: images, signals, features.
        labels: (N, C) distributions, or (N,) class numbers with ``num_classes``.
        alpha: > 0; 1 draws lam uniformly, values near 0 leave images nearly whole.
        num_classes: C; needed for class numbers.
        per_image: draw lam for each image instead of once for the batch.
        probability: of mixing at all, in [0, 1]; drawn for each image or once for the batch, as
            ``per_image`` says. What is not mixed comes back unchanged.
        generator: source of randomness; default: torch's global one.

    Returns:
        Mixed images, of the same shape and type, and (N, C) label distributions, of the type of ``labels``
        (float32 for class numbers).

    Raises:
        ValueError: an argument has the wrong shape, type or range.

    >>> x, y = mixup(torch.rand(4, 1, 8, 8), torch.tensor([0, 2, 1, 2]), num_classes=3)
    >>> x.shape, y.shape
    (torch.Size([4, 1, 8, 8]), torch.Size([4, 3]))
    """
    return mix(
        images,
        labels,
        mixing="mixup",
        alpha=alpha,
        num_classes=num_classes,
        per_image=per_image,
        probability=probability,
        generator=generator,
    )


def cutmix(
    images: Tensor,
    labels: Tensor,
    *,
    alpha: float = 1.0,
    num_classes: int | None = None,
    per_image: bool = False,
    probability: float = 1.0,
    generator: Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Replace a box of each image by its partner's: sides sqrt(1 - lam) of the image's, uniform center.

    The box is clipped at the border; labels get the share of the pixels that are kept. ``images`` must be
    (N, channels, height, width). For everything else see ``mixup``.

    >>> x, y = cutmix(torch.zeros(2, 1, 8, 8), torch.eye(2))
    >>> bool(torch.isclose(y.sum(), torch.tensor(2.0)))
    True
    """
    return mix(
        images,
        labels,
        mixing="cutmix",
        alpha=alpha,
        num_classes=num_classes,
        per_image=per_image,
        probability=probability,
        generator=generator,
    )


def mixup_or_cutmix(
    images: Tensor,
    labels: Tensor,
    *,
    alpha: float = 1.0,
    num_classes: int | None = None,
    per_image: bool = False,
    probability: float = 1.0,
    generator: Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Flip a fair coin, for the batch or for each image, between ``mixup`` and ``cutmix``.

    This is GenSCL's "MixUp-CutMix". ``images`` must be (N, channels, height, width). For everything else see
    ``mixup``.

    >>> x, y = torch.rand(4, 3, 8, 8), torch.eye(4)
    >>> bool((mixup_or_cutmix(x, y, per_image=True)[1] >= 0).all())
    True
    """
    return mix(
        images,
        labels,
        mixing="mixup_cutmix",
        alpha=alpha,
        num_classes=num_classes,
        per_image=per_image,
        probability=probability,
        generator=generator,
    )


@dataclass(frozen=True, kw_only=True)
class MixUpOrCutMix:
    """``mixup_or_cutmix`` as an object that keeps its options and is called with a batch.

    In a ``collate_fn`` it mixes in the loader, as torchvision's do: ``lambda batch:
    mix(*default_collate(batch))``. For arguments and errors see ``mixup``. With workers, leave ``generator``
    out: the loader seeds each worker's global one, whereas copies of yours would all draw the same.

    >>> from torch.utils.data import DataLoader, TensorDataset, default_collate
    >>> data, mix = TensorDataset(torch.rand(8, 3, 4, 4), torch.arange(8) % 5), MixUpOrCutMix(num_classes=5)
    >>> x, y = next(iter(DataLoader(data, 4, collate_fn=lambda batch: mix(*default_collate(batch)))))
    >>> x.shape, y.shape
    (torch.Size([4, 3, 4, 4]), torch.Size([4, 5]))
    """

    num_classes: int | None = None
    alpha: float = 1.0
    per_image: bool = False
    probability: float = 1.0
    generator: Generator | None = None
    mixing: ClassVar[str] = "mixup_cutmix"

    def __post_init__(self) -> None:
        _check_options(self.mixing, self.alpha, self.num_classes, self.probability)

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        if self.generator is not None and get_worker_info() is not None:
            raise ValueError(
                "generator: expected None in a DataLoader's worker, as every worker would draw the "
                "same from its copy; DataLoader(generator=...) seeds the workers"
            )
        return mix(images, labels, mixing=self.mixing, **vars(self))


class MixUp(MixUpOrCutMix):
    """``mixup`` as an object that keeps its options, see ``MixUpOrCutMix``.

    >>> MixUp(num_classes=2)(torch.rand(3, 100), torch.tensor([0, 1, 1]))[1].shape
    torch.Size([3, 2])
    """

    mixing = "mixup"


class CutMix(MixUpOrCutMix):
    """``cutmix`` as an object that keeps its options, see ``MixUpOrCutMix``.

    >>> CutMix(alpha=0)
    Traceback (most recent call last):
    ValueError: alpha: expected a number above 0, got 0
    """

    mixing = "cutmix"


def mix(
    images: Tensor,
    labels: Tensor,
    *,
    mixing: str = "mixup_cutmix",
    alpha: float = 1.0,
    num_classes: int | None = None,
    per_image: bool = False,
    probability: float = 1.0,
    generator: Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Mix by name: "mixup", "cutmix" or "mixup_cutmix". Arguments, returns and errors: see ``mixup``.

    >>> mix(torch.rand(2, 1, 8, 8), torch.eye(2), mixing="cut_mix")
    Traceback (most recent call last):
    ValueError: mixing: 'cut_mix' is unknown (did you mean 'cutmix'?); expected one of mixup_cutmix, ...
    """
    _check_options(mixing, alpha, num_classes, probability)
    _check_images(images, mixing)
    labels = _distributions(labels, len(images), num_classes)
    mixture = draw_mixture(
        len(images),
        images.shape[2:],
        mixing=mixing,
        alpha=alpha,
        per_image=per_image,
        probability=probability,
        generator=generator,
    )
    return blend(images, labels, Mixture(*(part.to(images.device) for part in mixture)))


class Mixture(NamedTuple):
    """How N images are mixed; all of shape (N,)."""

    lam: Tensor  # the image's share, before a box is clipped; 1: it stays whole
    row: Tensor  # center of CutMix's box, in pixels from the top
    column: Tensor  # the same from the left
    cuts: Tensor  # True: CutMix, False: MixUp
    partner: Tensor  # index of the image mixed in


def draw_mixture(
    images: int,
    size: tuple[int, ...],
    *,
    mixing: str,
    alpha: float,
    per_image: bool,
    probability: float = 1.0,
    generator: Generator | None = None,
) -> Mixture:
    """Draw how to mix a number of images of (height, width) ``size``, which "mixup" does not need.

    For the other arguments see ``mix``, which checks them.
    """
    device = generator.device if generator is not None else "cpu"
    count = images if per_image else 1
    mixed = torch.rand(count, generator=generator, device=device) < probability
    lam = torch.where(mixed, _draw_beta(alpha, count, generator, device), 1)
    row = column = torch.zeros(count, dtype=torch.long, device=device)
    cuts = torch.zeros(count, dtype=torch.bool, device=device)
    if mixing != "mixup":
        row, column = (
            torch.randint(pixels, (count,), generator=generator, device=device) for pixels in size
        )
        cuts = (torch.rand(count, generator=generator, device=device) >= 0.5) | (mixing == "cutmix")
    partner = torch.randperm(images, generator=generator, device=device)
    lam, row, column, cuts = (part.expand(images) for part in (lam, row, column, cuts))
    return Mixture(lam, row, column, cuts, partner)


def blend(images: Tensor, labels: Tensor, mixture: Mixture) -> tuple[Tensor, Tensor]:
    """Mix (N, ...) images and (N, C) labels as drawn, on their device; boxes need (N, channels, H, W)."""
    lam = mixture.lam.to(torch.promote_types(labels.dtype, torch.float32))
    if images.ndim == 4:
        others, lam = _others_share(mixture, images.shape[2:], lam)
    else:
        others = (1 - mixture.lam).reshape(-1, *[1] * (images.ndim - 1))
    mixed = images.index_select(0, mixture.partner)
    mixed = mixed.lerp_(images, (1 - others).to(images))  # in place, in a CPU's cache
    return mixed, torch.lerp(labels[mixture.partner], labels, lam.to(labels)[:, None])


def _others_share(mixture: Mixture, size: torch.Size, lam: Tensor) -> tuple[Tensor, Tensor]:
    """Return the partner's share of each pixel, (N, 1, height, width), and the image's own of all, (N,)."""
    cuts, side, inside = mixture.cuts, (1 - mixture.lam).sqrt(), []
    for pixels, center in zip(size, (mixture.row, mixture.column), strict=True):
        half = (side * pixels).int() // 2
        pixel = torch.arange(pixels, device=side.device)
        inside.append((pixel >= (center - half)[:, None]) & (pixel < (center + half)[:, None]))
    in_rows, in_columns = inside  # (N, height), (N, width)
    kept = 1 - (in_rows.sum(dim=1) * in_columns.sum(dim=1)).to(lam) / size.numel()  # (N,)
    # MixUp's box is the whole image, of the partner's share in it
    in_rows = torch.where(cuts[:, None], in_rows, (1 - mixture.lam)[:, None])
    in_box = in_rows[:, None, :, None] * (in_columns | ~cuts[:, None])[:, None, None, :]
    return in_box, torch.where(cuts, kept, lam)


def _draw_beta(
    alpha: float, count: int, generator: Generator | None, device: torch.device | str
) -> Tensor:
    """Draw (count,) from Beta(alpha, alpha), the share of one of two Gamma(alpha) variates in their sum.

    log Gamma(alpha) = log Gamma(alpha + 1) - E / alpha with E ~ Exp(1), so that no small alpha underflows.
    torch._standard_gamma is what torch.distributions draws with, which takes no generator.
    """
    if alpha == 1:
        return torch.rand(count, generator=generator, device=device)
    shape = torch.full((2, count), alpha + 1, device=device)
    exponential = torch.empty(2, count, device=device).exponential_(generator=generator)
    first, second = torch._standard_gamma(shape, generator=generator).log() - exponential / alpha
    return torch.sigmoid(first - second)


def _check_options(mixing: str, alpha: float, num_classes: int | None, probability: float) -> None:
    require_choice("mixing", mixing, MIXINGS)
    require_positive("alpha", alpha)
    if num_classes is not None:
        require_whole("num_classes", num_classes)
    if not hasattr(probability, "__float__") or not 0 <= probability <= 1:
        raise ValueError(f"probability: expected a number in [0, 1], got {probability!r}")


def _check_images(images: Tensor, mixing: str) -> None:
    require_instances(Tensor, images=images)
    right_shape = images.ndim >= 2 if mixing == "mixup" else images.ndim == 4
    if not right_shape or 0 in images.shape[2:] or not images.is_floating_point():
        shape = "(N, ...)" if mixing == "mixup" else "(N, channels, height, width)"
        raise ValueError(
            f"images: expected floating point {shape}, "
            f"got {images.dtype} of shape {tuple(images.shape)}"
        )


def _distributions(labels: Tensor, images: int, num_classes: int | None) -> Tensor:
    """Return labels as (N, C) distributions, class numbers as one-hot ones; or raise ValueError."""
    require_instances(Tensor, labels=labels)
    came = f"got {labels.dtype} of shape {tuple(labels.shape)}"
    if labels.ndim == 2 and labels.is_floating_point() and len(labels) == images:
        if num_classes not in (None, labels.shape[1]):
            raise ValueError(f"labels: expected distributions over {num_classes} classes, {came}")
        return labels
    integers = not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
    if labels.shape != (images,) or not integers or num_classes is None:
        raise ValueError(
            f"labels: expected floating point distributions ({images}, C), or integers ({images},) "
            f"with num_classes=, {came}"
        )
    distributions = one_hot(labels.long(), num_classes)
    if not distributions.any(dim=1).all():  # a row without a 1 has no such class
        lowest, highest = (int(end) for end in labels.long().aminmax())
        raise ValueError(
            f"labels: expected class numbers from 0 to {num_classes - 1}, got {lowest} to {highest}"
        )
    return distributions
