"""What to run: a preset and what the command line changes of it, as jobs, one for each row of the table."""

import argparse
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from genscl_lite._checks import require_choice
from genscl_lite.datasets.files import as_path
from genscl_lite.runs.paths import LENGTHS, PRESETS
from genscl_lite.train.config import KINDS, PARAMETERS, TrainConfig, check_parameters, make_configs
from genscl_lite.train.methods import METHODS, TEACHERS, teacher_of
from genscl_lite.train.run_folder import is_finished

CHOSEN_ELSEWHERE = {
    "method": "chosen by --only",
    "out": "chosen by --out",
    "seeds": "chosen by --seeds",
    "max_seconds": "chosen by --max-seconds",
    "by_method": "for a preset file",
}


@dataclass(frozen=True)
class Job:
    """One row of the table: all seeds of a method, in ``folder``."""

    method: str
    folder: Path
    parameters: dict

    @property
    def data_root(self) -> str | None:
        return self.parameters.get("data_root") or None

    def unfinished(self) -> list[TrainConfig]:
        """Return the seeds still to do; RunFolderError where a folder holds another configuration."""
        configs = make_configs(self.parameters)
        return [c for c in configs if not is_finished(self.folder / f"seed{c.seed}", asdict(c))]

    def learns_from(self, other: "Job") -> bool:
        return self.parameters.get("teacher") == str(other.folder)


@dataclass(frozen=True)
class Request:
    """What a command line asks for; ``files`` are its preset and, for a shorter length, what shortens it."""

    files: list[Path]
    out: Path
    jobs: list[Job]


def make_parser(program: str, description: str) -> argparse.ArgumentParser:
    """Make the parser of all that ``read_requests`` reads."""
    parser = argparse.ArgumentParser(prog=program, description=description)
    parser.add_argument("preset", help=f"a name ({', '.join(presets())}) or a YAML file")
    parser.add_argument(
        "--length", default="paper", help="paper: the preset's own (default); quick: a tenth"
    )
    parser.add_argument(
        "--vary",
        metavar="NAME=V,V,...",
        help="train with each of these values of a parameter, in folders OUT_NAMEV",
    )
    parser.add_argument(
        "--out", help="folder of the runs; default: runs/PRESET, or runs/PRESET_quick"
    )
    parser.add_argument("--seeds", type=int, help="runs of each method; default: the preset's")
    parser.add_argument(
        "--only",
        metavar="METHOD",
        action="append",
        default=[],
        help="this row alone; may be repeated",
    )
    parser.add_argument(
        "-p",
        "--parameter",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="change a parameter",
    )
    parser.add_argument(
        "--max-seconds",
        metavar="S",
        type=float,
        default=math.inf,
        help="save and stop after so long; the same command continues",
    )
    return parser


def read_requests(options: argparse.Namespace) -> list[Request]:
    """Read presets, check all parameters, plan the jobs of each variation; ValueError names what is wrong."""
    files = preset_files(options.preset, options.length)
    parameters = read_presets(files) | dict(map(parse_parameter, options.parameter))
    if options.seeds is not None:
        parameters["seeds"] = options.seeds
    check_parameters(parameters)
    if not options.max_seconds > 0:
        raise ValueError(f"max-seconds: expected a number above 0, got {options.max_seconds}")
    out = relative(as_path(options.out or Path("runs") / "_".join(path.stem for path in files)))
    rows = parameters.pop("vary_methods", [])
    if options.vary is None:
        return [Request(files, out, plan(parameters, out, options.only))]
    requests = []
    for folder, changed in variations(parameters, out, options.vary):
        check_parameters(changed)
        requests.append(Request(files, folder, plan(changed, folder, options.only or rows)))
    return requests


def variations(parameters: dict, out: Path, text: str) -> Iterator[tuple[Path, dict]]:
    """Give the folder and the parameters of each value in NAME=V,V,...; or ValueError.

    The preset's own value has the preset's own folder. No floor of accuracy holds for the others.

    >>> [folder.name for folder, _ in variations({"epochs": 80}, Path("runs/small"), "epochs=20,80")]
    ['small_epochs20', 'small']
    """
    name, _, values = text.partition("=")
    if name in ("method", "seed") or name not in PARAMETERS or not values:
        raise ValueError(
            f"vary: expected a parameter and its values, as in epochs=20,40,80; got {text!r}"
        )
    for word in values.split(","):
        _, value = parse_parameter(f"{name}={word}")
        if value == parameters.get(name, PARAMETERS[name].default):
            yield out, parameters
        else:
            floors = {
                method: {key: own[key] for key in own if key != "min_accuracy"}
                for method, own in parameters.get("by_method", {}).items()
            }
            changed = {name: value, "min_accuracy": 0.0, "by_method": floors}
            yield out.with_name(f"{out.name}_{name}{value}"), parameters | changed


