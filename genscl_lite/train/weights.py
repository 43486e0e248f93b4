"""A trained model as one file, ``model.safetensors``: its weights, its configuration and its results.

The format runs no code and is read by many programs. Names of tensors are ``encoder.``, ``head.`` and, beside
latents, ``probe.`` (the linear classifier of the features), plus the module's own.
"""

import json
from pathlib import Path

import safetensors
import safetensors.torch
from torch import nn

from genscl_lite.datasets.files import RunFolderError, written_whole


def save_weights(path: str | Path, model: nn.Module, **about: object) -> None:
    """Write a model's weights; each of ``about`` (``config``, ``summary``) goes into the header as JSON."""
    with written_whole(path) as temporary:
        safetensors.torch.save_model(model, str(temporary), metadata=_header(about))


def save_state(path: str | Path, model: nn.Module, **about: object) -> None:
    """Write weights for ``load_state_dict(safetensors.torch.load_file(path))``: tied ones under each name."""
    state = {name: tensor.detach().contiguous().clone() for name, tensor in model.state_dict().items()}
    with written_whole(path) as temporary:
        safetensors.torch.save_file(state, str(temporary), metadata={"format": "pt"} | _header(about))


def _header(about: dict[str, object]) -> dict[str, str]:
    return {name: json.dumps(value) for name, value in about.items()}


def read_about(path: str | Path) -> dict[str, object]:
    """Return what was written beside the weights; RunFolderError for a damaged or foreign file."""
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            # safetensors has entries of its own: the format, and for tied weights name -> name of the tensor
            own = {"pt", *file.keys()}
            return {name: json.loads(value) for name, value in file.metadata().items() if value not in own}
    except (safetensors.SafetensorError, AttributeError, ValueError) as error:
        reason = type(error).__name__
        raise RunFolderError(f"{path}: damaged, or not written by this kit ({reason})") from None


def load_weights(path: str | Path, model: nn.Module) -> None:
    """Read weights into a model of the same structure; parts that it has not (the probe) are passed over.

    Raises:
        RunFolderError: names or shapes of the tensors are others, or the file is damaged.
    """
    try:
        missing, unexpected = safetensors.torch.load_model(model, str(path), strict=False)
    except (safetensors.SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise RunFolderError(f"{path}: damaged, or of another model ({reason})") from None
    parts = dict(model.named_children())
    others = sorted(missing) + sorted(name for name in unexpected if name.partition(".")[0] in parts)
    if others:
        raise RunFolderError(f"{path}: of another model ({others[0]} is on one side only, "
                             f"and {len(others) - 1} more)")
