"""Rows of all processes, with gradient: what a loss over pairs needs if a batch is spread over processes.

torch's own all_gather has no gradient, and the one in torch.distributed.nn is deprecated. Here the rows of all
processes are a sum over processes, of their own rows between zeros. So one sum with a gradient serves all: each
process's gradient by all rows is summed, too, and each keeps the part of its own rows.
"""

from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor


class Group(NamedTuple):
    """The processes that share a batch; a single process gathers and sums nothing."""

    rank: int = 0
    size: int = 1

    def rows(self, tensor: Tensor) -> Tensor:
        """Return the rows of all processes, (size * rows, ...), those of process 0 first."""
        return tensor if self.size == 1 else gather_rows(tensor)

    def sum(self, tensor: Tensor) -> Tensor:
        """Return the sum over processes, without gradient."""
        return tensor.detach() if self.size == 1 else sum_over_processes(tensor)

    def loss(self, loss: Tensor) -> Tensor:
        """Return the sum of all processes' losses, with ``size`` times the gradient of this one's.

        The mean over processes, as DistributedDataParallel takes it, is then the gradient of the sum.
        """
        return loss if self.size == 1 else self.sum(loss) + self.size * (loss - loss.detach())


def group_of_processes(gather_distributed: bool, validate: bool, **tensors: Tensor) -> Group:
    """Return the group of all processes if the loss is to gather, else this process alone.

    Raises:
        ValueError: there is no process group; or (on every process) they hold different numbers of rows.
    """
    if gather_distributed not in (True, False):
        raise ValueError(f"gather_distributed: expected True or False, got {gather_distributed!r}")
    if not gather_distributed:
        return Group()
    if not (dist.is_available() and dist.is_initialized()):
        raise ValueError(
            "gather_distributed: torch.distributed is not initialized; "
            "call init_process_group first, or leave gather_distributed=False"
        )
    group = Group(dist.get_rank(), dist.get_world_size())
    for name, tensor in tensors.items() if validate else ():
        counts = torch.zeros(group.size, dtype=torch.int64, device=tensor.device)
        counts[group.rank] = len(tensor)
        rows = group.sum(counts).tolist()
        if len(set(rows)) > 1:
            raise ValueError(f"{name}: expected as many rows on every process, got {rows}")
    return group


def gather_rows(tensor: Tensor) -> Tensor:
    """Return the rows of all processes, (P * rows, ...), those of process 0 first."""
    # not every kind of integer can be summed over processes
    kind = tensor.dtype if tensor.is_floating_point() else torch.int64
    by_process = tensor.new_zeros(dist.get_world_size(), *tensor.shape, dtype=kind)
    by_process[dist.get_rank()] = tensor
    return add_over_processes(by_process).flatten(0, 1).to(tensor.dtype)


def sum_over_processes(tensor: Tensor) -> Tensor:
    """Return the sum over processes, without gradient."""
    total = tensor.detach().clone()
    dist.all_reduce(total)
    return total


def add_over_processes(tensor: Tensor) -> Tensor:
    """Return the sum over processes; its gradient is summed over processes, too."""
    return _AddOverProcesses.apply(tensor)


class _AddOverProcesses(torch.autograd.Function):
    @staticmethod
    def forward(ctx, tensor: Tensor) -> Tensor:
        return sum_over_processes(tensor)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return sum_over_processes(gradient)
