"""A run is a folder that keeps one configuration, its log and its checkpoint."""

import re
import zipfile
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import torch

from genscl_lite.datasets.files import (
    RunFolderError,
    as_path,
    atomic_write,
    read_json,
    write_json,
)
from genscl_lite.train.config import PARAMETERS, TrainConfig, upgraded

DEFAULTS = {name: field.default for name, field in PARAMETERS.items()}


def seeds_in(folder: str | Path) -> dict[int, Path]:
    """Return the folders of a row's runs, seed0, seed1, ..., by seed; others, such as seed0_old, are passed over."""
    found = [
        (re.fullmatch(r"seed(\d+)", path.name), path) for path in as_path(folder).glob("seed*/")
    ]
    return dict(sorted((int(name[1]), path) for name, path in found if name))


def write_log(path: str | Path, rows: list[dict]) -> None:
    """Write rows with the same keys as CSV, floats to 6 digits; None becomes an empty field."""
    table = pd.DataFrame(rows)
    with atomic_write(path) as temporary:
        table.to_csv(temporary, index=False, float_format="%.6g", lineterminator="\n")


def write_checkpoint(path: str | Path, state: dict) -> None:
    # torch raises a RuntimeError if the disk is full
    with atomic_write(path, (OSError, RuntimeError)) as temporary:
        torch.save(state, temporary)


def read_checkpoint(path: str | Path, device: torch.device | str = "cpu") -> dict:
    """Read a checkpoint (nothing in it can run code); RunFolderError if it is cut short or none."""
    try:
        with zipfile.ZipFile(path) as archive:  # torch does not compare the checksums
            if damaged := archive.testzip():
                raise zipfile.BadZipFile(damaged)
        state = torch.load(path, map_location=device, weights_only=True)
        for name in ("config", "parts", "random", "progress"):
            dict(state[name] if isinstance(state, dict) else None)
        state["progress"]["totals"]  # which an earlier version's lacks
        return state
    except (OSError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # what is no checkpoint is met with errors of many types
        raise RunFolderError(
            f"{path}: damaged or no checkpoint ({type(error).__name__}); "
            "delete it to start this run from the beginning"
        ) from None


def claim(folder: str | Path, config: TrainConfig) -> None:
    """Write ``config.json``, or check that the one there, or that of a checkpoint without it, is the same."""
    path, checkpoint = (Path(folder) / name for name in ("config.json", "checkpoint.pt"))
    if path.exists() or checkpoint.exists():
        check_same(
            path,
            read_json(path) if path.exists() else read_checkpoint(checkpoint)["config"],
            config,
        )
    if not path.exists():
        write_json(path, asdict(config))


def check_same(path: Path, there: dict, config: TrainConfig) -> None:
    """Raise RunFolderError, which names what differs, unless the one ``there`` is ``config``."""
    there, now = DEFAULTS | upgraded(there), asdict(config)  # an earlier version knew fewer
    different = [name for name in {**there, **now} if there.get(name) != now.get(name)]
    if different:
        changes = [
            f"{name} {there.get(name)!r} there, {now.get(name)!r} now" for name in different[:3]
        ]
        raise RunFolderError(
            f"{path.parent}: holds a run with another configuration ({', '.join(changes)}); "
            "choose another folder"
        )


def check_sides(folder: Path, there: list[str], sides: tuple[str, str]) -> None:
    """Raise RunFolderError if a run began with others than these images (``Dataset.sides``).

    A folder that changed is split anew, and images that the run has learned from would test it.
    """
    pairs = zip(("train", "test"), there, sides, strict=False)  # an earlier version did not say it
    changed = [what for what, old, new in pairs if old != new]
    if changed:
        raise RunFolderError(
            f"{folder}: this run began with other images to {' and '.join(changed)} with (some were "
            "added, removed or labeled anew); put them back, or choose another folder"
        )


def is_finished(folder: str | Path, config: TrainConfig) -> bool:
    """Tell whether the folder holds this configuration's finished run; RunFolderError if another's."""
    folder = Path(folder)
    if (folder / "config.json").exists():
        check_same(folder / "config.json", read_json(folder / "config.json"), config)
    return (folder / "summary.json").exists()
