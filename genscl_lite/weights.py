"""A trained model as one file, ``model.safetensors``: its weights, with the configuration and the numbers that belong to them.

The format runs no code and is read by many programs. Names of tensors are ``encoder.`` and ``head.`` plus the module's own.
"""

import json
from pathlib import Path

import safetensors
import safetensors.torch
from torch import nn

from genscl_lite.runfolder import RunFolderError, written_whole


def save_weights(path: str | Path, model: nn.Module, **about: dict) -> None:
    """Write a model's weights; each of ``about`` (say ``config`` and ``summary``) goes into the header as JSON."""
    with written_whole(path) as temporary:
        safetensors.torch.save_model(model, str(temporary), metadata={name: json.dumps(value) for name, value in about.items()})


def read_about(path: str | Path) -> dict[str, dict]:
    """Return what was written beside the weights, without reading them.

    Raises:
        RunFolderError: the file is damaged or was not written by ``save_weights``.
    """
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            return {name: json.loads(value) for name, value in file.metadata().items() if name != "format"}
    except (safetensors.SafetensorError, AttributeError, ValueError) as error:
        raise RunFolderError(f"{path}: damaged, or not written by this kit ({type(error).__name__})") from None


def load_weights(path: str | Path, model: nn.Module) -> None:
    """Read weights into a model of the same structure.

    Raises:
        RunFolderError: names or shapes of the tensors are others, or the file is damaged.
    """
    try:
        safetensors.torch.load_model(model, str(path))
    except (safetensors.SafetensorError, RuntimeError) as error:
        raise RunFolderError(f"{path}: damaged, or of another model ({' '.join(str(error).split())[:200]})") from None
