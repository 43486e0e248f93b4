"""Rebuild a table unattended: ``genscl reproduce PRESET``.

Each method is one papermill run of ``07_train.ipynb``, which trains its seeds one after another; methods run side by
side where there are CPU cores for it. Then ``08_reproduce_table.ipynb`` makes the table. Finished runs are skipped,
interrupted ones go on: the same command continues. ``--max-seconds`` cuts the work into pieces.
"""

import math
import os
import shlex
import signal
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path

import pandas as pd
import papermill
import torch
from papermill.exceptions import PapermillExecutionError

from genscl_lite.datasets import files
from genscl_lite.datasets import load_data
from genscl_lite.datasets.folder import scan_folder
from genscl_lite.lessons.exercises import UNSOLVED
from genscl_lite.runs.paths import NOTEBOOKS
from genscl_lite.runs.plan import Job, make_parser, read_presets, read_request, relative
from genscl_lite.runs.tables import SUMMARIES, render_table
from genscl_lite.train.config import make_configs, min_accuracy
from genscl_lite.train.loop import OutOfTime
from genscl_lite.train.methods import METHODS

QUIET = {"kernel_name": "python3", "progress_bar": False, "extra_arguments": ["--log-level=ERROR"]}


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return 0, 1 after a failed run, 2 after a wrong request."""
    parser = make_parser("genscl reproduce", "Rebuild a table unattended.")
    parser.add_argument("--jobs", type=int, help="methods at once; default: 1 on a GPU, else up to 4, one a core")
    parser.add_argument("--dry-run", action="store_true", help="print the papermill commands, one for each run, and stop")
    options = parser.parse_args(arguments)
    try:
        request = read_request(options)
        if options.jobs is not None and options.jobs < 1:
            raise ValueError(f"jobs: expected at least 1, got {options.jobs}")
        if options.dry_run:
            print("\n".join(commands(request.jobs, request.files)))
            return 0
        deadline = time.monotonic() + request.max_seconds
        return reproduce(request.jobs, request.out, options.jobs or default_jobs(), deadline)
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def commands(jobs: list[Job], files: list[Path]) -> list[str]:
    """Write the papermill command line of each run, a line each."""
    preset, lines = read_presets(files), []
    for job in jobs:
        for config in make_configs(job.parameters):
            folder = job.folder / f"seed{config.seed}"
            changed = {name: value for name, value in job.parameters.items() if preset.get(name) != value or name not in preset}
            changed |= {"seed": config.seed, "seeds": 1}
            words = ["papermill", str(relative(NOTEBOOKS / "07_train.ipynb")), str(folder / "train.ipynb")]
            for path in files:
                words += ["-f", str(relative(path))]
            for name, value in changed.items():
                words += ["-p", name, str(value)]
            lines.append(f"mkdir -p {shlex.quote(str(folder))} && {shlex.join(words)}")
    return lines


def default_jobs() -> int:
    return 1 if torch.cuda.is_available() else min(4, os.cpu_count() or 1)


def reproduce(jobs: list[Job], out: Path, workers: int, deadline: float = math.inf) -> int:
    """Run what is unfinished, then the table; print progress and the table. Return 1 if a row failed or is below its floor."""
    waiting = [job for job in jobs if job.unfinished()]
    check_data(jobs)
    with files.locked(out):
        cores = os.cpu_count() or 1
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // workers)))  # for the kernels
        print(f"{out}: {len(jobs) - len(waiting)} of {len(jobs)} methods finished, {workers} at a time", flush=True)
        failures, paused = run_all(waiting, workers, deadline)
        if paused:
            print(f"\ntime is up: {', '.join(paused)} to go on with; the same command continues", flush=True)
        table = out / "table.csv"
        if not any(out.glob(SUMMARIES)):
            return 1 if failures else 0
        if not is_current(table):
            papermill.execute_notebook(
                str(NOTEBOOKS / "08_reproduce_table.ipynb"), str(out / "08_reproduce_table.ipynb"),
                {"results": str(out), "table": str(table)}, **QUIET,
            )  # fmt: skip
    results = pd.read_csv(table).set_index("method", drop=False)
    print(f"\n{render_table(results)}\n\n{table}", flush=True)
    for job in jobs:
        floor = min_accuracy(job.parameters, job.method)
        if job.method in results.index.difference([*failures, *paused]) and results.accuracy_mean[job.method] < floor:
            failures[job.method] = f"mean accuracy {results.accuracy_mean[job.method]}, expected at least {floor}"
            print(f"error: {job.method}: {failures[job.method]}", file=sys.stderr)
    return 1 if failures else 0


def is_current(table: Path) -> bool:
    """Tell whether the table was made after the last run had finished."""
    finished = max(path.stat().st_mtime_ns for path in table.parent.glob(SUMMARIES))
    return table.exists() and table.stat().st_mtime_ns >= finished


def check_data(jobs: list[Job]) -> None:
    """Look at the data once, so that what is missing is said before a kernel starts."""
    parameters = jobs[0].parameters
    config, root = make_configs(parameters)[0], parameters.get("data_root") or None
    if config.dataset == "folder" and root:
        scan_folder(root, val_share=config.val_share)
    else:
        load_data(config, root)


class Paused(Exception):
    """A run has been saved because its time was over."""


def run_all(jobs: list[Job], workers: int, deadline: float) -> tuple[dict[str, str], list[str]]:
    """Run jobs side by side, those that learn from the teacher after it; return method -> what went wrong, and who is paused."""
    started, failures, paused = time.perf_counter(), {}, []
    pool = ThreadPoolExecutor(workers)
    teachers = {job.method: pool.submit(run_job, job, deadline) for job in jobs if job.teaches(jobs)}
    futures = {teachers.get(job.method) or pool.submit(run_after, teachers, job, deadline): job.method for job in jobs}
    for done, future in enumerate(as_completed(futures), start=1):
        method, seconds, error = futures[future], time.perf_counter() - started, future.exception()
        left = f", about {seconds / done * (len(jobs) - done):.0f} s left"
        if isinstance(error, Paused):
            paused.append(method)
            ended, left = f"paused ({error})", ""
        elif error:
            failures[method], ended = str(error), "failed"
            print(f"error: {method}: {error}", file=sys.stderr, flush=True)
        else:
            ended = "done"
        print(f"[{done}/{len(jobs)}] {method} {ended} after {seconds:.0f} s{left}", flush=True)
    pool.shutdown()
    return failures, paused


def run_after(teachers: dict[str, Future], job: Job, deadline: float) -> None:
    """Run a job; first wait for the teacher, if the job learns from it."""
    if METHODS[job.method].distils:
        for teacher in teachers.values():
            if isinstance(teacher.exception(), Paused):
                raise Paused("its teacher is")
            if teacher.exception():
                raise ValueError("its teacher failed")
    run_job(job, deadline)


def run_job(job: Job, deadline: float) -> None:
    """Execute the training notebook for one method; a failed one is kept as ``failed.ipynb``."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise Paused("not begun")
    job.folder.mkdir(parents=True, exist_ok=True)
    temporary = job.folder / ".train.tmp.ipynb"
    try:
        papermill.execute_notebook(
            str(NOTEBOOKS / "07_train.ipynb"), str(temporary), job.parameters | {"max_seconds": left if left < math.inf else 0.0},
            coalesce_streams=True, stdout_file=_Prefixed(job.method), **QUIET,
        )  # fmt: skip
    except PapermillExecutionError as error:
        if error.ename == OutOfTime.__name__:
            temporary.unlink()
            raise Paused(error.evalue) from None
        failed = temporary.replace(job.folder / "failed.ipynb")
        raise ValueError(f"{error.ename}: {error.evalue} (see {failed})") from None
    temporary.replace(job.folder / "train.ipynb")
    (job.folder / "failed.ipynb").unlink(missing_ok=True)


class _Prefixed:
    """Passes the lines a kernel prints on to the terminal, each with the method's name before it, but not the exercises'."""

    def __init__(self, name: str):
        self.name = name

    def write(self, text: str) -> None:
        for line in text.splitlines():
            if line.strip() and not line.endswith(UNSOLVED):
                print(f"{self.name}: {line}", flush=True)

    def flush(self) -> None:
        pass


def _stop(*_) -> None:
    """End at once, without waiting for kernels: they end when they find themselves alone."""
    print("interrupted; the same command continues", file=sys.stderr, flush=True)
    os._exit(130)


def command(arguments: list[str] | None = None) -> int:
    """Be ``genscl reproduce``: run ``main``, and end at once when interrupted."""
    signal.signal(signal.SIGINT, _stop)  # an exception could be lost in some callback
    return main(arguments)
