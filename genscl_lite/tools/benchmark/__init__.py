"""Time and memory against peers, in one run on one machine: ``genscl benchmark loss`` (or ``step``).

``loss``: the loss alone. ``step``: a whole training step, its parts, and a pipeline of DataLoader workers.
"""

import argparse
from pathlib import Path

from genscl_lite import datasets as datasets  # says what to install where packages are missing


def main(arguments: list[str] | None = None) -> int:
    """Be ``genscl benchmark``: measure, print a table, write the results; return the exit status."""
    from genscl_lite.tools.benchmark import loss, step

    parser = argparse.ArgumentParser(prog="genscl benchmark", description=__doc__.splitlines()[0])
    benchmarks = parser.add_subparsers(dest="what", required=True)
    for name, benchmark in {"loss": loss, "step": step}.items():
        words = benchmarks.add_parser(name, help=benchmark.__doc__.splitlines()[0])
        where = "folder of the results (default: %(default)s)"
        words.add_argument("--out", type=Path, default=Path("runs/benchmark"), help=where)
        benchmark.add_arguments(words)
        words.set_defaults(run=benchmark.main)
    given = vars(parser.parse_args(arguments))
    del given["what"]
    return given.pop("run")(**given)
