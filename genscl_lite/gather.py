"""Rows of all processes, with gradient: what a loss over pairs needs where a batch is spread over processes.

torch's own all_gather has no gradient, and the one in torch.distributed.nn is deprecated. Here each process's
gradient with respect to all rows is summed over processes, and each keeps the part of its own rows.
"""

import torch
import torch.distributed as dist
from torch import Tensor


def check_processes(**tensors: Tensor | None) -> None:
    """Raise ValueError, on every process, unless there is a process group and all hold equally many rows."""
    if not (dist.is_available() and dist.is_initialized()):
        raise ValueError(
            "gather: torch.distributed is not initialised; "
            "call init_process_group first, or leave gather=False"
        )
    for name, tensor in tensors.items():
        if tensor is not None:
            counts = torch.zeros(dist.get_world_size(), dtype=torch.int64, device=tensor.device)
            counts[dist.get_rank()] = len(tensor)
            rows = sum_over_processes(counts).tolist()
            if len(set(rows)) > 1:
                raise ValueError(f"{name}: expected as many rows on every process, got {rows}")


def gather_rows(tensor: Tensor) -> Tensor:
    """Return the rows of all processes, (P * rows, ...), those of process 0 first."""
    return _GatherRows.apply(tensor)


def sum_over_processes(tensor: Tensor) -> Tensor:
    """Return the sum over processes, without gradient."""
    total = tensor.detach().clone()
    dist.all_reduce(total)
    return total


def add_over_processes(tensor: Tensor) -> Tensor:
    """Return the sum over processes, with gradient: that of all processes' losses comes back to each."""
    return _AddOverProcesses.apply(tensor)


class _AddOverProcesses(torch.autograd.Function):
    @staticmethod
    def forward(ctx, tensor: Tensor) -> Tensor:
        return sum_over_processes(tensor)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return sum_over_processes(gradient)


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx, tensor: Tensor) -> Tensor:
        ctx.rows = len(tensor)
        everything = tensor.new_empty(dist.get_world_size() * len(tensor), *tensor.shape[1:])
        all_gather = (
            getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
        )  # torch < 2.14
        all_gather(everything, tensor.contiguous())
        return everything

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return sum_over_processes(gradient).narrow(0, dist.get_rank() * ctx.rows, ctx.rows)
