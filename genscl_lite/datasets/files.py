"""Files that appear whole or not at all, in folders that one process at a time writes to."""

import json
import os
import re
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout


class RunFolderError(ValueError):
    """The folder is in use, belongs to another configuration, or holds a damaged file."""


OURS = re.compile(r"\..+\.\d+\.tmp(\.\w+)?")
"""Names of the temporary files of ``atomic_write``."""
LEFT_OVER = 60
"""Seconds after which nobody is writing such a file any more."""


def as_path(path: str | Path) -> Path:
    """Return a path that a person has written, with ``~`` as the home folder; all paths come through here."""
    return Path(os.path.expanduser(path))  # pathlib's own raises if there is no such user


@contextmanager
def locked(folder: str | Path, wait: float = 0):
    """Hold the folder for this process; a process that dies lets go of it.

    Raises:
        RunFolderError: another process holds it, still after ``wait`` seconds.
    """
    folder = as_path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=wait):
            for path in folder.iterdir():  # what a process left that was killed while writing
                if OURS.fullmatch(path.name) and path.is_file() and _age(path) > LEFT_OVER:
                    path.unlink(missing_ok=True)
            yield
    except Timeout:
        raise RunFolderError(
            f"{folder}: another run is working in this folder; wait for it or choose another"
        ) from None


def _age(path: Path) -> float:
    return time.time() - path.stat().st_mtime


@contextmanager
def atomic_write(path: str | Path, failures: type[Exception] | tuple = OSError):
    """Give a temporary path beside ``path`` to write to; rename it when the block ends well.

    Raises:
        OSError: it cannot be written, which the writer says by one of ``failures``; a file there is kept.
    """
    path = as_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    except failures as error:
        raise OSError(
            f"{path}: cannot be written, look at the space and rights there ({error})"
        ) from None
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: str | Path, content: dict) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")


def read_json(path: str | Path) -> dict:
    try:
        return json.loads(as_path(path).read_text())
    except (ValueError, RecursionError):
        raise RunFolderError(f"{path}: damaged, it is not JSON; delete it and run again") from None


def write_arrays(path: str | Path, **arrays: np.ndarray) -> None:
    with atomic_write(path) as temporary:
        np.savez_compressed(temporary, **arrays)
