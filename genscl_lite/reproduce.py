"""Rebuild a table unattended: ``python -m genscl_lite.reproduce PRESET``.

Each method is one papermill run of ``07_train.ipynb``, which trains its seeds one after another; methods run side by
side where there are CPU cores for it. Then ``08_reproduce_table.ipynb`` makes the table. Finished runs are skipped,
interrupted ones go on: the same command continues. ``--max-seconds`` cuts the work into pieces.
"""

import argparse
import math
import os
import shlex
import signal
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
import papermill
import torch
import yaml
from papermill.exceptions import PapermillExecutionError

from genscl_lite import runfolder
from genscl_lite.checks import nearest, require_choice
from genscl_lite.config import METHODS, TrainConfig, check_parameters, make_configs, min_accuracy, teacher_method
from genscl_lite.data import load_dataset
from genscl_lite.notebook import UNSOLVED
from genscl_lite.results import PROJECT, SUMMARIES, is_finished, render_table
from genscl_lite.training import OutOfTime

NOTEBOOKS = PROJECT / "notebooks"
PRESETS = NOTEBOOKS / "presets"
LENGTHS = PRESETS / "lengths"
QUIET = {"kernel_name": "python3", "progress_bar": False, "extra_arguments": ["--log-level=ERROR"]}
ELSEWHERE = {"method": "chosen by --only", "out": "chosen by --out", "seeds": "chosen by --seeds",
             "max_seconds": "chosen by --max-seconds", "teacher": "a row of the same table",
             "by_method": "for a preset file"}  # fmt: skip


@dataclass(frozen=True)
class Job:
    """One method of the table: all its seeds in ``folder``."""

    method: str
    folder: Path
    parameters: dict

    def unfinished(self) -> bool:
        configs = make_configs(self.parameters)
        return not all([is_finished(self.folder / f"seed{config.seed}", asdict(config)) for config in configs])

    def teaches(self, others: list["Job"]) -> bool:
        return any(other.parameters.get("teacher") == str(self.folder) for other in others)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return 0, 1 after a failed run, 2 after a wrong request."""
    options = parse_arguments(arguments)
    try:
        files = [path for path in (preset_path(options.preset), length_path(options.length)) if path]
        parameters = read_presets(files) | dict(map(parse_parameter, options.parameter))
        if options.seeds is not None:
            parameters["seeds"] = options.seeds
        check_parameters(parameters)
        if options.jobs is not None and options.jobs < 1:
            raise ValueError(f"jobs: expected at least 1, got {options.jobs}")
        if not options.max_seconds > 0:
            raise ValueError(f"max-seconds: expected a number above 0, got {options.max_seconds}")
        out = relative(Path(options.out or Path("runs") / "_".join(path.stem for path in files)))
        jobs = plan(parameters, out, options.only)
        if options.dry_run:
            print("\n".join(commands(jobs, files)))
            return 0
        return reproduce(jobs, out, options.jobs or default_jobs(), time.monotonic() + options.max_seconds)
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m genscl_lite.reproduce", description="Rebuild a table unattended.")
    parser.add_argument("preset", help=f"a name ({', '.join(presets())}) or a YAML file")
    parser.add_argument("--length", default="paper", help="paper: as in the preset (default); quick: a row in minutes")
    parser.add_argument("--out", help="folder of the runs; default: runs/PRESET, or runs/PRESET_quick")
    parser.add_argument("--seeds", type=int, help="runs of each method; default: the preset's")
    parser.add_argument("--only", metavar="METHOD", action="append", default=[], help="this row alone; may be repeated")
    parser.add_argument("-p", "--parameter", metavar="NAME=VALUE", action="append", default=[], help="change a parameter")
    parser.add_argument("--jobs", type=int, help="methods at once; default: 1 on a GPU, else up to 4, one a core")
    parser.add_argument("--max-seconds", metavar="S", type=float, default=math.inf,
                        help="save and stop after so long; the same command continues")
    parser.add_argument("--dry-run", action="store_true", help="print the papermill commands, one for each run, and stop")
    return parser.parse_args(arguments)


def presets() -> list[str]:
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def preset_path(preset: str) -> Path:
    """Return the file of a preset, by name or path.

    Raises:
        ValueError: there is none of this name (the nearest is suggested).
    """
    path = Path(preset) if preset.endswith(".yaml") else PRESETS / f"{preset}.yaml"
    if not path.is_file():
        raise ValueError(f"preset: {preset!r} is unknown{nearest(preset, presets())}; expected one of {', '.join(presets())}")
    return path


def length_path(length: str) -> Path | None:
    """Return the file that makes a preset shorter; None for "paper", the preset's own length."""
    lengths = {"paper": None} | {path.stem: path for path in LENGTHS.glob("*.yaml")}
    require_choice("length", length, lengths)
    return lengths[length]


