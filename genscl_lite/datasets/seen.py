"""What is remembered of images that were looked at: little enough for millions of them."""

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Seen:
    """Of N images, in their order: a hash of each, and which of its channels have one value all over."""

    hashes: list[bytes]
    constant: Tensor  # (N, channels) bool
    first: Tensor  # (N, channels), the value of the first pixel

    @classmethod
    def of(cls, images: Tensor) -> "Seen":
        """Look at (N, channels, H, W) images of any type.

        >>> seen = Seen.of(torch.tensor([[[[1, 2]], [[3, 3]]]]))
        >>> seen.constant, seen.first
        (tensor([[False,  True]]), tensor([[1, 3]]))
        """
        hashes, constant = [], []
        for part in images.split(1000):
            part = part.cpu().contiguous()
            constant.append((part == part[:, :, :1, :1]).flatten(2).all(dim=2))
            rows = part.flatten(1).view(torch.uint8).numpy()
            hashes += [hashlib.blake2b(row, digest_size=16).digest() for row in rows]
        return cls(hashes, torch.cat(constant), images[:, :, 0, 0].cpu())

    def __getitem__(self, rows: list[int]) -> "Seen":
        return Seen([self.hashes[row] for row in rows], self.constant[rows], self.first[rows])

    @property
    def plain(self) -> list[int]:
        """Images of a single color."""
        return self.constant.all(dim=1).nonzero()[:, 0].tolist()

    @property
    def constant_channels(self) -> list[int]:
        """Channels that have the same value in all images."""
        same = self.constant.all(dim=0) & (self.first == self.first[:1]).all(dim=0)
        return same.nonzero()[:, 0].tolist()


def moments(images: Tensor) -> Tensor:
    """Return the exact sums of values and of their squares of uint8 (N, channels, H, W): int64 (N, 2, channels).

    >>> moments(torch.tensor([[[[1, 2]], [[200, 3]]]], dtype=torch.uint8))
    tensor([[[    3,   203],
             [    5, 40009]]])
    """
    values = images.flatten(2).int()
    return torch.stack([values.sum(dim=2), (values * values).sum(dim=2)], dim=1)


def mean_and_std(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and deviation of each channel of uint8 (N, channels, H, W) in [0, 1], to 4 digits.

    >>> mean_and_std(torch.tensor([[[[0, 255]]]], dtype=torch.uint8))
    ((0.5,), (0.7071,))
    """
    sums = sum(moments(part).sum(dim=0) for part in images.split(1000))
    return mean_and_std_of(sums, images[:, 0].numel())


def mean_and_std_of(sums: Tensor, pixels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the same from (2, channels) ``moments``, summed over images of so many pixels in all.

    A constant channel has the deviation 1, as in scikit-learn, so that it can be divided by.
    """
    totals, squares = sums.tolist()
    mean = [total / pixels / 255 for total in totals]
    variance = [
        (pixels * square - total**2) / (pixels * max(pixels - 1, 1)) / 255**2
        for total, square in zip(totals, squares, strict=True)
    ]
    return tuple(round(m, 4) for m in mean), tuple(round(v**0.5, 4) or 1.0 for v in variance)
