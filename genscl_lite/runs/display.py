"""What a person sees while rows are trained: a bar for each; without a terminal, a line for each finished seed.

It reads what runs write into their folders, so it does not matter which process trains them.
"""

import sys
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from statistics import fmean

import pandas as pd
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column

from genscl_lite.datasets import files
from genscl_lite.runs.claims import read_predictions, verdict_lines
from genscl_lite.runs.job import PROGRESS, Job
from genscl_lite.runs.tables import (
    make_table,
    read_summaries,
    render_table,
    run_files,
    write_csv,
    write_table,
)
from genscl_lite.train.methods import METHODS

REPORT, SPACE = "report.html", "10_see_the_space.ipynb"
"""What ``genscl reproduce`` makes beside the table."""
VERDICTS = "What these runs say of the paper's claims (differences with their 95 % intervals):"
REFRESH = 0.5  # seconds between two looks at the folders
SILENCE = 60.0  # seconds after which a line is printed though no seed has finished


def display(jobs: Iterable[Job]) -> "Lines":
    """Return a context in which the progress of jobs is shown."""
    console = Console(file=sys.stdout)
    return Bars(jobs, console) if console.is_terminal else Lines(jobs)


def show_results(out: Path) -> pd.DataFrame:
    """Write and print the table of a folder and what it says of the paper's claims; return the table.

    A report that shows another table is deleted.
    """
    runs = read_summaries(out)
    table, path = make_table(runs), out / "table.csv"
    if not path.exists() or path.read_text("utf-8") != write_csv(table):
        (out / REPORT).unlink(missing_ok=True)
        write_table(path, table)
    text = render_table(table)
    if verdicts := verdict_lines(runs, read_predictions(out)):
        text += "\n\n".join(["", VERDICTS, "\n".join(verdicts)])
    console = Console(file=sys.stdout)
    if console.is_terminal:
        console.print(Markdown(text))
    else:
        print(f"\n{text}", flush=True)
    return table


def next_steps(out: Path) -> str:
    """Say what may be done with the results, and last where to look at them."""
    lines = ["what next:"]
    for *_, model in run_files(out, "model.safetensors")[-1:]:
        lines.append(f"  genscl predict {model.parent} IMAGE...   names the classes of your images")
    if (out / SPACE).exists():
        lines.append(f"  jupyter lab {out / SPACE}   shows what the latents look like")
    if (out / REPORT).exists():
        return "\n".join([*lines, f"report: {out / REPORT}, to be opened in a browser"])
    return "\n".join([*lines, f"table: {out / 'table.csv'}"])


class Row:
    """How far the seeds of a job are."""

    def __init__(self, job: Job):
        self.job, self.finished, self.running = job, {}, {}
        self.epochs_of = {config.seed: config.epochs for config in job.configs}
        self.total = sum(self.epochs_of.values())
        self.look()

    def look(self) -> tuple[list[dict], list[str]]:
        """Read what is in the folders; return the summaries that are new, and notes, each with its seed."""
        new, notes = [], []
        for config in self.job.configs:
            if config.seed in self.finished:
                continue
            folder = self.job.seed_folder(config)
            with suppress(OSError, ValueError):  # not there yet
                before = self.running.get(config.seed, {})
                self.running[config.seed] = now = files.read_json(folder / PROGRESS)
                if (note := now.get("note")) and note != before.get("note"):
                    notes.append(f"{self.job.method}, seed {config.seed}: {note}")
            with suppress(OSError, ValueError):
                new.append(files.read_json(folder / "summary.json"))
                self.finished[config.seed] = new[-1]
                self.running.pop(config.seed, None)
        return new, notes

    @property
    def epochs(self) -> int:
        done = sum(self.epochs_of[seed] for seed in self.finished)
        return done + sum(progress["epoch"] for progress in self.running.values())

    def __str__(self) -> str:
        seeds = f"{len(self.finished)} of {len(self.job.configs)} seeds"
        if any(shown["epoch"] == self.epochs_of[seed] for seed, shown in self.running.items()):
            return f"{seeds}, testing"
        if not self.finished:
            return seeds
        accuracy = fmean(summary["accuracy_last"] for summary in self.finished.values())
        return f"{seeds}, accuracy {100 * accuracy:.1f} %"


