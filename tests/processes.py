"""Processes started as people start them; what they print is a file."""

import subprocess
import sys
from pathlib import Path


def start_python(*words: object, printed: Path) -> subprocess.Popen:
    """Start ``python WORDS`` in the current folder."""
    with printed.open("w") as file:
        return subprocess.Popen(
            [sys.executable, *map(str, words)], stdout=file, stderr=subprocess.STDOUT
        )


def start_two(*words: object, printed: Path, max_restarts: int = 0) -> subprocess.Popen:
    """Start ``torchrun --standalone --nproc-per-node=2 WORDS``."""
    options = "--standalone", "--nproc-per-node=2", f"--max-restarts={max_restarts}"
    return start_python("-m", "torch.distributed.run", *options, *words, printed=printed)


def finish(process: subprocess.Popen, printed: Path, seconds: float = 600) -> str:
    """Wait until a process has succeeded; return what it printed."""
    assert process.wait(seconds) == 0, printed.read_text()
    return printed.read_text()
