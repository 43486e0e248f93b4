"""Rebuild a table unattended: ``genscl reproduce PRESET``.

Each method is one papermill run of ``07_train.ipynb``, which trains its seeds one after another; methods run
side by side where there are CPU cores for it. Then ``08_reproduce_table.ipynb`` makes the table. Finished
runs are skipped, interrupted ones go on: the same command continues. ``--max-seconds`` cuts work into pieces.
"""

import math
import os
import shlex
import signal
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from importlib.util import find_spec
from pathlib import Path

import joblib
import pandas as pd
import torch

from genscl_lite.datasets import files, load_data
from genscl_lite.datasets.cores import limited_threads
from genscl_lite.datasets.folder import find_files
from genscl_lite.runs.paths import NOTEBOOKS
from genscl_lite.runs.plan import Job, Request, make_parser, read_presets, read_requests, relative
from genscl_lite.runs.tables import SUMMARIES, make_table, read_summaries, render_table, write_csv
from genscl_lite.train.config import make_configs, min_accuracy
from genscl_lite.train.loop import OutOfTime

UNSOLVED = "not solved yet"
"""How the lines end that an exercise nobody has solved prints; they are not shown while runs are made."""


def command(arguments: list[str] | None = None) -> int:
    """Entry point of ``genscl reproduce``: run ``main``, and stop at once when interrupted."""
    signal.signal(signal.SIGINT, _stop)  # an exception could be lost in some callback
    return main(arguments)


def _stop(*_) -> None:
    """End without waiting for kernels: they end when they find themselves alone."""
    print("interrupted; the same command continues", file=sys.stderr, flush=True)
    os._exit(130)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return 0, 1 after a failed run, 2 after a wrong request."""
    parser = make_parser("genscl reproduce", "Rebuild a table unattended.")
    parser.add_argument(
        "--jobs", type=int, help="methods at once; default: 1 on a GPU, else one a core, up to 4"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print the papermill command of each run, and stop"
    )
    options = parser.parse_args(arguments)
    try:
        check_notebooks(options.dry_run)
        requests = read_requests(options)
        if options.jobs is not None and options.jobs < 1:
            raise ValueError(f"jobs: expected at least 1, got {options.jobs}")
        if options.dry_run:
            print("\n".join(line for request in requests for line in papermill_commands(request)))
            return 0
        deadline = time.monotonic() + options.max_seconds
        default = 1 if torch.cuda.is_available() else min(4, joblib.cpu_count())
        workers = options.jobs or default
        return max(reproduce(request.jobs, request.out, workers, deadline) for request in requests)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def check_notebooks(dry_run: bool) -> None:
    """Raise ValueError if the notebooks, or papermill, which executes them, are missing."""
    if not NOTEBOOKS.is_dir():
        raise ValueError(
            f"notebooks: {NOTEBOOKS} is not there; `genscl reproduce` executes the notebooks "
            "of a clone (git clone the project, pip install -e .); "
            "`genscl train PRESET` needs none"
        )
    if not dry_run and not find_spec("papermill"):
        raise ValueError(
            "notebooks: papermill is not installed; pip install 'genscl-lite[notebooks]'"
        )


def papermill_commands(request: Request) -> list[str]:
    """Write the papermill command line of each run."""
    preset, lines = read_presets(request.files), []
    for job in request.jobs:
        for config in make_configs(job.parameters):
            folder = job.folder / f"seed{config.seed}"
            changed = {
                name: value
                for name, value in job.parameters.items()
                if name not in preset or preset[name] != value
            }
            changed |= {"seed": config.seed, "seeds": 1}
            words = [
                "papermill",
                str(relative(NOTEBOOKS / "07_train.ipynb")),
                str(folder / "train.ipynb"),
            ]
            for path in request.files:
                words += ["-f", str(relative(path))]
            for name, value in changed.items():
                words += ["-r" if isinstance(value, str) else "-p", name, str(value)]
            lines.append(f"mkdir -p {shlex.quote(str(folder))} && {shlex.join(words)}")
    return lines


def execute(notebook: str, output: Path, parameters: dict, **options) -> None:
    """Execute one of the project's notebooks in a kernel of its own."""
    import papermill  # here, because nothing else needs it

    papermill.execute_notebook(
        str(NOTEBOOKS / notebook),
        str(output),
        parameters,
        kernel_name="python3",
        progress_bar=False,
        extra_arguments=["--log-level=ERROR"],
        **options,
    )


