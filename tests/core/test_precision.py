"""Near collapse, where all latents are nearly parallel, as those of untrained networks are."""

import warnings

import pytest
import torch
from torch.nn.attention.flex_attention import AuxRequest, flex_attention

from genscl_lite import gen_supcon_loss, log_partition


def nearly_parallel(spread, rows=300, dim=128, signal=1.0):
    """Return latents of one direction and a little besides, of it a share their classes', and class numbers."""
    g = torch.Generator().manual_seed(0)
    direction, classes, noise = (torch.randn(n, dim, generator=g) / dim**0.5 for n in (1, 10, rows))
    labels = torch.randint(10, (rows,), generator=g)
    return direction + spread * (signal * classes[labels] + noise), labels


def gradient_error(z, labels, contrasts=None, **options):
    """Return the relative error of the float32 gradient by all latents, held against float64."""
    gradients = []
    for dtype, own in ((torch.float32, options), (torch.float64, {"backend": "dense"})):
        leaves = [
            t.to(dtype).requires_grad_() for t in ((z,) if contrasts is None else (z, contrasts))
        ]
        keys = {}
        if contrasts is not None:
            keys = {"contrast_latents": leaves[1], "contrast_labels": labels[: len(contrasts)]}
        loss = gen_supcon_loss(leaves[0], labels, **keys, **own)
        gradients.append(torch.cat([g.double() for g in torch.autograd.grad(loss, leaves)]))
    ours, exact = gradients
    return float((ours - exact).norm() / exact.norm())


@pytest.mark.parametrize("queue", [False, True])
@pytest.mark.parametrize("soft", [False, True])
def test_the_streamed_gradient_is_as_exact_as_the_dense_one(queue, soft, monkeypatch):
    monkeypatch.setitem(log_partition.TILE, "cpu", 128)
    for spread in (0.1, 0.01, 0.001):
        z, labels = nearly_parallel(spread)
        if soft:
            labels = torch.eye(10)[labels] * 0.9 + 0.01
        contrasts = nearly_parallel(spread, rows=250)[0] if queue else None
        dense, streamed = (
            gradient_error(z, labels, contrasts, backend=b) for b in ("dense", "streamed")
        )
        assert streamed < max(1.5 * dense, 3e-6), (spread, dense, streamed)


@pytest.mark.parametrize("queue", [False, True])
@pytest.mark.parametrize("signal", [0.0, 1.0])
def test_the_fused_gradient_is_within_1_percent(queue, signal, monkeypatch):
    """bfloat16 scores by FlexAttention's own reference, which runs on a CPU; also if labels are random."""
    monkeypatch.setattr(
        "torch.nn.attention.flex_attention._validate_device", lambda *_: None, raising=False
    )
    monkeypatch.setattr("genscl_lite.losses.choose_backend", lambda backend, *_: backend)
    monkeypatch.setattr(
        log_partition, "_flex_attention", lambda: (flex_attention, AuxRequest(lse=True))
    )
    warnings.filterwarnings("ignore", message="flex_attention called without torch.compile")
    for spread in (0.3, 0.01):
        z, labels = nearly_parallel(spread, signal=signal)
        contrasts = nearly_parallel(spread, rows=250, signal=signal)[0] if queue else None
        rounded = [t if t is None else t.bfloat16().float() for t in (z, contrasts)]
        error = fused_error(*rounded, labels)
        assert error < 0.01, (spread, error)


def fused_error(z, contrasts, labels):
    """Latents that bfloat16 holds exactly, so that the scores alone are rounded."""
    gradients = []
    for dtype, backend in ((torch.bfloat16, "fused"), (torch.float64, "dense")):
        leaves = [t.double().requires_grad_() for t in (z, contrasts) if t is not None]
        rows = [t.to(dtype) for t in leaves]
        keys = {}
        if contrasts is not None:
            keys = {"contrast_latents": rows[1], "contrast_labels": labels[: len(contrasts)]}
        loss = gen_supcon_loss(rows[0], labels, backend=backend, **keys)
        gradients.append(torch.cat(torch.autograd.grad(loss, leaves)))
    ours, exact = gradients
    return float((ours - exact).norm() / exact.norm())
