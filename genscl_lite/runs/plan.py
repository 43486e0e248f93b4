"""What to run: a preset, its length and what the command line changes, planned as jobs, one for each row of the table."""

import argparse
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from genscl_lite._checks import nearest, require_choice
from genscl_lite.runs.paths import LENGTHS, PRESETS
from genscl_lite.train.config import TrainConfig, check_parameters, make_configs, teacher_method
from genscl_lite.train.methods import METHODS
from genscl_lite.train.run_folder import is_finished

ELSEWHERE = {"method": "chosen by --only", "out": "chosen by --out", "seeds": "chosen by --seeds",
             "max_seconds": "chosen by --max-seconds", "by_method": "for a preset file"}  # fmt: skip


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


@dataclass(frozen=True)
class Request:
    """What a command line asks for."""

    files: list[Path]
    """The preset and, for another length than the paper's, the file that shortens it."""
    out: Path
    jobs: list[Job]
    max_seconds: float


def make_parser(program: str, description: str) -> argparse.ArgumentParser:
    """Make the parser of all that ``read_request`` reads."""
    parser = argparse.ArgumentParser(prog=program, description=description)
    parser.add_argument("preset", help=f"a name ({', '.join(presets())}) or a YAML file")
    parser.add_argument("--length", default="paper", help="paper: as in the preset (default); quick: a tenth of it")
    parser.add_argument("--out", help="folder of the runs; default: runs/PRESET, or runs/PRESET_quick")
    parser.add_argument("--seeds", type=int, help="runs of each method; default: the preset's")
    parser.add_argument("--only", metavar="METHOD", action="append", default=[], help="this row alone; may be repeated")
    parser.add_argument("-p", "--parameter", metavar="NAME=VALUE", action="append", default=[], help="change a parameter")
    parser.add_argument("--max-seconds", metavar="S", type=float, default=math.inf,
                        help="save and stop after so long; the same command continues")  # fmt: skip
    return parser


def read_request(options: argparse.Namespace) -> Request:
    """Read presets, check all parameters and plan the jobs.

    Raises:
        ValueError: a name or a value is wrong; the message names it.
    """
    files = [path for path in (preset_path(options.preset), length_path(options.length)) if path]
    parameters = read_presets(files) | dict(map(parse_parameter, options.parameter))
    if options.seeds is not None:
        parameters["seeds"] = options.seeds
    check_parameters(parameters)
    if not options.max_seconds > 0:
        raise ValueError(f"max-seconds: expected a number above 0, got {options.max_seconds}")
    out = relative(Path(options.out or Path("runs") / "_".join(path.stem for path in files)))
    return Request(files, out, plan(parameters, out, options.only), options.max_seconds)


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
    """List the jobs, the teacher first; a method that needs a row as its teacher brings it along.

    Where all labels are known one teacher serves all seeds, and the row "teacher" has one seed. A preset that names another
    ``teacher`` needs no row for it.

    Raises:
        ValueError: a method is unknown, or its parameters do not fit together.
    """
    for method in only:
        require_choice("only", method, METHODS)
    teacher, given = teacher_method(parameters), parameters.get("teacher")
    methods = [method for method in METHODS if method in (only or {*METHODS} - {"teacher"})]
    if not given and any(METHODS[method].distils for method in methods):
        methods = [teacher] + [method for method in methods if method != teacher]
    jobs = []
    for method in methods:
        own = {"method": method, "out": str(out / method)}
        if METHODS[method].distils:
            own["teacher"] = given or str(out / teacher)
        if method == "teacher" and not parameters.get("labels_per_class", TrainConfig.labels_per_class):
            own["seeds"] = 1
        jobs.append(Job(method, out / method, parameters | own))
    return jobs


def relative(path: Path) -> Path:
    """Write a path below the current folder always in the same way."""
    path = path.absolute()
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
