"""Train the rows of a preset without notebooks: ``genscl train PRESET``, or torchrun with several processes.

The folders are those of ``genscl_lite.reproduce``, so notebooks 08 and 09 read them, and either command goes on with what
the other has begun. Of several processes, the first one evaluates, writes and prints.
"""

import signal
import sys
import time
from dataclasses import asdict

import torch.distributed as dist

from genscl_lite.datasets import load_data
from genscl_lite.runs.finish import finish_run
from genscl_lite.runs.plan import Job, Request, make_parser, read_request
from genscl_lite.runs.progress import progress_line
from genscl_lite.runs.tables import make_table, read_summaries, render_table, write_table
from genscl_lite.train.config import make_configs
from genscl_lite.train.loop import OutOfTime, pretrain
from genscl_lite.train.processes import any_process, rank, start_processes, wait_for_all
from genscl_lite.train.run_folder import is_finished


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return 0, also when the time is up, or 2 after a wrong request or a failed run."""
    parser = make_parser("genscl train", "Train the rows of a preset, in one process or started by torchrun.")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # torchrun's way to end processes; locks are given back
    try:
        request = read_request(options)
        deadline = time.monotonic() + request.max_seconds
        device = start_processes()
        for job in request.jobs:
            train_row(job, device, deadline)
        if rank() == 0:
            print_table(request)
    except OutOfTime as stop:
        say(f"time is up: {stop}")
    except (ValueError, FileNotFoundError, MemoryError) as error:
        print(f"error: {f'process {rank()}: ' if rank() else ''}{error}", file=sys.stderr, flush=True)
        return 2
    if dist.is_initialized():
        dist.destroy_process_group()
    return 0


def train_row(job: Job, device, deadline: float) -> None:
    """Train and test the seeds of a row that are not finished."""
    for config in make_configs(job.parameters):
        folder = job.folder / f"seed{config.seed}"
        if is_finished(folder, asdict(config)):
            continue
        say(f"{job.method}, seed {config.seed}: {folder}")
        check_path = job.folder / "folder_check.json"
        if rank():
            wait_for_all()  # the first one looks at all files, the others read what it found
        images = load_data(config, job.parameters.get("data_root") or None, check_path)
        if not rank():
            wait_for_all()
        run = pretrain(config, images, folder, device=device, deadline=deadline, on_epoch=lambda run: say(progress_line(run)))
        if any_process(time.monotonic() >= deadline, device):
            raise OutOfTime("trained, but not tested yet; the same command goes on from there")
        if rank() == 0:
            finish_run(run, images, folder)
        wait_for_all()


def print_table(request: Request) -> None:
    table = make_table(read_summaries(request.out))
    write_table(request.out / "table.csv", table)
    print(f"\n{render_table(table)}\n\n{request.out / 'table.csv'}", flush=True)


def say(text: str) -> None:
    if rank() == 0:
        print(text, flush=True)
