"""Entry point: ``genscl COMMAND``, or ``python -m genscl_lite COMMAND``.

Only Python's own library is loaded before a command needs more, so that ``genscl check`` works with a broken
torch.
"""

import importlib.metadata
import io
import sys
import warnings
from importlib import import_module

from genscl_lite._checks import nearest

COMMANDS = {
    "reproduce": (
        "rebuild a table: train all rows of a preset through the notebooks",
        "runs.launch:command",
    ),
    "train": ("train rows of a preset without notebooks; what torchrun starts", "runs.train:main"),
    "data": ("download a data set", "datasets.builtin:main"),
    "check": ("say whether this machine is ready, or what is in a data set", "tools.doctor:main"),
    "predict": ("name the classes of images by a finished run", "runs.use:predict"),
    "features": ("write the features of images to a file", "runs.use:features"),
    "export": ("write the encoder of a finished run for other programs", "runs.use:export"),
}
"""Command -> what it does, and the function that takes its words and returns the exit status."""

MOVED = {
    "benchmark": "python -m tests.benchmarks.loss` or `python -m tests.benchmarks.step",
    "keep": "python data/results/keep.py",
    "pages": "python data/results/pages.py",
}
"""Old command -> the script that took its place, in a clone."""


def main(arguments: list[str] | None = None) -> int:
    """Run a command; return its exit status, or 2 if the command is unknown or a package is missing."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # what it cannot encode is escaped, as on stderr
        sys.stdout.reconfigure(errors="backslashreplace")
    if arguments is None:  # a process of its own
        warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    words = sys.argv[1:] if arguments is None else arguments
    if not words or words[0] in ("-h", "--help"):
        print(contents())
        return 0
    if words[0] == "--version":
        print(importlib.metadata.version("genscl-lite"))
        return 0
    command, *rest = words
    if command in MOVED:
        print(f"error: `genscl {command}` is now `{MOVED[command]}`, in a clone", file=sys.stderr)
        return 2
    if command not in COMMANDS:
        hint = nearest(command, COMMANDS)
        print(
            f"error: command: {command!r} is unknown{hint}; `genscl --help` lists all",
            file=sys.stderr,
        )
        return 2
    if (
        "" not in sys.path
    ):  # modules of the current folder are found, but not before those installed
        sys.path.append("")
    module, function = COMMANDS[command][1].split(":")
    try:
        return getattr(import_module(f"genscl_lite.{module}"), function)(rest)
    except ImportError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def contents() -> str:
    """Return the table of contents that ``genscl --help`` prints."""
    lines = [f"  {command:<10} {what}" for command, (what, _) in COMMANDS.items()]
    more = "`genscl COMMAND --help` says more about each."
    return "\n".join(["usage: genscl COMMAND ...", "", *lines, "", more])
