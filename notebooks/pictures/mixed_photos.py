"""``python notebooks/pictures/mixed_photos.py FOLDER``: make the picture of mixed photographs in notebook 04.

FOLDER holds the files of CIFAR-10. The picture is committed, because the course must run without them.
"""

import sys
from pathlib import Path

import torch

from genscl_lessons.figures.mixup_cutmix import show_mixed_photos
from genscl_lite.datasets import load_dataset
from genscl_lite.mixing import Mixture, blend
from genscl_lite.train.augment import as_unit_float

PARENTS = (91, 43)
"""A cat and a horse, by their numbers among the training images."""
SHARES = torch.tensor([1.0, 0.7, 0.5, 0.3, 0.0])
CENTRES = torch.tensor([[16, 16], [18, 20], [8, 20], [14, 18], [16, 16]])

if __name__ == "__main__":
    cifar = load_dataset("cifar10", sys.argv[1])
    names = [cifar.class_names[cifar.train_labels[k]] for k in PARENTS]
    parents = as_unit_float(cifar.train_images[list(PARENTS)])  # (2, 3, 32, 32)
    count = len(SHARES)
    images, labels = parents.repeat(count, 1, 1, 1), torch.eye(2).repeat(count, 1)
    lam, partner = SHARES.repeat_interleave(2), torch.arange(2 * count) ^ 1
    rows = {}
    for name, cuts in (("MixUp", False), ("CutMix", True)):
        drawn = Mixture(
            lam, *CENTRES.repeat_interleave(2, dim=0).T, torch.full((2 * count,), cuts), partner
        )
        mixed, mixed_labels = blend(images, labels, drawn)
        rows[name] = mixed[::2].numpy(), mixed_labels[::2].numpy()
    show_mixed_photos(rows, names).savefig(Path(__file__).with_suffix(".png"), dpi=100)
