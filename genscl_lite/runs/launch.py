"""Rebuild a table unattended: ``genscl reproduce PRESET``.

Each row is one papermill run of ``08_train.ipynb``, which trains its seeds one after another; rows run side
by side if there are CPU cores for it. Then ``09_reproduce_table.ipynb`` makes the table and
``10_see_the_space.ipynb`` the pictures of the latents. Finished runs are skipped, interrupted ones resume:
the same command continues. ``--max-seconds`` cuts work into pieces.
"""

import math
import os
import shlex
import signal
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import joblib
import yaml
from rich.console import Console

from genscl_lite.datasets import files, load_data
from genscl_lite.datasets.cores import limited_threads
from genscl_lite.datasets.folder import find_files
from genscl_lite.runs.display import REPORT, SPACE, Lines, display, next_steps, show_results
from genscl_lite.runs.job import Job
from genscl_lite.runs.kernels import Kernels, check_notebooks, writable_home, write_report
from genscl_lite.runs.paths import NOTEBOOKS
from genscl_lite.runs.plan import relative
from genscl_lite.runs.request import Request, make_parser, read_requests
from genscl_lite.runs.tables import run_files
from genscl_lite.train.config import TrainConfig
from genscl_lite.train.device import default_device
from genscl_lite.train.loop import OutOfTime

TRAIN, TABLE = "08_train.ipynb", "09_reproduce_table.ipynb"
ONE_LINE = {"default_flow_style": True, "width": math.inf}
SPACE_ROWS = "supcon", "genscl_mix"
"""Rows whose embeddings the last notebook compares."""


def command(arguments: list[str] | None = None) -> int:
    """Entry point of ``genscl reproduce``: run ``main``, and end at once when interrupted."""
    signal.signal(signal.SIGINT, _stop)  # an exception could be lost in some callback
    return main(arguments)


