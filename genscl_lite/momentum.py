"""Momentum contrast (arXiv 1911.05722) with labels: a slow encoder for keys, a queue that knows labels."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import get_ema_multi_avg_fn

from genscl_lite._checks import require_instances
from genscl_lite.wrappers import bare_copy, named_tensors


class MomentumEncoder(nn.Module):
    """A slowly moving copy of an encoder: key <- momentum * key + (1 - momentum) * query, after each step.

    All parameters and floating point buffers are averaged, among them BatchNorm's running means and variances.
    Integer buffers (BatchNorm's count of batches) are copied. torch's AveragedModel, in contrast, copies at
    its first update and averages integers.

    Keys are computed in evaluation mode, but you choose BatchNorm's statistics. With the averaged ones, a key
    depends on its own image alone (as in EMAN, arXiv 2101.08482), so nothing leaks between the images of a
    batch. With those of the batch, keys resemble the queries they are compared with from the first step on;
    MoCo does this, and shuffles batches between GPUs against the leak.

    Args:
        encoder: the module to follow; it is copied and not changed. Wrappers (DataParallel,
            DistributedDataParallel, torch.compile) are looked through, here and in ``update``.
        momentum: in [0, 1); 0 copies the encoder at each update.
        batch_statistics: normalize keys with the statistics of their batch. Computing keys never changes
            the averaged statistics.

    Raises:
        ValueError: momentum is outside [0, 1), or the encoder cannot be copied; in ``update``: its
            structure is another.

    >>> query = nn.Linear(2, 2)
    >>> key = MomentumEncoder(query, momentum=0.9)
    >>> bool((key(torch.ones(1, 2)) == query(torch.ones(1, 2))).all())
    True
    """

    def __init__(
        self, encoder: nn.Module, momentum: float = 0.999, *, batch_statistics: bool = False
    ):
        super().__init__()
        if not hasattr(momentum, "__float__") or not 0 <= momentum < 1:
            raise ValueError(f"momentum: expected a number in [0, 1), got {momentum!r}")
        require_instances(nn.Module, encoder=encoder)
        self.encoder = bare_copy(encoder).requires_grad_(False)
        self.momentum = momentum
        self.batch_statistics = batch_statistics
        if batch_statistics:
            for part in _batch_norms(self.encoder):
                part.track_running_stats = False  # in training mode, changes no statistics then
        self.train()

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Return keys, without gradient."""
        self.train()  # somebody may have trained a part of it
        return self.encoder(images)

    @torch.no_grad()
    def update(self, encoder: nn.Module) -> None:
        """Move towards ``encoder``, a module of the same structure."""
        require_instances(nn.Module, encoder=encoder)
        ours, theirs = named_tensors(self.encoder), named_tensors(encoder)
        different = {(n, t.shape) for n, t in ours.items()} ^ {
            (n, t.shape) for n, t in theirs.items()
        }
        if different:
            raise ValueError(
                "encoder: expected the structure copied at the start, "
                f"but {min(different)[0]} is of another shape, or on one side only"
            )
        averaged = [name for name, key in ours.items() if key.is_floating_point()]
        if averaged:
            average = get_ema_multi_avg_fn(self.momentum)  # one kernel for all, where there is one
            average([ours[name] for name in averaged], [theirs[name] for name in averaged], None)
        for name in ours.keys() - set(averaged):
            ours[name].copy_(theirs[name])

    def train(self, mode: bool = True) -> "MomentumEncoder":
        """Stay in the mode in which keys are computed, whatever the model around it does."""
        super().train(False)
        if self.batch_statistics:
            for part in _batch_norms(self.encoder):
                part.training = True
        return self


def _batch_norms(module: nn.Module) -> list[_BatchNorm]:
    return [part for part in module.modules() if isinstance(part, _BatchNorm)]


class LabelledQueue(nn.Module):
    """Keep the latest ``size`` latents with their labels; new ones replace the oldest.

    Args:
        size: slots, at least a batch.
        latent_dim: D.
        label_shape: shape of one row's labels: C, or (T, C) for several distributions; () for class
            numbers, which are kept as integers.

    Raises:
        ValueError: a size is not above 0; when enqueuing: the batch exceeds the queue, or shapes disagree.

    >>> queue = LabelledQueue(size=3, latent_dim=2, label_shape=4)
    >>> queue.enqueue(torch.ones(2, 2), torch.full((2, 4), 0.25))
    >>> [t.shape for t in queue.contents()]
    [torch.Size([2, 2]), torch.Size([2, 4])]
    """

    latents: Tensor
    labels: Tensor

    def __init__(self, size: int, latent_dim: int, label_shape: int | tuple[int, ...] = ()):
        super().__init__()
        label_shape = (
            tuple(label_shape) if isinstance(label_shape, tuple | list) else (label_shape,)
        )
        if not all(hasattr(n, "__index__") and n >= 1 for n in (size, latent_dim, *label_shape)):
            raise ValueError(
                f"queue: expected sizes above 0, got size={size!r}, "
                f"latent_dim={latent_dim!r}, label_shape={label_shape!r}"
            )
        self.register_buffer("latents", torch.zeros(size, latent_dim))
        dtype = torch.get_default_dtype() if label_shape else torch.int64
        self.register_buffer("labels", torch.zeros(size, *label_shape, dtype=dtype))
        self.next_slot = 0
        self.filled = 0

    @torch.no_grad()
    def enqueue(self, latents: Tensor, labels: Tensor) -> None:
        """Put (N, D) latents and their labels into the next N slots; after the last slot comes the first."""
        require_instances(Tensor, latents=latents, labels=labels)
        size, rows = len(self.latents), latents.shape[:1]
        expected = (*rows, *self.latents.shape[1:]), (*rows, *self.labels.shape[1:])
        if (latents.shape, labels.shape) != expected:
            raise ValueError(
                f"queue: expected latents and labels of shapes {expected[0]} and {expected[1]}, "
                f"got {tuple(latents.shape)} and {tuple(labels.shape)}"
            )
        if labels.is_floating_point() and not self.labels.is_floating_point():
            raise ValueError(f"labels: expected integers as class numbers, got {labels.dtype}")
        if size < len(latents):
            raise ValueError(
                f"queue_size: expected at least the {len(latents)} keys of a batch, got {size}"
            )
        slots = (
            torch.arange(self.next_slot, self.next_slot + len(latents), device=self.latents.device)
            % size
        )
        self.latents[slots] = latents.to(self.latents)
        self.labels[slots] = labels.to(self.labels)
        self.next_slot = (self.next_slot + len(latents)) % size
        self.filled = min(self.filled + len(latents), size)

    def contents(self) -> tuple[Tensor, Tensor]:
        """Return copies of the filled slots: (filled, D) latents and (filled, ...) labels."""
        return self.latents[: self.filled].clone(), self.labels[: self.filled].clone()

    def get_extra_state(self) -> dict:
        return {"next_slot": self.next_slot, "filled": self.filled}

    def set_extra_state(self, state: dict) -> None:
        self.next_slot, self.filled = state["next_slot"], state["filled"]