def read_presets(files: list[Path]) -> dict:
    """Read files of parameters, the values of a later one over those of an earlier one, as papermill does.

    Raises:
        ValueError: one is not a YAML mapping.
    """
    parameters = {}
    for path in files:
        try:
            content = yaml.safe_load(path.read_text())
        except yaml.YAMLError as error:
            raise ValueError(f"preset: {path} is not YAML: {' '.join(str(error).split())}") from None
        if not isinstance(content, dict):
            raise ValueError(f"preset: {path} is not a mapping of parameters")
        parameters |= content
    return parameters


def parse_parameter(text: str) -> tuple[str, object]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"parameter: expected NAME=VALUE, got {text!r}")
    if name in ELSEWHERE:
        raise ValueError(f"parameter: {name} is {ELSEWHERE[name]}")
    try:
        return name, yaml.safe_load(value)
    except yaml.YAMLError:
        raise ValueError(f"parameter: {text!r} is not YAML") from None


def plan(parameters: dict, out: Path, only: list[str]) -> list[Job]:
    """List the jobs, the teacher first; a method that needs the teacher brings it along.

    Where all labels are known one teacher serves all seeds, and the row "teacher" has one seed.

    Raises:
        ValueError: a method is unknown, or its parameters do not fit together.
    """
    for method in only:
        require_choice("only", method, METHODS)
    teacher = teacher_method(parameters)
    methods = [method for method in METHODS if method in (only or {*METHODS} - {"teacher"})]
    if any(METHODS[method].distils for method in methods):
        methods = [teacher] + [method for method in methods if method != teacher]
    jobs = []
    for method in methods:
        own = {"method": method, "out": str(out / method)}
        if METHODS[method].distils:
            own["teacher"] = str(out / teacher)
        if method == "teacher" and not parameters.get("labels_per_class", TrainConfig.labels_per_class):
            own["seeds"] = 1
        jobs.append(Job(method, out / method, parameters | own))
    return jobs


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


def relative(path: Path) -> Path:
    """Write a path below the current folder always in the same way."""
    path = path.absolute()
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def default_jobs() -> int:
    return 1 if torch.cuda.is_available() else min(4, os.cpu_count() or 1)


def reproduce(jobs: list[Job], out: Path, workers: int, deadline: float = math.inf) -> int:
    """Run what is unfinished, then the table; print progress and the table. Return 1 if a row failed or is below its floor."""
    waiting = [job for job in jobs if job.unfinished()]
    check_data(jobs)
    with runfolder.locked(out):
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
    """Load the data once, so that what is missing is said before a kernel starts."""
    parameters = jobs[0].parameters
    for config in make_configs(parameters)[:1]:
        load_dataset(config.dataset, parameters.get("data_root") or None, config.labels_per_class, config.seed)


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


if __name__ == "__main__":
    signal.signal(signal.SIGINT, _stop)  # an exception could be lost in some callback
    sys.exit(main())
