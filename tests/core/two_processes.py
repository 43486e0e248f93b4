"""Started by tests/core/test_gather.py under torchrun: some rows of its own against one process with all."""

import os
import sys

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from genscl_lite.gather import gather_rows
from genscl_lite.losses import gen_supcon_loss, gen_supcon_loss_parts
from genscl_lite.similarity import superclass_similarity


def compare() -> None:
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    rows = 6 * world
    g = torch.Generator().manual_seed(0)
    images = torch.randn(rows, 5, generator=g, dtype=torch.float64)
    keys = torch.randn(4 * world, 3, generator=g, dtype=torch.float64)
    soft, key_soft = (
        torch.softmax(3 * torch.randn(n, 4, generator=g, dtype=torch.float64), 1)
        for n in (rows, len(keys))
    )
    numbers = torch.randint(4, (rows,), generator=g)
    numbers[0] = 99  # resembles nothing: one process counts fewer anchors than the other
    mask = torch.rand(rows, generator=g) < 0.7
    weights = torch.rand(rows, rows, generator=g, dtype=torch.float64)
    key_numbers = torch.randint(4, (len(keys),), generator=g)
    key_weights = torch.rand(rows, len(keys), generator=g, dtype=torch.float64)

    def mine(tensor):
        return tensor.chunk(world)[rank]

    def encoder():
        torch.manual_seed(1)
        return torch.nn.Linear(5, 3).double()

    matrix = superclass_similarity([0, 0, 1, 2], within=0.4)
    cases = {
        "distributions": (dict(labels=soft), dict(labels=mine(soft))),
        "class numbers, one of them lonely": (dict(labels=numbers), dict(labels=mine(numbers))),
        "eq2 and a mask": (
            dict(labels=soft, anchor_weight=mask, weighting="eq2"),
            dict(labels=mine(soft), anchor_weight=mine(mask), weighting="eq2"),
        ),
        "own weights": (dict(pair_similarity=weights), dict(pair_similarity=mine(weights))),
        "a queue": (
            dict(labels=soft, contrast_latents=keys, contrast_labels=key_soft),
            dict(
                labels=mine(soft),
                contrast_latents=gather_rows(mine(keys)),
                contrast_labels=gather_rows(mine(key_soft)),
            ),
        ),
        "whole contrasts, class numbers, one of them lonely": (
            dict(labels=numbers, contrast_latents=keys, contrast_labels=key_numbers),
            dict(
                labels=mine(numbers),
                contrast_latents=keys,
                contrast_labels=key_numbers,
            ),
        ),
        "whole contrasts, eq2 and a mask": (
            dict(
                labels=soft,
                contrast_latents=keys,
                contrast_labels=key_soft,
                anchor_weight=mask,
                weighting="eq2",
            ),
            dict(
                labels=mine(soft),
                contrast_latents=keys,
                contrast_labels=key_soft,
                anchor_weight=mine(mask),
                weighting="eq2",
            ),
        ),
        "whole contrasts, own weights": (
            dict(pair_similarity=key_weights, contrast_latents=keys),
            dict(pair_similarity=mine(key_weights), contrast_latents=keys),
        ),
        "a kernel of classes": (
            dict(labels=soft, similarity=matrix),
            dict(labels=mine(soft), similarity=matrix),
        ),
        "a kernel of classes, class numbers": (
            dict(labels=numbers % 4, similarity=matrix),
            dict(labels=mine(numbers) % 4, similarity=matrix),
        ),
        "a kernel of classes and a queue": (
            dict(labels=soft, contrast_latents=keys, contrast_labels=key_soft, similarity=matrix),
            dict(
                labels=mine(soft),
                contrast_latents=gather_rows(mine(keys)),
                contrast_labels=gather_rows(mine(key_soft)),
                similarity=matrix,
            ),
        ),
        "no contrasts but the anchors": (
            dict(labels=soft),
            dict(labels=mine(soft)),
        ),
    }
    assert len(key_numbers.unique()) == 4  # no other number is lonely
    for backend in ("dense", "streamed"):
        for name, (all_rows, process_rows) in cases.items():
            one, many = encoder(), DistributedDataParallel(encoder())
            whole = gen_supcon_loss_parts(one(images), backend=backend, **all_rows)
            options = {"gather_distributed": True, "backend": backend} | process_rows
            parts = gen_supcon_loss_parts(many(mine(images)), **options)
            whole.loss.backward()
            parts.loss.backward()
            for ours, expected in zip(parts, whole, strict=True):
                assert torch.allclose(ours, expected, rtol=1e-9), (backend, name, ours, expected)
            for ours, expected in zip(many.parameters(), one.parameters(), strict=True):
                assert torch.allclose(ours.grad, expected.grad, rtol=1e-8, atol=1e-12), (
                    backend,
                    name,
                )

    # a temperature that learns: the mean over processes of its gradients, too
    alone, spread = (torch.nn.Parameter(torch.tensor(0.2, dtype=torch.float64)) for _ in range(2))
    gen_supcon_loss(images, soft, temperature=alone).backward()
    gen_supcon_loss(
        mine(images), mine(soft), temperature=spread, gather_distributed=True
    ).backward()
    dist.all_reduce(spread.grad)
    assert torch.isclose(spread.grad / world, alone.grad, rtol=1e-9)

    # SimCLR: no two processes give an image the same class number
    views = torch.randn(rows, 2, 3, generator=g, dtype=torch.float64)
    assert torch.isclose(
        gen_supcon_loss(mine(views), gather_distributed=True), gen_supcon_loss(views), rtol=1e-9
    )

    small = gen_supcon_loss(mine(images), mine(numbers).short(), gather_distributed=True)
    assert small == gen_supcon_loss(mine(images), mine(numbers), gather_distributed=True)

    try:
        gen_supcon_loss(mine(images)[: 6 - rank], mine(soft)[: 6 - rank], gather_distributed=True)
    except ValueError as error:
        message = str(error)
    assert message == "latents: expected as many rows on every process, got [6, 5]", message
    print(f"process {rank} agrees")
    dist.barrier()


if __name__ == "__main__":
    compare()
    dist.destroy_process_group()
    sys.stdout.flush()
    os._exit(
        0
    )  # seen once: a thread of torch's still ran at the end of Python, which aborts the process
