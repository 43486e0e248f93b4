"""Processes forked from the tests' own: they have imported all that they need, and begin at once."""

import multiprocessing
import os
import sys
import uuid

from torch.distributed.launcher.api import LaunchConfig, elastic_launch

FORK = multiprocessing.get_context("fork")


def start(function, *arguments):
    """Call a function in a forked process."""
    process = FORK.Process(target=function, args=arguments)
    process.start()
    return process


def start_two(function, *arguments, printed, max_restarts=0):
    """Call a function in two processes, watched by torchrun's agent in a third one; what they print is a file."""
    return start(_watch_two, function, arguments, printed, max_restarts)


def print_to(path):
    """Let all that this process prints, and those that it starts, be a file."""
    sys.stdout = sys.stderr = open(path, "w", buffering=1)
    for descriptor in 1, 2:
        os.dup2(sys.stdout.fileno(), descriptor)


def _watch_two(function, arguments, printed, max_restarts):
    print_to(printed)
    config = LaunchConfig(1, 1, 2, run_id=uuid.uuid4().hex, rdzv_backend="c10d", rdzv_endpoint="localhost:0",
                          max_restarts=max_restarts, start_method="fork")  # as torchrun --standalone  # fmt: skip
    elastic_launch(config, function)(*arguments)
