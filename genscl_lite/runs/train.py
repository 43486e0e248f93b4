"""``genscl train PRESET``: the jobs of ``genscl reproduce``, without notebooks.

torchrun may start it in several processes, of which the first evaluates, writes and prints. Either command
resumes what the other has begun.
"""

import signal
import sys
import time
import warnings
from contextlib import nullcontext
from dataclasses import replace

import torch.distributed as dist

from genscl_lite.runs.display import display, next_steps, show_results
from genscl_lite.runs.job import train_job
from genscl_lite.runs.request import Request, make_parser, read_requests
from genscl_lite.train.loop import AtChance, OutOfTime
from genscl_lite.train.processes import rank, start_processes


def main(arguments: list[str] | None = None) -> int:
    """Entry point of ``genscl train``. Returns 0 on success or timeout, 2 on an error, 130 when interrupted."""
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
            train_table(request, device, deadline)
    except OutOfTime as stop:
        if rank() == 0:
            print(f"time is up: {stop}", flush=True)
    except KeyboardInterrupt:
        if rank() == 0:
            print("interrupted; the same command continues", file=sys.stderr, flush=True)
        return 130
    except (ValueError, OSError, MemoryError) as error:
        where = f"process {rank()}: " if rank() else ""
        print(f"error: {where}{error}", file=sys.stderr, flush=True)
        return 2
    if dist.is_initialized():
        dist.destroy_process_group()
    return 0


def train_table(request: Request, device, deadline: float) -> None:
    """Train and test what is unfinished, then write and print the table."""
    waiting = [replace(job, configs=job.unfinished()) for job in request.jobs]
    with display(request.jobs) if rank() == 0 else nullcontext(), warnings.catch_warnings():
        warnings.simplefilter("ignore", AtChance)  # the display says it, with row and seed
        for job in waiting:
            for _ in train_job(job, deadline, device=device):
                pass
    if rank() == 0:
        show_results(request.out)
        print(f"\n{next_steps(request.out)}", flush=True)
