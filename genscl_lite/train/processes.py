"""One run on several processes, started by torchrun: each takes its part of every batch, all end alike.

Every process draws the same numbers, makes the views of the whole batch and keeps its own part of them. Batch
statistics, loss and queue are those of the whole batch. So the result is that of one process, up to rounding.
"""

import os
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from genscl_lite.datasets.cores import share_of_cores
from genscl_lite.gather import add_over_processes, gather_rows
from genscl_lite.train.device import default_device

PATIENCE = timedelta(hours=2)
"""So long do processes wait for each other, say while the first one evaluates."""


def start_processes() -> torch.device:
    """Join the processes that torchrun started, if it did; return this one's device. Threads are limited."""
    torch.set_num_threads(min(torch.get_num_threads(), share_of_cores()))
    if "WORLD_SIZE" not in os.environ:
        return default_device()
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
    if not dist.is_initialized():
        store, number, count = next(rendezvous("env://", timeout=PATIENCE))
        # torchrun may keep its store when it starts processes again; what dead ones wrote must not be read
        store = dist.PrefixStore(
            f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store
        )
        backend = "nccl" if cuda else "gloo"
        dist.init_process_group(
            backend, store=store, rank=number, world_size=count, timeout=PATIENCE
        )
    return torch.device("cuda", torch.cuda.current_device()) if cuda else torch.device("cpu")


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def wait_for_all() -> None:
    if world_size() > 1:
        dist.barrier()


def own_part(batch: int) -> slice:
    """Return which images of a batch are this process's."""
    images = batch // world_size()
    return slice(rank() * images, (rank() + 1) * images)


def keep_own_part(everything: Tensor, views: int) -> Tensor:
    """Return this process's (V*n, ...) of a batch's (V*N, ...), which stand view by view."""
    by_view = everything.unflatten(0, (views, -1))  # (V, N, ...)
    return by_view[:, own_part(by_view.shape[1])].flatten(0, 1)


def gather_views(part: Tensor, views: int) -> Tensor:
    """Return a batch's (V*N, ...), view by view, from the (V*n, ...) of each process, without gradient."""
    if world_size() == 1:
        return part
    by_process = gather_rows(part.detach()).unflatten(
        0, (world_size(), views, -1)
    )  # (P, V, n, ...)
    return by_process.transpose(0, 1).flatten(0, 2)


def any_process(says: bool, device: torch.device) -> bool:
    """Tell whether any process says so; all must ask. With several, this waits for the device."""
    if world_size() == 1:
        return says
    flag = torch.tensor(float(says), device=device)
    dist.all_reduce(flag, dist.ReduceOp.MAX)
    return bool(flag)


def reduce_epoch(totals: Tensor, first_bad: Tensor) -> None:
    """Replace, in place, totals by their mean over processes and first steps by the first of all."""
    if world_size() > 1:
        dist.all_reduce(totals, dist.ReduceOp.SUM)
        totals /= world_size()
        dist.all_reduce(first_bad, dist.ReduceOp.MIN)


def synchronize_batch_norm(module: nn.Module, device: torch.device) -> nn.Module:
    """Let BatchNorm use the statistics of all processes: torch's own on a GPU, plain operations on a CPU."""
    if world_size() == 1:
        return module
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(module)
    for layer in module.modules():
        if isinstance(layer, _BatchNorm):
            layer.__class__ = SynchronizedBatchNorm
    return module


class SynchronizedBatchNorm(_BatchNorm):
    """BatchNorm over the equally large parts of all processes; for CPUs, where torch has none.

    Computed in float32 also where autocast gives bfloat16, as torch's own does.
    """

    def _check_input_dim(self, part: Tensor) -> None:
        pass

    def forward(self, part: Tensor) -> Tensor:
        if not self.training:
            return super().forward(part)
        dtype, part = part.dtype, part.float()
        dims, shape = [0, *range(2, part.ndim)], (1, -1, *[1] * (part.ndim - 2))
        count = part.numel() // part.shape[1] * world_size()
        mean = add_over_processes(part.sum(dims)) / count
        centered = part - mean.reshape(shape)
        variance = add_over_processes(centered.square().sum(dims)) / count
        if self.track_running_stats:
            self.num_batches_tracked += 1
            share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean.detach(), share)
            self.running_var.lerp_(variance.detach() * count / (count - 1), share)
        scale = (variance + self.eps).rsqrt()
        if self.affine:
            output = centered * (scale * self.weight).reshape(shape) + self.bias.reshape(shape)
        else:
            output = centered * scale.reshape(shape)
        return output.to(dtype)


def parallel(model: nn.Module, device: torch.device) -> nn.Module:
    """Average gradients over processes, if there are several."""
    if world_size() == 1:
        return model
    return DistributedDataParallel(model, device_ids=[device] if device.type == "cuda" else None)