class Lines:
    """Prints a line for each seed that finishes, and one a minute while none does."""

    def __init__(self, jobs: Iterable[Job]):
        self.rows = {job.method: Row(job) for job in jobs}
        self.began = self.printed = time.monotonic()
        self.before, self.total = self.epochs, sum(row.total for row in self.rows.values())
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Lines":
        self.thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.ended.set()
        self.thread.join()
        self.look()

    def _watch(self) -> None:
        while not self.ended.wait(REFRESH):
            self.look()

    @property
    def epochs(self) -> int:
        return sum(row.epochs for row in self.rows.values())

    @property
    def state(self) -> str:
        """How many runs are finished, and about how many seconds the others will take."""
        seeds = sum(len(row.job.configs) for row in self.rows.values())
        finished = sum(len(row.finished) for row in self.rows.values())
        done, spent, left = self.epochs, time.monotonic() - self.began, ""
        if self.before < done < self.total:
            left = f", about {spent * (self.total - done) / (done - self.before):.0f} s left"
        return f"{finished} of {seeds} runs{left}"

    def look(self) -> None:
        """Show what is new in the folders."""
        lines = []
        for method, row in self.rows.items():
            new, notes = row.look()
            for note in notes:
                print(note, flush=True)
            lines += [
                f"{method}, seed {summary['seed']}: accuracy {100 * summary['accuracy_last']:.1f} %, "
                f"{summary['seconds']:.0f} s"
                for summary in new
            ]
        if not lines and time.monotonic() - self.printed > SILENCE:
            lines = [
                f"{method}, seed {seed}: epoch {progress['epoch']} of {row.job.configs[0].epochs}"
                for method, row in self.rows.items()
                for seed, progress in row.running.items()
            ]
        for line in lines:
            print(f"{line} ({self.state})", flush=True)
            self.printed = time.monotonic()

    def note(self, method: str, text: str) -> None:
        """Tell how a row ended that has not finished."""
        print(f"{method} {text}", flush=True)


class Bars(Lines):
    """Shows a bar for each row, and one for all of them."""

    def __init__(self, jobs: Iterable[Job], console: Console):
        super().__init__(jobs)
        title = TextColumn("{task.description}", table_column=Column())  # wrapped if it is narrow
        bar = BarColumn(None, table_column=Column(no_wrap=True, min_width=10, ratio=1))
        note = TextColumn("{task.fields[note]}", table_column=Column(no_wrap=True, min_width=28))
        columns = title, bar, note
        self.progress = Progress(*columns, console=console, expand=True)
        self.bars = {
            method: self.progress.add_task(
                METHODS[method].title, total=row.total, completed=row.epochs, note=str(row)
            )
            for method, row in self.rows.items()
        }
        whole = {"total": self.total, "completed": self.before, "note": self.state}
        self.whole = self.progress.add_task("all rows", **whole)
        self.notes: dict[str, str] = {}

    def __enter__(self) -> "Bars":
        self.progress.start()
        return super().__enter__()

    def __exit__(self, *words) -> None:
        super().__exit__(*words)
        self.progress.stop()

    def look(self) -> None:
        for method, row in self.rows.items():
            for line in row.look()[1]:
                self.progress.console.print(line, markup=False, highlight=False)
            note = self.notes.get(method, str(row))
            self.progress.update(self.bars[method], completed=row.epochs, note=note)
        self.progress.update(self.whole, completed=self.epochs, note=self.state)

    def note(self, method: str, text: str) -> None:
        self.notes[method] = text
