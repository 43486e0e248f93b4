"""Time and memory against peers, in one run on one machine: ``genscl benchmark loss`` (or step, or folder).

``loss``: the loss alone. ``step``: a whole training step, its parts, and a pipeline of DataLoader workers. ``folder``: images
decoded and cropped from files.
"""

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # torch's profiler, which counts memory here, is silent
import torch  # noqa: E402
from torch.profiler import ProfilerActivity, profile  # noqa: E402


def seconds_in_turns(steps: dict[str, Callable[[], None]], device: torch.device, seconds: float = 3.0) -> dict[str, list[float]]:
    """Time each step several times, in turns, so that all meet the same state of the machine.

    One round warms up. Then rounds go on until they have taken ``seconds`` and there are three; a step whose first
    round took longer than ten times ``seconds`` keeps that one.

    Returns:
        For each step the seconds of its rounds.
    """

    def timed(step: Callable[[], None]) -> float:
        wait(device)
        started = time.perf_counter()
        step()
        wait(device)
        return time.perf_counter() - started

    first = {name: timed(step) for name, step in steps.items()}
    slow = {name: [s] for name, s in first.items() if s > 10 * seconds}
    rounds, started = [], time.perf_counter()
    while len(slow) < len(steps) and (len(rounds) < 3 or time.perf_counter() - started < seconds):
        rounds.append({name: timed(step) for name, step in steps.items() if name not in slow})
    return {name: slow.get(name) or [r[name] for r in rounds] for name in steps}


def wait(device: torch.device) -> None:
    """Wait until the device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_bytes(step: Callable[[], None], device: torch.device) -> int:
    """Return the most memory that torch held at once for the step, beyond what it held before, as its allocator tells."""
    if device.type == "cuda":
        wait(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        step()
        wait(device)
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        step()
    events = [e for e in recorded.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", type=torch.device, default="cuda" if torch.cuda.is_available() else "cpu",
                        help="(default here: %(default)s)")  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Run a benchmark, print its table, write its results; return the exit status."""
    from genscl_lite.tools.benchmark import folder, loss, step

    parser = argparse.ArgumentParser(prog="genscl benchmark", description=__doc__.splitlines()[0])
    benchmarks = parser.add_subparsers(dest="what", required=True)
    for name, benchmark in {"loss": loss, "step": step, "folder": folder}.items():
        own = benchmarks.add_parser(name, help=benchmark.__doc__.splitlines()[0])
        own.add_argument("--out", type=Path, default=Path("runs/benchmark"), help="folder of the results (default: %(default)s)")
        benchmark.add_arguments(own)
        own.set_defaults(run=benchmark.main)
    given = vars(parser.parse_args(arguments))
    del given["what"]
    return given.pop("run")(**given)
