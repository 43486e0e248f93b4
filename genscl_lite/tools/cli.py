"""The one way in: ``genscl COMMAND``, or ``python -m genscl_lite COMMAND``."""

import sys
from importlib import import_module

from genscl_lite._checks import nearest

COMMANDS = {
    "reproduce": ("rebuild a table: all rows of a preset, through the notebooks", "genscl_lite.runs.launch:command"),
    "train": ("train rows of a preset without notebooks; what torchrun starts", "genscl_lite.runs.seeds:main"),
    "data": ("download a data set", "genscl_lite.datasets.builtin:main"),
    "check": ("say whether this machine is ready: versions, GPU, data", "genscl_lite.tools.doctor:main"),
    "benchmark": ("measure time and memory against peers: loss, step", "genscl_lite.tools.benchmark.timing:main"),
    "predict": ("name the classes of images by a finished run", "genscl_lite.runs.trained:predict"),
    "features": ("write the features of images to a file", "genscl_lite.runs.trained:features"),
    "export": ("write the encoder of a finished run for other programs", "genscl_lite.runs.trained:export"),
    "keep": ("copy the small files of finished runs, as in data/results", "genscl_lite.runs.tables:main"),
}
"""Command -> what it does, and the function that takes its words and returns the exit status."""


def main(arguments: list[str] | None = None) -> int:
    """Run a command; return its exit status, or 2 where the command is unknown or a package is missing."""
    words = sys.argv[1:] if arguments is None else arguments
    if not words or words[0] in ("-h", "--help"):
        print(contents())
        return 0
    command, *rest = words
    if command not in COMMANDS:
        print(f"error: command: {command!r} is unknown{nearest(command, COMMANDS)}; `genscl --help` lists all", file=sys.stderr)
        return 2
    module, function = COMMANDS[command][1].split(":")
    try:
        run = getattr(import_module(module), function)
    except ImportError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return run(rest)


def contents() -> str:
    """Return the table of contents that ``genscl --help`` prints."""
    lines = [f"  {command:<10} {what}" for command, (what, _) in COMMANDS.items()]
    return "\n".join(["usage: genscl COMMAND ...", "", *lines, "", "`genscl COMMAND --help` says more about each."])