def reproduce(jobs: list[Job], out: Path, workers: int, deadline: float = math.inf) -> int:
    """Run what is unfinished, then print the table; return 1 if a row failed or is below its floor."""
    waiting = [job for job in jobs if job.unfinished()]
    look_at_data(jobs[-1])  # teachers, which may know more labels, stand first
    with files.locked(out), limited_threads(workers):
        finished = len(jobs) - len(waiting)
        print(f"{out}: {finished} of {len(jobs)} methods finished, {workers} at a time", flush=True)
        failures, paused = run_all(waiting, workers, deadline)
        if paused:
            print(
                f"\ntime is up: {', '.join(paused)} to go on with; the same command continues",
                flush=True,
            )
        table = out / "table.csv"
        if not any(out.glob(SUMMARIES)):
            return 1 if failures else 0
        if not is_current(table):
            parameters = {"results": str(out), "table": str(table)}
            execute("08_reproduce_table.ipynb", out / "08_reproduce_table.ipynb", parameters)
    results = pd.read_csv(table)
    print(f"\n{render_table(results)}\n\n{table}", flush=True)
    accuracies = dict(zip(results.method, results.accuracy_mean, strict=True))
    for job in jobs:
        floor = min_accuracy(job.parameters, job.method)
        if (
            job.method in accuracies.keys() - {*failures, *paused}
            and accuracies[job.method] < floor
        ):
            failures[job.method] = (
                f"mean accuracy {accuracies[job.method]}, expected at least {floor}"
            )
            print(f"error: {job.method}: {failures[job.method]}", file=sys.stderr)
    return 1 if failures else 0


def is_current(table: Path) -> bool:
    """Tell whether the table is that of all finished runs; clocks, which may go back, are not asked."""
    return table.exists() and table.read_text("utf-8") == write_csv(
        make_table(read_summaries(table.parent))
    )


def look_at_data(job: Job) -> None:
    """Look at the data once, so that missing files are reported before a kernel starts."""
    config = make_configs(job.parameters)[0]
    if config.dataset == "folder" and job.data_root:
        find_files(job.data_root, config)
    else:
        load_data(config, job.data_root)


def run_all(jobs: list[Job], workers: int, deadline: float) -> tuple[dict[str, str], list[str]]:
    """Run jobs side by side; return method -> what went wrong, and the methods that the deadline stopped."""
    started, failures, paused = time.perf_counter(), {}, []
    methods, running = {}, []
    with ThreadPoolExecutor(workers) as pool:
        for job in jobs:  # teachers stand first
            teacher = next((future for other, future in running if job.learns_from(other)), None)
            running.append((job, pool.submit(run_job, job, deadline, teacher)))
            methods[running[-1][1]] = job.method
        for done, future in enumerate(as_completed(methods), start=1):
            method, seconds, error = (
                methods[future],
                time.perf_counter() - started,
                future.exception(),
            )
            ended, left = "done", f", about {seconds / done * (len(jobs) - done):.0f} s left"
            if isinstance(error, OutOfTime):
                paused.append(method)
                ended, left = f"paused ({error})", ""
            elif error:
                failures[method], ended = str(error), "failed"
                print(f"error: {method}: {error}", file=sys.stderr, flush=True)
            print(f"[{done}/{len(jobs)}] {method} {ended} after {seconds:.0f} s{left}", flush=True)
    return failures, paused


def run_job(job: Job, deadline: float, teacher: Future | None = None) -> None:
    """Wait for the teacher, if there is one, then execute the training notebook for one method.

    Raises:
        OutOfTime: the deadline came; what was trained is saved.
        ValueError: the run failed; its notebook is kept as ``failed.ipynb``.
    """
    if teacher and teacher.exception():
        paused = isinstance(teacher.exception(), OutOfTime)
        raise OutOfTime("its teacher is") if paused else ValueError("its teacher failed")
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise OutOfTime("not begun")
    parameters = job.parameters | {"max_seconds": seconds if seconds < math.inf else 0.0}
    job.folder.mkdir(parents=True, exist_ok=True)
    temporary = job.folder / ".train.tmp.ipynb"
    from nbclient.exceptions import DeadKernelError
    from papermill import PapermillExecutionError  # as in ``execute``

    try:
        printed = Prefixed(job.method)
        execute("07_train.ipynb", temporary, parameters, coalesce_streams=True, stdout_file=printed)
    except PapermillExecutionError as error:
        if error.ename == OutOfTime.__name__:
            temporary.unlink()
            raise OutOfTime(error.evalue) from None
        failed = temporary.replace(job.folder / "failed.ipynb")
        raise ValueError(f"{error.ename}: {error.evalue} (see {failed})") from None
    except DeadKernelError:
        raise ValueError(
            "its kernel was killed, as systems do when memory is short; the same command goes "
            "on, with a smaller --jobs in less memory"
        ) from None
    temporary.replace(job.folder / "train.ipynb")
    (job.folder / "failed.ipynb").unlink(missing_ok=True)


class Prefixed:
    """A stream to the terminal with the method's name before each line; exercises that wait are left out."""

    def __init__(self, method: str):
        self.method = method

    def write(self, text: str) -> None:
        for line in text.splitlines():
            if line.strip() and not line.endswith(UNSOLVED):
                print(f"{self.method}: {line}", flush=True)

    def flush(self) -> None:
        pass
