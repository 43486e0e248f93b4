"""What a command line asks for: ``genscl reproduce`` and ``genscl train`` read the same words."""

import argparse
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from genscl_lite._checks import require_choice
from genscl_lite.datasets.files import as_path
from genscl_lite.runs.job import Job
from genscl_lite.runs.paths import LENGTHS
from genscl_lite.runs.plan import (
    OVERRIDES,
    plan,
    preset_path,
    presets,
    read_preset,
    read_yaml,
    relative,
)
from genscl_lite.train.config import PARAMETERS
from genscl_lite.train.device import choose_device
from genscl_lite.train.methods import METHODS

CHOSEN_ELSEWHERE = {
    "method": "chosen by --only",
    "methods": "chosen by --only",
    "out": "chosen by --out",
    "seeds": "chosen by --seeds",
    "max_seconds": "chosen by --max-seconds",
    "by_method": "for a preset file",
    "vary_methods": "for a preset file",
}


@dataclass(frozen=True)
class Request:
    """The jobs of one table, and what they were planned from."""

    preset: str
    overrides: dict
    out: Path
    jobs: list[Job]


def make_parser(program: str, description: str) -> argparse.ArgumentParser:
    """Make the parser of all that ``read_requests`` reads."""
    parser = argparse.ArgumentParser(prog=program, description=description)
    add = parser.add_argument
    add("preset", help=f"a name ({', '.join(presets())}) or a YAML file")
    add("--length", default="paper", help="paper: the preset's own (default); quick: a tenth")
    add(
        "--vary",
        metavar="NAME=V,V,...",
        help="train with each of these values of a parameter, in folders OUT_NAMEV",
    )
    add("--out", help="folder of the runs; default: runs/PRESET, or runs/PRESET_quick")
    add("--seeds", type=int, help="runs of each method; default: the preset's")
    add("--only", metavar="METHOD", action="append", default=[], help="this row; may be repeated")
    add(
        "-p",
        "--parameter",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="override a parameter",
    )
    add("--device", help="cpu, cuda, cuda:1 or mps; default: the GPU if there is one")
    add(
        "--max-seconds",
        metavar="S",
        type=float,
        default=math.inf,
        help="save and stop after so long; the same command continues",
    )
    return parser


def read_requests(options: argparse.Namespace) -> list[Request]:
    """Plan the jobs of each table that is asked for; ValueError names what is wrong."""
    choose_device(options.device)
    preset = preset_path(options.preset)
    lengths = {"paper": {}} | {path.stem: path for path in LENGTHS.glob("*.yaml")}
    require_choice("length", options.length, lengths)
    shorter = lengths[options.length] and read_yaml(lengths[options.length])
    overrides = shorter | dict(map(parse_parameter, options.parameter))
    if options.seeds is not None and options.seeds < 1:
        raise ValueError(f"seeds: expected at least 1, got {options.seeds}")
    if not options.max_seconds > 0:
        raise ValueError(f"max-seconds: expected a number above 0, got {options.max_seconds}")
    for method in options.only:
        require_choice("only", method, METHODS)
    name = f"{preset.stem}_{options.length}" if shorter else preset.stem
    out = relative(as_path(options.out or Path("runs") / name))
    rows, variations = options.only, [(out, overrides)]
    if options.vary is not None:
        values = read_preset(options.preset)
        rows = rows or values.get("vary_methods", [])
        planned = plan(options.preset, overrides, out=out, methods=rows)
        own = [values.get("by_method", {}).get(job.method, {}) for job in planned]
        variations = vary(values | overrides, overrides, out, options.vary, own)
    words = {"methods": rows, "seeds": options.seeds or 0}
    return [
        Request(options.preset, changed, folder, plan(options.preset, changed, out=folder, **words))
        for folder, changed in variations
    ]


def vary(
    values: dict, overrides: dict, out: Path, text: str, by_row: Iterable[dict] = ()
) -> Iterator[tuple[Path, dict]]:
    """Give the folder and the overrides of each value in NAME=V,V,...; or ValueError.

    The preset's own value has the preset's own folder, unless a row has another value there (``by_row``: what the
    preset says for each row). No least accuracy holds for the others.

    >>> [folder.name for folder, _ in vary({"epochs": 80}, {}, Path("runs/small"), "epochs=20,80")]
    ['small_epochs20', 'small']
    """
    name, _, words = text.partition("=")
    if name in ("method", "seed") or name not in PARAMETERS or not words:
        raise ValueError(
            f"vary: expected a parameter and its values, as in epochs=20,40,80; got {text!r}"
        )
    rows = [values | row | overrides for row in ({}, *by_row)]
    there = [row.get(name, PARAMETERS[name].default) for row in rows]
    for word in words.split(","):
        _, value = parse_parameter(f"{name}={word}")
        if "/" in str(value):
            raise ValueError(
                f"vary: {name}={value} cannot stand in a folder's name; train it by itself, with --out"
            )
        if all(value == row_value for row_value in there):
            yield out, overrides
        else:
            folder = out.with_name(f"{out.name}_{name}{value}")
            yield folder, overrides | {name: value, "min_accuracy": 0.0}


def parse_parameter(text: str) -> tuple[str, object]:
    """Read NAME=VALUE: text as it stands, numbers as decimal ones, anything else as YAML.

    >>> parse_parameter("data_root=2024"), parse_parameter("seed=010"), parse_parameter("balanced=true")
    (('data_root', '2024'), ('seed', 10), ('balanced', True))
    """
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"parameter: expected NAME=VALUE, got {text!r}")
    if name in CHOSEN_ELSEWHERE:
        raise ValueError(f"parameter: {name} is {CHOSEN_ELSEWHERE[name]}")
    kind = OVERRIDES.get(name)
    if kind is str:
        quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
        return name, value[1:-1] if quoted else value.strip()
    try:
        return name, kind(value) if kind in (int, float) else yaml.safe_load(value)
    except (yaml.YAMLError, RecursionError):
        raise ValueError(f"parameter: {text!r} is not YAML") from None
    except ValueError:  # checks of types and ranges say what is expected
        return name, value
