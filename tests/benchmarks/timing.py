"""How long a step takes and how much memory it needs, several steps in turns."""

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

os.environ.setdefault(
    "KINETO_LOG_LEVEL", "99"
)  # torch's profiler, which counts memory here, is silent


def seconds_in_turns(
    steps: dict[str, Callable[[], None]], device: torch.device, seconds: float = 3.0
) -> dict[str, list[float]]:
    """Time each step several times, in turns, so that all meet the same state of the machine.

    One round warms up. Then rounds go on until they have taken ``seconds`` and there are three; a step whose
    first round took longer than ten times ``seconds`` keeps that one.

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
    """Return the most bytes that torch's allocator held at once for the step, beyond those it held before."""
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


def make_parser(name: str, about: str) -> argparse.ArgumentParser:
    """Return a benchmark's parser with ``--out`` and ``--device``."""
    parser = argparse.ArgumentParser(f"python -m tests.benchmarks.{name}", description=about)
    where = "folder of the results (default: %(default)s)"
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark"), help=where)
    here = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument(
        "--device", type=torch.device, default=here, help="(default here: %(default)s)"
    )
    return parser
