"""One read-out for all rows: a regularized linear probe on standardized features, fitted until it converges.

Classifiers are read like contrastive encoders, so rows differ in what they learned and not in how they were asked.
"""

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from genscl_lite._checks import check_labels, check_rows, require_instances

STRENGTHS = (1.0, 0.1, 0.01, 0.001)
"""Weights of the penalty |W|^2 / 2 beside the mean cross-entropy, strongest first."""
FOLDS, MANY_ROWS = 5, 2000
"""The strength is chosen by so many folds; of more training images, one fold is left out only once."""


def fit_read_out(features: Tensor, labels: Tensor, classes: int, seed: int = 0) -> nn.Linear:
    """Fit softmax regression with a penalty to features; return it as one layer on features as they come.

    Minimizes mean cross-entropy + strength / 2 |W|^2 on features of mean 0 and deviation 1, by L-BFGS. The
    strength is the one of ``STRENGTHS`` with the least cross-entropy on training features left out.

    Args:
        features: (N, F) of the training images, finite.
        labels: (N,) class numbers from 0 to ``classes`` - 1.
        classes: C.
        seed: which images are left out.

    Raises:
        ValueError: shapes or labels do not fit, a feature is not finite, or no feature varies.

    >>> x = torch.tensor([[0.0], [0.1], [0.9], [1.0]])
    >>> fit_read_out(x, torch.tensor([0, 0, 1, 1]), 2)(x).argmax(dim=1)
    tensor([0, 0, 1, 1])
    """
    require_instances(Tensor, features=features, labels=labels)
    check_rows("features", features)
    check_labels("labels", labels, len(features))
    if len(labels) and int(labels.max()) >= classes:
        raise ValueError(f"labels: expected class numbers below {classes}, got {int(labels.max())}")
    features = features.float()
    std, mean = torch.std_mean(features, dim=0, correction=0)
    varies = std > 1e-6 * features.abs().amax(dim=0)  # more than rounding
    if not varies.any():
        raise ValueError("features: all rows are the same, so nothing can be read from them")
    std = std.where(varies, torch.inf)  # what does not vary is left out
    x, y = (features - mean) / std, labels.long()
    weight, bias = _minimize(x, y, classes, _choose_strength(x, y, classes, seed))
    layer = nn.Linear(features.shape[1], classes, device=features.device)
    with torch.no_grad():
        layer.weight.copy_(weight / std)
        layer.bias.copy_(bias - layer.weight @ mean)
    return layer


def _choose_strength(x: Tensor, y: Tensor, classes: int, seed: int) -> float:
    if len(x) < 2:
        return STRENGTHS[0]
    order = torch.randperm(len(x), generator=Generator().manual_seed(seed)).to(x.device)
    folds = order.tensor_split(min(FOLDS, len(x)))
    totals = torch.zeros(len(STRENGTHS))
    for left_out in folds[: 1 if len(x) > MANY_ROWS else None]:
        kept = torch.ones(len(x), dtype=torch.bool, device=x.device)
        kept[left_out] = False
        found = None
        for place, strength in enumerate(STRENGTHS):
            found = _minimize(x[kept], y[kept], classes, strength, found)
            logits = F.linear(x[left_out], *found)
            totals[place] += float(F.cross_entropy(logits, y[left_out], reduction="sum"))
    return STRENGTHS[int(totals.argmin())]


def _minimize(
    x: Tensor, y: Tensor, classes: int, strength: float, start: tuple[Tensor, Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """Return the (C, F) weight and (C,) bias of the least penalized cross-entropy; ``start`` saves steps."""
    weight, bias = start or (x.new_zeros(classes, x.shape[1]), x.new_zeros(classes))
    weight, bias = (t.detach().clone().requires_grad_() for t in (weight, bias))
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=300, tolerance_grad=1e-5, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        weight.grad = bias.grad = None  # quicker than zero_grad, which is called some hundred times
        loss = F.cross_entropy(F.linear(x, weight, bias), y) + strength / 2 * weight.square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    return weight.detach(), bias.detach()