def _stop(*_) -> None:
    """End without waiting for kernels: they end when they find themselves alone."""
    Console().show_cursor(True)
    print("interrupted; the same command continues", file=sys.stderr, flush=True)
    os._exit(130)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return 0, 1 after a failed run, 2 after a wrong request."""
    parser = make_parser("genscl reproduce", "Rebuild a table unattended.")
    parser.add_argument(
        "--jobs", type=int, help="rows at once; default: 1 on a GPU, else one a core, up to 4"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print the papermill command of each run, and stop"
    )
    options = parser.parse_args(arguments)
    try:
        check_notebooks(executes=not options.dry_run)
        requests = read_requests(options)
        if options.jobs is not None and options.jobs < 1:
            raise ValueError(f"jobs: expected at least 1, got {options.jobs}")
        if options.dry_run:
            print("\n".join(line for request in requests for line in papermill_lines(request)))
            return 0
        deadline = time.monotonic() + options.max_seconds
        default = min(4, joblib.cpu_count()) if default_device().type == "cpu" else 1
        with writable_home():
            return max(reproduce(r, options.jobs or default, deadline) for r in requests)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def notebook_parameters(request: Request, job: Job, configs: tuple[TrainConfig, ...]) -> dict:
    """Return the parameters with which the training notebook plans and trains some seeds of a job."""
    return {
        "preset": request.preset,
        "method": job.method,
        "overrides": request.overrides | {"seed": configs[0].seed},
        "seeds": len(configs),
        "out": str(request.out),
        "data_root": job.data_root or "",
    }


def papermill_lines(request: Request) -> list[str]:
    """Write the papermill command line of each run."""
    lines = []
    for job in request.jobs:
        for config in job.configs:
            parameters, folder = (
                notebook_parameters(request, job, (config,)),
                job.seed_folder(config),
            )
            words = ["papermill", str(relative(NOTEBOOKS / TRAIN)), str(folder / "train.ipynb")]
            changed = yaml.safe_dump({"overrides": parameters.pop("overrides")}, **ONE_LINE)
            words += ["-y", changed.strip()]
            for name, value in parameters.items():
                words += ["-r" if isinstance(value, str) else "-p", name, str(value)]
            lines.append(f"mkdir -p {shlex.quote(str(folder))} && {shlex.join(words)}")
    return lines


def reproduce(request: Request, workers: int, deadline: float = math.inf) -> int:
    """Run what is unfinished, then show the results; return 1 if a row failed or is below its ``min_accuracy``."""
    out, jobs = request.out, request.jobs
    waiting = [job for job in jobs if job.unfinished()]
    look_at_data(jobs[-1])  # teachers, which may know more labels, stand first
    with files.locked(out), limited_threads(workers), Kernels() as kernels:
        print(f"{out}: {len(jobs) - len(waiting)} of {len(jobs)} rows finished", flush=True)
        failures, paused = run_all(request, waiting, workers, deadline, kernels)
        if paused:
            print(f"\ntime is up: {', '.join(paused)} to go on with; the same command continues")
        if not run_files(out, "summary.json"):
            return 1 if failures else 0
        accuracies = show_results(out).set_index("method").accuracy_mean
        for job in jobs:
            found = accuracies.get(job.method, math.inf)
            if job.method not in {*failures, *paused} and found < job.min_accuracy:
                failures[job.method] = f"mean accuracy {found}, expected {job.min_accuracy} or more"
                print(f"error: {job.method}: {failures[job.method]}", file=sys.stderr)
        draw_report(out, jobs[-1].data_root, workers, kernels)
    print(f"\n{next_steps(out)}", flush=True)
    return 1 if failures else 0


def look_at_data(job: Job) -> None:
    """Look at the data once, so that what is missing is reported before a kernel starts."""
    config = job.configs[0]
    if config.dataset == "folder" and job.data_root:
        find_files(job.data_root, config)
    else:
        load_data(config, job.data_root)


def run_all(
    request: Request, jobs: list[Job], workers: int, deadline: float, kernels: Kernels
) -> tuple[dict[str, str], list[str]]:
    """Run jobs side by side; return method -> what went wrong, and the methods that the deadline stopped."""
    running: dict[str, Future] = {}
    failures, paused = {}, []
    with display(request.jobs) as shown, ThreadPoolExecutor(workers) as pool:
        for job in jobs:  # teachers stand first
            teacher = job.teacher.method if isinstance(job.teacher, Job) else None
            words = request, job, deadline, kernels, running.get(teacher)
            running[job.method] = pool.submit(run_job, *words)
            running[job.method].add_done_callback(partial(_tell, shown, job.method))
    for method, future in running.items():
        if isinstance(future.exception(), OutOfTime):
            paused.append(method)
        elif future.exception():
            failures[method] = str(future.exception())
    return failures, paused


def _tell(shown: Lines, method: str, future: Future) -> None:
    """Show at once how a row ended that has not finished."""
    error = future.exception()
    if error:
        paused = isinstance(error, OutOfTime)
        shown.note(method, f"paused ({error})" if paused else "failed")
        if not paused:
            print(f"error: {method}: {error}", file=sys.stderr, flush=True)


def run_job(
    request: Request, job: Job, deadline: float, kernels: Kernels, teacher: Future | None = None
) -> None:
    """Wait for the teacher, if there is one, then execute the training notebook for one row.

    Raises:
        OutOfTime: deadline reached; what was trained is saved.
        ValueError: the run failed; its notebook is kept as ``train_failed.ipynb``.
    """
    if teacher and teacher.exception():
        paused = isinstance(teacher.exception(), OutOfTime)
        raise OutOfTime("its teacher is") if paused else ValueError("its teacher failed")
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise OutOfTime("not begun")
    parameters = notebook_parameters(request, job, job.configs)
    parameters["max_seconds"] = seconds if seconds < math.inf else 0.0
    kernels.execute(TRAIN, job.folder / "train.ipynb", parameters)


def draw_report(out: Path, data_root: str | None, workers: int, kernels: Kernels) -> None:
    """Make the report of a table and the pictures of its latents, side by side; what is there is kept."""
    tasks = []
    if not (out / REPORT).exists():
        print("\ndrawing the report", flush=True)
        (out / SPACE).unlink(missing_ok=True)  # of the table before
        tasks.append(partial(report_table, out, kernels))
    seeds = [
        {seed for method, seed, _ in run_files(out, "embeddings.npz") if method == row}
        for row in SPACE_ROWS
    ]
    common = set.intersection(*seeds)
    if common and not (out / SPACE).exists():
        words = {"results": str(out), "seed": min(common), "data_root": data_root or ""}
        tasks.append(partial(kernels.execute, SPACE, out / SPACE, words))
    with ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(task) for task in tasks]
    for future in futures:
        future.result()


def report_table(out: Path, kernels: Kernels) -> None:
    """Execute the notebook about a table, and make the report of it."""
    kernels.execute(TABLE, out / TABLE, {"results": str(out)})
    write_report(out / TABLE, out / REPORT)
