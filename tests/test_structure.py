"""The house: which room may import which, without circles."""

import ast
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import genscl_lite

PACKAGE = Path(genscl_lite.__file__).parent
ROOMS = ("core", "datasets", "train", "runs", "tools")
"""From below to above: a room imports from those before it."""
CORE = (
    "__init__",
    "losses",
    "label_sums",
    "log_partition",
    "gather",
    "_checks",
    "mixing",
    "distillation",
    "momentum",
    "similarity",
    "gradient_cache",
    "_rows",
    "_deprecated",
    "wrappers",
)
DOORS = ("__main__", "reproduce", "metric_learning")
FILES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in FILES}


def room_of(module: str) -> str:
    parts = module.split(".")
    if len(parts) == 1 or parts[1] in CORE:
        return "core"
    return "tools" if parts[1] in DOORS else parts[1]


def imported_by(path: Path) -> set[str]:
    """Names of all modules that a file imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in MODULES else node.module)
    return found


def test_imports_go_one_way():
    place = {module: ROOMS.index(room_of(module)) for module in MODULES}
    wrong = [
        f"{module} imports {other}"
        for module, path in MODULES.items()
        for other in imported_by(path) & MODULES.keys()
        if place[other] > place[module]
    ]
    assert not wrong


def test_nothing_imports_what_stands_outside():
    """The notebooks' pictures, the tests and benchmarks may import the package, never the other way."""
    for module, path in MODULES.items():
        tops = {name.partition(".")[0] for name in imported_by(path)}
        assert not tops & {"genscl_lessons", "tests"}, module


def test_there_are_no_circles():
    graph = {
        module: imported_by(path) & MODULES.keys() - {module} for module, path in MODULES.items()
    }
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as circle:
        pytest.fail(" -> ".join(circle.args[1]))


def test_the_core_imports_torch_alone():
    for module in CORE:
        tops = {name.partition(".")[0] for name in imported_by(PACKAGE / f"{module}.py")}
        assert tops <= {"torch", "genscl_lite", *sys.stdlib_module_names}, module


def test_the_top_of_the_package_is_the_core_and_its_doors():
    assert {path.stem for path in PACKAGE.glob("*.py")} == {*CORE, *DOORS}
    assert {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()} == {
        *ROOMS[1:]
    }


def test_the_files_that_tests_begin_with_are_there():
    project = PACKAGE.parent
    code = ast.parse((project / "conftest.py").read_text())
    [names] = [
        ast.literal_eval(line.value)
        for line in code.body
        if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "SLOWEST"
    ]
    found = [*project.glob("tests/**/test_*.py"), *project.glob("notebooks/*.ipynb")]
    assert set(names) <= {path.stem for path in found} and len(set(names)) == len(names)
