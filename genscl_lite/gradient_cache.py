"""Large batches in little memory: the whole batch's loss and gradient, with the graph of one piece at a time."""

from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from genscl_lite._checks import require_instances, require_whole


def gradient_cache(
    encoder: Callable[[Tensor], Tensor],
    images: Tensor,
    loss: Callable[[Tensor], Tensor],
    piece: int,
) -> Tensor:
    """Do what ``loss(encoder(images)).backward()`` does in the memory of ``piece`` images (arXiv 2101.06983).

    The mean of the losses of small batches is not the loss of the large one, because each anchor would meet
    fewer contrasts. This is exact: it computes the latents of all pieces without a graph, then the loss and its
    gradient by them, then each piece again with a graph, which takes its part of the gradient. It costs one
    more forward pass. Dropout is the same in both passes. As in ``backward``, gradients are accumulated.

    Args:
        encoder: maps (n, ...) images to (n, D) latents, each image by itself.
        images: (N, ...).
        loss: maps (N, D) latents to a scalar and knows the labels: ``lambda z: gen_supcon_loss(z, labels)``.
        piece: number of images whose graph is held at once, >= 1.

    Returns:
        The loss, a scalar without gradient.

    Raises:
        ValueError: ``piece`` is not a whole number above 0, or the encoder has a BatchNorm in training mode,
            whose statistics would be those of a piece.

    >>> encoder, images, labels = nn.Linear(5, 3), torch.randn(12, 5), torch.arange(12) % 4
    >>> from genscl_lite import gen_supcon_loss
    >>> gradient_cache(encoder, images, lambda z: gen_supcon_loss(z, labels), piece=4).shape
    torch.Size([])
    """
    require_whole("piece", piece)
    require_instances(Tensor, images=images)
    layers = encoder.modules() if isinstance(encoder, nn.Module) else ()
    if any(isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training for m in layers):
        raise ValueError(
            "encoder: expected one that treats each image by itself, but it has a BatchNorm in "
            "training mode; call .eval() on it, or use GroupNorm"
        )
    pieces, states, latents = images.split(piece), [], []
    cuda = [images.device] if images.is_cuda else []
    no_sync = getattr(encoder, "no_sync", nullcontext)
    with torch.no_grad():
        for part in pieces:
            states.append((torch.get_rng_state(), [torch.cuda.get_rng_state(d) for d in cuda]))
            latents.append(encoder(part))
    cached = [z.detach().requires_grad_() for z in latents]
    value = loss(torch.cat(cached))
    gradients = torch.autograd.grad(value, cached)
    for part, (state, cuda_state), gradient in zip(pieces, states, gradients, strict=True):
        last = part is pieces[-1]  # DistributedDataParallel adds gradients up once, after it
        with torch.random.fork_rng(devices=cuda), nullcontext() if last else no_sync():
            torch.set_rng_state(state)
            for device, its_state in zip(cuda, cuda_state, strict=True):
                torch.cuda.set_rng_state(its_state, device)
            encoder(part).backward(gradient)
    return value.detach()
