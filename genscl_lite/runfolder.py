"""A run is a folder. Its files appear whole or not at all, one process writes at a time, and it keeps one configuration."""

import csv
import io
import json
import os
import pickle
import zipfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout


class RunFolderError(ValueError):
    """The folder is in use, belongs to another configuration, or holds a damaged file."""


@contextmanager
def locked(folder: str | Path, wait: float = 0):
    """Hold the folder for this process; a process that dies lets go of it.

    Raises:
        RunFolderError: another process holds it, still after ``wait`` seconds.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=wait):
            for left_over in folder.glob(".*.tmp*"):  # of a process that was killed while writing
                left_over.unlink()
            yield
    except Timeout:
        raise RunFolderError(f"{folder}: another run is working in this folder; wait for it or choose another") from None


@contextmanager
def written_whole(path: str | Path):
    """Give a temporary path beside ``path`` to write to; rename it when the block ends well."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: str | Path, content: dict) -> None:
    with written_whole(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")


def read_json(path: str | Path) -> dict:
    try:
        return json.loads(Path(path).read_text())
    except ValueError:
        raise RunFolderError(f"{path}: damaged, it is not JSON; delete it and run again") from None


def write_log(path: str | Path, rows: list[dict]) -> None:
    """Write rows with the same keys as CSV, floats to 6 digits; None becomes an empty field."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: f"{value:.6g}" if isinstance(value, float) else value for name, value in row.items()})
    with written_whole(path) as temporary:
        temporary.write_text(text.getvalue())


def write_arrays(path: str | Path, **arrays: np.ndarray) -> None:
    with written_whole(path) as temporary:
        np.savez_compressed(temporary, **arrays)


def write_checkpoint(path: str | Path, state: dict) -> None:
    with written_whole(path) as temporary:
        torch.save(state, temporary)


def read_checkpoint(path: str | Path, device: torch.device | str = "cpu") -> dict:
    """Load tensors, numbers, strings and dicts, nothing that could run code.

    Raises:
        RunFolderError: the file is cut short or is no checkpoint.
    """
    try:
        state = torch.load(path, map_location=device, weights_only=True)
        state["parts"], state["progress"]
        return state
    except (RuntimeError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile, KeyError, TypeError) as error:
        raise RunFolderError(f"{path}: damaged or no checkpoint ({type(error).__name__}); "
                             "delete it to start this run from the beginning") from None


def claim(folder: str | Path, config: dict) -> None:
    """Write ``config.json``, or check that the one there is the same.

    Raises:
        RunFolderError: the folder belongs to another configuration; the message names what differs.
    """
    path = Path(folder) / "config.json"
    if path.exists():
        check_same(path, config)
    else:
        write_json(path, config)


def check_same(path: Path, config: dict) -> None:
    """Raise RunFolderError unless the configuration in ``path`` is ``config``."""
    there = read_json(path)
    different = [name for name in {**there, **config} if there.get(name) != config.get(name)]
    if different:
        changes = ", ".join(f"{name} {there.get(name)!r} there, {config.get(name)!r} now" for name in different[:3])
        raise RunFolderError(f"{path.parent}: holds a run with another configuration ({changes}); choose another folder")
