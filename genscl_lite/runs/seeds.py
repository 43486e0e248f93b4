"""Train and test the seeds of a row. Notebook 07, and so papermill, and ``genscl train`` call ``run_seeds``.

``genscl train PRESET`` needs no notebooks, and torchrun may start it in several processes, of which the first
evaluates, writes and prints. The folders are those of ``genscl reproduce``, and either goes on with
what the other has begun.
"""

import math
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

import torch
import torch.distributed as dist

from genscl_lite.datasets import Dataset, files, load_data
from genscl_lite.runs.finish import finish_run
from genscl_lite.runs.plan import Job, make_parser, read_requests
from genscl_lite.runs.tables import make_table, read_summaries, render_table, write_table
from genscl_lite.train.config import TrainConfig
from genscl_lite.train.loop import OutOfTime, pretrain
from genscl_lite.train.processes import any_process, rank, start_processes, wait_for_all
from genscl_lite.train.run_folder import is_finished
from genscl_lite.train.state import Run


def run_seeds(
    configs: Iterable[TrainConfig],
    folder: str | Path,
    *,
    data_root: str | Path | None = None,
    device: torch.device | str | None = None,
    deadline: float = math.inf,
    on_epoch: Callable[[Run], None] | None = None,
) -> Iterator[tuple[Run, dict]]:
    """Train and test each configuration in ``folder``/seedN; yield every run with its summary.

    Interrupted runs go on from their checkpoint, finished ones are only read. Before its first step each run
    prints how long it will take.

    Args:
        configs: one for each seed of a row.
        folder: the row's folder; ``folder_check.json`` there remembers what was found in a folder of images.
        data_root: the folder of images, or of CIFAR's files.
        device, deadline, on_epoch: as in ``pretrain``.

    Raises:
        OutOfTime: the deadline came; the run is saved, and the same call goes on from there.
        ValueError, FileNotFoundError, MemoryError: as ``load_data`` and ``pretrain``.
    """
    folder = files.as_path(folder)
    for config in configs:
        run_folder = folder / f"seed{config.seed}"
        dataset = _load_one_after_the_other(config, data_root, folder / "folder_check.json")
        run = pretrain(
            config,
            dataset,
            run_folder,
            device=device,
            deadline=deadline,
            on_start=lambda run, seconds: _say(start_line(run, seconds)),
            on_epoch=on_epoch,
        )
        tested = is_finished(run_folder, asdict(config))
        if not tested and any_process(time.monotonic() >= deadline, run.device):
            raise OutOfTime("trained, but not tested yet; the same command goes on from there")
        if rank() == 0:
            finish_run(run, dataset, run_folder)
        wait_for_all()
        yield run, files.read_json(run_folder / "summary.json")


def _load_one_after_the_other(
    config: TrainConfig, data_root: str | Path | None, check_path: Path
) -> Dataset:
    """Load the data: the first process looks at the files, the others then read what it found."""
    if rank() > 0:
        wait_for_all()
    dataset = load_data(config, data_root, check_path)
    if rank() == 0:
        wait_for_all()
    return dataset


def start_line(run: Run, seconds: float) -> str:
    """Return "seed 0: 80 epochs in bfloat16, about 590 s"."""
    left = run.config.epochs - run.epoch
    return f"seed {run.config.seed}: {left} epochs in {run.precision}, about {seconds:.0f} s"


def progress_line(run: Run) -> str:
    """Return "seed 0, epoch 20/200: loss 3.512, 4800 images/s, 12 s left"."""
    row, epochs = run.log[-1], run.config.epochs
    left = run.seconds / run.epoch * (epochs - run.epoch)
    return (
        f"seed {run.config.seed}, epoch {run.epoch}/{epochs}: loss {row['loss']:.3f}, "
        f"{row['images_per_second']:.0f} images/s, {left:.0f} s left"
    )


def main(arguments: list[str] | None = None) -> int:
    """Entry point of ``genscl train``. Returns 0 on success or timeout, 2 after a wrong request or a failed run."""
    parser = make_parser(
        "genscl train", "Train the rows of a preset, in one process or started by torchrun."
    )
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # torchrun ends processes so
    try:
        requests = read_requests(options)
        deadline = time.monotonic() + options.max_seconds
        device = start_processes()
        for request in requests:
            for job in request.jobs:
                _train_row(job, device, deadline)
            if rank() == 0:
                table, path = make_table(read_summaries(request.out)), request.out / "table.csv"
                write_table(path, table)
                print(f"\n{render_table(table)}\n\n{path}", flush=True)
    except OutOfTime as stop:
        _say(f"time is up: {stop}")
    except (ValueError, OSError, MemoryError) as error:
        print(
            f"error: {f'process {rank()}: ' if rank() else ''}{error}", file=sys.stderr, flush=True
        )
        return 2
    if dist.is_initialized():
        dist.destroy_process_group()
    return 0


def _train_row(job: Job, device: torch.device, deadline: float) -> None:
    """Train and test the seeds of a row that are not finished."""
    configs = job.unfinished()
    if configs:
        _say(f"{job.method}, {len(configs)} seed(s): {job.folder}")
    runs = run_seeds(
        configs,
        job.folder,
        data_root=job.data_root,
        device=device,
        deadline=deadline,
        on_epoch=lambda run: _say(progress_line(run)),
    )
    for _, summary in runs:
        _say(
            f"{job.method}, seed {summary['seed']}: accuracy {100 * summary['accuracy_last']:.1f} %"
        )


def _say(text: str) -> None:
    if rank() == 0:
        print(text, flush=True)
