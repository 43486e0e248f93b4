"""Looking through DataParallel, DistributedDataParallel and torch.compile to the network that they wrap.

They put a name of their own, ``module.`` or ``_orig_mod.``, before the names of a network's tensors. Here a
network has its own names, whichever of its parts are wrapped.
"""

import copy
from collections.abc import Iterable, Iterator

from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel


def _inside(module: nn.Module) -> nn.Module | None:
    """Return what a wrapper wraps; None for any other module."""
    if isinstance(module, DataParallel | DistributedDataParallel):
        return module.module
    return module._modules.get(
        "_orig_mod"
    )  # of torch.compile, whose own type takes a second to import


def named_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return parameters and buffers, each once, under the names they have without wrappers.

    >>> import torch
    >>> list(named_tensors(nn.Sequential(torch.compile(nn.Linear(2, 2)))))
    ['0.weight', '0.bias']
    """

    def walk(part: nn.Module, prefix: str) -> Iterator[tuple[str, Tensor | None]]:
        while (inside := _inside(part)) is not None:
            part = inside
        for name, tensor in (part._parameters | part._buffers).items():
            yield prefix + name, tensor
        for name, child in part.named_children():
            yield from walk(child, f"{prefix}{name}.")

    once: dict[int, tuple[str, Tensor]] = {}
    for name, tensor in walk(module, ""):
        if tensor is not None:
            once.setdefault(id(tensor), (name, tensor))
    return dict(once.values())


def bare_copy(module: nn.Module, shared: Iterable[Tensor] = ()) -> nn.Module:
    """Copy a module without the wrappers around it and its parts, and without the graph of its last pass.

    Tensors in ``shared`` are not copied: both modules hold them.

    Raises:
        ValueError: it holds something that cannot be copied.
    """
    memo: dict[int, object] = {id(tensor): tensor for tensor in shared}
    parts = list(module.modules())
    try:
        for part in parts:
            for value in vars(part).values():  # weight_norm and spectral_norm keep computed weights
                if isinstance(value, Tensor) and not value.is_leaf:
                    memo[id(value)] = value.detach().clone()
        for part in reversed(parts):  # the inner ones first
            if (inside := _inside(part)) is not None:
                memo[id(part)] = copy.deepcopy(inside, memo)
        return copy.deepcopy(module, memo)
    except (RuntimeError, TypeError, NotImplementedError) as error:
        raise ValueError(
            f"encoder: expected a module that copy.deepcopy copies, but: {error}"
        ) from None


def unwrapped(module: nn.Module) -> nn.Module:
    """Return a module without wrappers, which shares all tensors: itself, if neither it nor a part is wrapped.

    >>> import torch
    >>> wrapped = nn.Sequential(torch.compile(nn.Linear(2, 2)))
    >>> list(unwrapped(wrapped).state_dict()), unwrapped(wrapped)[0].weight is wrapped[0].weight
    (['0.weight', '0.bias'], True)
    """
    if all(_inside(part) is None for part in module.modules()):
        return module
    return bare_copy(module, shared=named_tensors(module).values())
