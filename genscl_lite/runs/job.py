"""A job is a row of the table, planned and checked: the seeds of one method, in one folder."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from genscl_lite.datasets import Dataset, files, load_data
from genscl_lite.runs.finish import finish_run
from genscl_lite.train.config import TrainConfig
from genscl_lite.train.loop import OutOfTime, chance_note, pretrain
from genscl_lite.train.processes import any_process, rank, wait_for_all
from genscl_lite.train.run_folder import is_finished
from genscl_lite.train.start import normalized_as_started
from genscl_lite.train.state import Run

PROGRESS = "progress.json"
"""In the folder of a run that is under way: the epochs done, and what is to be told of them."""
EVERY = 0.5  # seconds between two of them


@dataclass(frozen=True)
class Job:
    """One row of the table, as ``plan`` makes it."""

    method: str
    configs: tuple[TrainConfig, ...]
    """One for each seed."""
    folder: Path
    """Seed k is trained in ``folder``/seedk."""
    teacher: "Job | str | None" = None
    """The row it learns from; or a file, folder or network from elsewhere; or nobody."""
    data_root: str | None = None
    """Folder of images, or of CIFAR's files."""
    min_accuracy: float = 0.0
    """What the mean accuracy must reach."""

    def seed_folder(self, config: TrainConfig) -> Path:
        return self.folder / f"seed{config.seed}"

    def unfinished(self) -> tuple[TrainConfig, ...]:
        """Return the seeds still to do; RunFolderError if a folder holds another configuration."""
        return tuple(c for c in self.configs if not is_finished(self.seed_folder(c), c))


def train_job(
    job: Job,
    deadline: float = math.inf,
    *,
    device: torch.device | str | None = None,
    on_start: Callable[[Run, float], None] | None = None,
    on_epoch: Callable[[Run], None] | None = None,
) -> Iterator[tuple[Run, dict]]:
    """Train and test the seeds of a job; yield each run with its summary.

    Interrupted runs resume from their checkpoint, finished ones are only read from it. Under torchrun, every
    process calls this; the first one evaluates and writes.

    Args:
        device, deadline, on_start, on_epoch: as in ``pretrain``.

    Raises:
        OutOfTime: deadline reached; the run is saved, and the same call resumes it.
        RunFolderError: as ``pretrain``, or a finished run has no checkpoint any more.
        ValueError, FileNotFoundError, MemoryError: as ``load_data`` and ``pretrain``.
    """
    for turn, config in enumerate(job.configs):
        folder = job.seed_folder(config)
        finished = is_finished(folder, config)
        if finished and not (folder / "checkpoint.pt").exists():
            raise files.RunFolderError(
                f"{folder}: is finished, but its checkpoint is gone; delete the folder to train it again, "
                "or take genscl train, which leaves it out"
            )
        dataset = _load_one_after_the_other(config, job)
        if turn:  # its pixels were looked at with the first seed
            dataset = replace(dataset, odd=())
        report = _Progress(folder / PROGRESS, on_start, on_epoch)
        run = pretrain(
            config,
            dataset,
            folder,
            device=device,
            deadline=deadline,
            on_start=report.start,
            on_epoch=report.epoch,
        )
        if not finished and any_process(time.monotonic() >= deadline, run.device):
            raise OutOfTime("trained, but not tested yet; the same command goes on from there")
        if rank() == 0:
            finish_run(run, dataset, folder)
            report.path.unlink(missing_ok=True)
        while not is_finished(folder, config):
            time.sleep(1)  # tests may take longer than processes wait for each other
        wait_for_all()
        yield run, files.read_json(folder / "summary.json")


def _load_one_after_the_other(config: TrainConfig, job: Job) -> Dataset:
    """Load the data; the first process checks the files, the others read what it found."""
    if rank() > 0:
        wait_for_all()
    dataset = load_data(config, job.data_root, job.folder / "folder_check.json")
    dataset = normalized_as_started(config, dataset)
    if rank() == 0:
        wait_for_all()
    return dataset


class _Progress:
    """Writes how far a run is, for whoever shows it, and passes the news on."""

    def __init__(self, path: Path, on_start: Callable | None, on_epoch: Callable | None):
        self.path, self.on_start, self.on_epoch, self.written = path, on_start, on_epoch, -math.inf
        self.note = ""

    def start(self, run: Run, seconds: float) -> None:
        self._write(run)
        if self.on_start:
            self.on_start(run, seconds)

    def epoch(self, run: Run) -> None:
        if note := chance_note(run):
            self.note, self.written = note, -math.inf
        self._write(run)
        if self.on_epoch:
            self.on_epoch(run)

    def _write(self, run: Run) -> None:
        if rank() or time.monotonic() - self.written < EVERY:
            return
        self.written = time.monotonic()
        with suppress(OSError):  # a full disk is reported by what must be written
            files.write_json(self.path, {"epoch": run.epoch, "note": self.note})
