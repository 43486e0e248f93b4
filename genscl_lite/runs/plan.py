"""From a preset to jobs, one for each row of the table. All that a run is asked to do is checked here, once."""

from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path

import yaml

from genscl_lite._checks import nearest, require_choice
from genscl_lite.datasets.files import as_path
from genscl_lite.runs.job import Job
from genscl_lite.runs.paths import PRESETS
from genscl_lite.train.config import PARAMETERS, RENAMED, TrainConfig, check_type
from genscl_lite.train.methods import METHODS, TEACHERS, teacher_of
from genscl_lite.train.start import start_path
from genscl_lite.train.teachers import check_teacher, seed_decides_labels

FIELDS = {name: field.type for name, field in PARAMETERS.items() if name != "method"}
OVERRIDES = FIELDS | {
    "data_root": str,  # folder of images, or of CIFAR's files; empty: $GENSCL_DATA, or data
    "min_accuracy": float,  # what the mean accuracy of a row must reach
}
"""What a preset says and a command or a notebook may override."""
PRESET = OVERRIDES | {
    "seeds": int,  # runs of each row: seed, seed + 1, ...
    "by_method": dict,  # method -> parameters that differ for it
    "methods": list,  # the rows; default: all but those that learn from an expert
    "vary_methods": list,  # the rows of --vary; default: ``methods``
}
"""What a preset may say."""
BY_METHOD = FIELDS.keys() - {"seed", "teacher"} | {"min_accuracy"}


def presets() -> list[str]:
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def preset_path(preset: str) -> Path:
    """Return the file of a preset, given by name or as a path to a YAML file; or ValueError."""
    path = as_path(preset) if preset.endswith(".yaml") else PRESETS / f"{preset}.yaml"
    if not path.is_file():
        require_choice("preset", preset, presets())  # which it is not
    return path


def read_yaml(path: Path) -> dict:
    """Read a YAML file of parameters and check their names; or ValueError."""
    try:
        content = yaml.safe_load(path.read_bytes())
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"preset: {path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise ValueError(f"preset: {path} is not a mapping of parameters")
    check_names("preset", content, PRESET)
    return content


def read_preset(preset: str) -> dict:
    """Read the parameters of a preset and check their names, also those in ``by_method``.

    >>> read_preset("digits")["labels_per_class"]
    10
    """
    values = read_yaml(preset_path(preset))
    for name in values.keys() - FIELDS.keys():
        check_type(name, values[name], PRESET[name])
    for method, own in values.get("by_method", {}).items():
        require_choice("by_method", method, METHODS)
        check_type(f"by_method, {method}", own, dict)
        check_names(f"by_method, {method}", own, BY_METHOD)
    return values


def check_names(where: str, names: Iterable[str], known: Collection[str]) -> None:
    for name in names:
        if name in RENAMED:
            raise ValueError(f"{where}: {name} is called {RENAMED[name]} now")
        if name not in known:
            raise ValueError(f"{where}: {name!r} is no parameter{nearest(str(name), known)}")


def plan(
    preset: str,
    overrides: dict | None = None,
    *,
    methods: Collection[str] = (),
    seeds: int = 0,
    out: str | Path = "",
    data_root: str = "",
) -> list[Job]:
    """Return the jobs of some rows, each after the one it learns from.

    A teacher that knows all labels serves all seeds, so it has one. A preset or override that names a
    ``teacher`` needs no row for it, except for rows that learn from the expert.

    Args:
        preset: a name in ``presets()``, or a YAML file.
        overrides: parameters that count instead of the preset's, also of those in its ``by_method``.
        methods: the rows; default: the preset's ``methods``.
        seeds: runs of each row; 0: as the preset says, or 1.
        out: each row has a folder of its own in this one; default: runs/PRESET.
        data_root: folder of images, or of CIFAR's files; default: the preset's.

    Raises:
        ValueError: a name or value is wrong; the message names it.

    >>> teacher, job = plan("digits", {"epochs": 100}, methods=["genscl_kd"], seeds=2)
    >>> job.method, job.teacher is teacher, [(c.seed, c.epochs) for c in job.configs]
    ('genscl_kd', True, [(0, 100), (1, 100)])
    """
    overrides = overrides or {}
    check_names("overrides", overrides, OVERRIDES)
    if "warmup_epochs" in overrides:  # instead of a share that the preset warms up for
        overrides = {"warmup_share": 0.0} | overrides
    values = read_preset(preset)
    values, by_method = values | overrides, values.get("by_method", {})
    for name in ("methods", "vary_methods"):
        for method in values.get(name, ()):
            require_choice(name, method, METHODS)
    for method in methods:
        require_choice("method", method, METHODS)
    seeds = seeds or values.get("seeds", 1)
    if type(seeds) is not int or seeds < 1:
        raise ValueError(f"seeds: expected at least 1, got {seeds!r}")
    root = data_root or check_type("data_root", values.get("data_root", ""), str)
    if root and not as_path(root).is_dir():
        raise ValueError(f"data_root: there is no folder {root!r}")
    out = relative(as_path(out or Path("runs") / preset_path(preset).stem))

    rows = (
        methods
        or values.get("methods")
        or [name for name, row in METHODS.items() if name not in TEACHERS and not row.expert]
    )
    given = values.get("teacher", "")
    teachers = {row: teacher_of(row, by_method) for row in rows}
    if given:
        check_teacher(check_type("teacher", given, str))
        teachers = {row: name if name == "expert" else "" for row, name in teachers.items()}
    first = [method for method in METHODS if method in teachers.values()]
    jobs: dict[str, Job] = {}
    for method in first + [method for method in METHODS if method in rows and method not in first]:
        teacher = jobs.get(teachers.get(method), given if METHODS[method].distils else None)
        own = values | by_method.get(method, {}) | overrides
        own["teacher"] = str(teacher.folder) if isinstance(teacher, Job) else teacher or ""
        if method == "expert":
            own["labels_per_class"] = 0
        config = TrainConfig(method, **{k: v for k, v in own.items() if k in FIELDS})
        if config.weights:
            start_path(config)
        count = 1 if method in TEACHERS and not seed_decides_labels(config) else seeds
        others = (replace(config, seed=config.seed + k) for k in range(1, count))
        least = check_type("min_accuracy", own.get("min_accuracy", 0.0), float)
        if not 0 <= least <= 1:
            raise ValueError(f"min_accuracy: expected a fraction from 0 to 1, got {least}")
        jobs[method] = Job(method, (config, *others), out / method, teacher, root or None, least)
    return list(jobs.values())


def relative(path: Path) -> Path:
    """Write a path below the current folder always in the same way."""
    path = path.absolute()
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
