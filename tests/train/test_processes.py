"""How processes share a batch out; what two of them do together: tests/test_two_processes.py."""

import pytest
import torch
from torch import nn

from genscl_lite.train import processes
from genscl_lite.train.loop import pretrain


def test_a_batch_that_cannot_be_shared_out_is_refused(quick, digits, monkeypatch):
    monkeypatch.setattr(processes, "world_size", lambda: 4)
    with pytest.raises(
        ValueError, match="batch_size: 30 images cannot be shared out evenly among 4 processes"
    ):
        pretrain(quick(batch_size=50), digits)


def test_views_keep_their_order(monkeypatch):
    rows = torch.arange(12).reshape(12, 1)  # two views of six images
    monkeypatch.setattr(processes, "world_size", lambda: 3)
    monkeypatch.setattr(processes, "rank", lambda: 1)
    assert processes.keep_own_part(rows, views=2).flatten().tolist() == [2, 3, 8, 9]
    gathered = torch.tensor([0, 1, 6, 7, 2, 3, 8, 9, 4, 5, 10, 11]).reshape(12, 1)
    monkeypatch.setattr(processes, "gather_rows", lambda part: gathered)
    assert torch.equal(processes.gather_views(rows[:4], views=2), rows)


def test_batch_norm_of_one_process_is_torchs(monkeypatch):
    """With one process its plain operations give what torch's kernel gives, gradients and running statistics too."""
    monkeypatch.setattr(processes, "add_over_processes", lambda tensor: tensor)
    for momentum in (0.1, None):
        theirs, ours = nn.BatchNorm2d(3, momentum=momentum), nn.BatchNorm2d(3, momentum=momentum)
        ours.__class__ = processes.SynchronizedBatchNorm
        for _ in range(2):
            images = torch.randn(5, 3, 4, 4, requires_grad=True)
            outputs = [layer(images) for layer in (ours, theirs)]
            gradients = [
                torch.autograd.grad(output.pow(3).sum(), [images, layer.weight, layer.bias])
                for output, layer in zip(outputs, (ours, theirs), strict=True)
            ]
            assert torch.allclose(*outputs, atol=1e-5)
            assert all(
                torch.allclose(a, b, rtol=1e-3, atol=1e-4) for a, b in zip(*gradients, strict=True)
            )
        assert all(
            torch.allclose(a, b, atol=1e-6)
            for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True)
        )
        assert torch.allclose(ours.eval()(images), theirs.eval()(images), atol=1e-5)


def test_batch_norm_of_processes_is_torchs_in_bfloat16(monkeypatch):
    """Statistics in float32, also of values far from 0, where bfloat16 has few digits."""
    monkeypatch.setattr(processes, "add_over_processes", lambda tensor: tensor)
    theirs, ours = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
    ours.__class__ = processes.SynchronizedBatchNorm
    images = (0.3 * torch.randn(64, 3, 6, 6) + 20).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        outputs = [layer(images) for layer in (ours, theirs)]
    assert outputs[0].dtype == outputs[1].dtype == torch.bfloat16
    assert torch.allclose(*outputs, atol=0.05)
    assert torch.allclose(ours.running_mean, theirs.running_mean, rtol=1e-4)
    assert torch.allclose(ours.running_var, theirs.running_var, rtol=1e-3)