def presets() -> list[str]:
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def preset_files(preset: str, length: str = "paper") -> list[Path]:
    """Return the file of a preset, a name or a path, and the one that shortens it; or ValueError."""
    path = as_path(preset) if preset.endswith(".yaml") else PRESETS / f"{preset}.yaml"
    if not path.is_file():
        require_choice("preset", preset, presets())  # which it is not
    lengths = {"paper": []} | {path.stem: [path] for path in LENGTHS.glob("*.yaml")}
    require_choice("length", length, lengths)
    return [path, *lengths[length]]


def read_presets(files: list[Path]) -> dict:
    """Read YAML files of parameters, later values over earlier ones, as papermill does; or ValueError."""
    parameters = {}
    for path in files:
        try:
            content = yaml.safe_load(path.read_bytes())
        except (yaml.YAMLError, RecursionError) as error:
            raise ValueError(
                f"preset: {path} is not YAML: {' '.join(str(error).split())}"
            ) from None
        if not isinstance(content, dict):
            raise ValueError(f"preset: {path} is not a mapping of parameters")
        parameters |= content
    return parameters


def parse_parameter(text: str) -> tuple[str, object]:
    """Read NAME=VALUE as people mean it: text as it stands, numbers as decimal ones, anything else as YAML.

    >>> parse_parameter("data_root=2024"), parse_parameter("seed=010"), parse_parameter("balanced=true")
    (('data_root', '2024'), ('seed', 10), ('balanced', True))
    """
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"parameter: expected NAME=VALUE, got {text!r}")
    if name in CHOSEN_ELSEWHERE:
        raise ValueError(f"parameter: {name} is {CHOSEN_ELSEWHERE[name]}")
    kind = KINDS.get(name)
    if kind is str:
        quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
        return name, value[1:-1] if quoted else value.strip()
    try:
        return name, kind(value) if kind in (int, float) else yaml.safe_load(value)
    except (yaml.YAMLError, RecursionError):
        raise ValueError(f"parameter: {text!r} is not YAML") from None
    except ValueError:  # checks of types and ranges say what is expected
        return name, value


def plan(parameters: dict, out: Path, only: list[str]) -> list[Job]:
    """List the jobs of the rows in ``only``, or of the preset's ``methods``; teachers they need stand first.

    One teacher that knows all labels serves all seeds, so it has one. A preset that names another ``teacher``
    needs no row for it, except for rows that learn from the expert. ValueError: a method is unknown.
    """
    for method in only:
        require_choice("only", method, METHODS)
    parameters, by_method = dict(parameters), parameters.get("by_method", {})
    default = [
        name for name, method in METHODS.items() if name not in TEACHERS and not method.expert
    ]
    rows = only or parameters.pop("methods", default)
    parameters.pop("methods", None)
    teachers = {row: teacher_of(row, by_method) for row in rows}
    given = parameters.get("teacher")
    if given:
        teachers = {row: teacher for row, teacher in teachers.items() if teacher in ("", "expert")}
    first = [method for method in METHODS if method in teachers.values()]
    jobs = []
    for method in first + [method for method in METHODS if method in rows and method not in first]:
        row = parameters | {"method": method, "out": str(out / method)}
        if method == "expert":
            row["by_method"] = by_method | {
                "expert": by_method.get("expert", {}) | {"labels_per_class": 0}
            }
        if METHODS[method].distils:
            row["teacher"] = str(out / teachers[method]) if method in teachers else given
        if method in TEACHERS and make_configs(row)[0].labels_per_class == 0:
            row["seeds"] = 1
        jobs.append(Job(method, out / method, row))
    return jobs


def relative(path: Path) -> Path:
    """Write a path below the current folder always in the same way."""
    path = path.absolute()
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
