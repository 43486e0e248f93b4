"""Rows of all processes, with gradient: what a loss over pairs needs where a batch is spread over processes.

torch's own all_gather has no gradient. Here each process's gradient with respect to all rows is summed over
processes, and each keeps the part of its own rows.
"""

import torch
import torch.distributed as dist
from torch import Tensor


def require_group() -> None:
    """Raise ValueError unless torch.distributed is initialised."""
    if not (dist.is_available() and dist.is_initialized()):
        raise ValueError(
            "gather: torch.distributed is not initialised; call init_process_group first, "
            "or leave gather=False"
        )


def require_same_rows(name: str, tensor: Tensor) -> None:
    """Raise ValueError, on every process, unless all processes hold as many rows."""
    mine = torch.zeros(dist.get_world_size(), dtype=torch.long, device=tensor.device)
    mine[dist.get_rank()] = len(tensor)
    rows = sum_over_processes(mine).tolist()
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
    """Return the sum over processes, with gradient: what one process's sum does to the losses of all comes
    back to each."""
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
        # its name before torch 2.14 stands second
        all_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
        all_gather(everything, tensor.contiguous())
        return everything

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return sum_over_processes(gradient).narrow(0, dist.get_rank() * ctx.rows, ctx.rows)
