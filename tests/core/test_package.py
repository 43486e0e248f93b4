"""The package from outside: names that load when used, old names that say where they went, torch alone."""

import ast
import importlib
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

import genscl_lite

PACKAGE = Path(genscl_lite.__file__).parent
CORE_TORCH_ALONE = """
import builtins, sys
import torch

import_as_ever = builtins.__import__

def import_torch_alone(name, globals=None, locals=None, fromlist=(), level=0):
    top, importer = name.partition(".")[0], (globals or {}).get("__name__", "")
    allowed = {"genscl_lite", "torch", *sys.stdlib_module_names}
    if importer.startswith("genscl_lite") and not level and top not in allowed:
        raise ImportError(f"{importer} imports {name}")
    return import_as_ever(name, globals, locals, fromlist, level)

builtins.__import__ = import_torch_alone
from genscl_lite import *

z, y = torch.randn(300, 8, requires_grad=True), torch.rand(300, 5).softmax(1)
for labels in (y, torch.arange(300) % 7):
    for backend in ("dense", "streamed", "auto"):
        gen_supcon_loss(z, labels, backend=backend).backward()
GenSupConLoss(return_parts=True)(z, y), label_similarity(y)
Teacher(torch.nn.Linear(8, 5))(z), MomentumEncoder(torch.nn.Linear(8, 5))(z)
LabelledQueue(300, 8, 5).enqueue(z.detach(), y)
assert "torch.nn.attention.flex_attention" not in sys.modules
for mixing in (mixup, cutmix, mixup_or_cutmix):
    mixing(torch.rand(4, 1, 8, 8), torch.arange(4), num_classes=4, alpha=0.5)
"""


def run(code: str, *options: str) -> subprocess.CompletedProcess:
    command = [sys.executable, *options, code]
    return subprocess.run(command, cwd=PACKAGE.parent, capture_output=True, text=True, timeout=300)


def test_every_public_name_is_there_in_one_place():
    statements = ast.parse((PACKAGE / "__init__.py").read_text()).body
    [imports] = [statement for statement in statements if isinstance(statement, ast.If)]
    for_editors = {
        alias.name: node.module.removeprefix("genscl_lite.")
        for node in imports.body
        for alias in node.names
    }
    assert for_editors == genscl_lite._MODULE_OF and set(genscl_lite.__all__) == set(for_editors)
    for name in genscl_lite.__all__:
        assert name in dir(genscl_lite) and getattr(genscl_lite, name).__name__ == name
        assert getattr(genscl_lite, name).__module__ == f"genscl_lite.{for_editors[name]}"


def test_importing_the_package_loads_the_standard_library_alone():
    code = (
        "import sys; old = {*sys.modules}; import genscl_lite._checks; print(*{*sys.modules} - old)"
    )
    tops = {name.partition(".")[0] for name in run(code, "-S", "-c").stdout.split()}
    assert "genscl_lite" in tops and tops <= {"genscl_lite", *sys.stdlib_module_names}


def test_the_core_needs_torch_alone():
    done = run(CORE_TORCH_ALONE, "-c")
    assert done.returncode == 0, done.stderr


def test_unknown_names_fail_as_pythons_do():
    with pytest.raises(AttributeError, match="^module 'genscl_lite' has no attribute 'nonsense'$"):
        genscl_lite.nonsense  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'nonsense' from 'genscl_lite'"):
        from genscl_lite import nonsense  # noqa: F401
    with pytest.raises(ModuleNotFoundError, match="^No module named 'genscl_lite.nonsense'$"):
        importlib.import_module("genscl_lite.nonsense")


@pytest.mark.parametrize(
    "statement, message",
    [
        (
            "import genscl_lite.training",
            "genscl_lite.training is now genscl_lite.train.loop, the command `genscl train`",
        ),
        (
            "from genscl_lite import training",
            "genscl_lite.training is now genscl_lite.train.loop, the command `genscl train`",
        ),
        (
            "from genscl_lite.config import METHODS",
            "genscl_lite.config is now genscl_lite.train.config and genscl_lite.train.methods",
        ),
        (
            "import genscl_lite.lesson_plots.digits",
            "genscl_lite.lesson_plots is now genscl_lessons.figures",
        ),
        (
            "import genscl_lite.rows",
            "genscl_lite.rows is now genscl_lite.runs.job, the command `genscl train`",
        ),
    ],
)
def test_old_names_say_where_they_went(statement, message):
    with pytest.raises(ModuleNotFoundError) as error:
        exec(statement)
    assert str(error.value) == message


def test_an_old_command_says_it_too():
    done = run("genscl_lite.training", "-m")
    assert done.returncode and "genscl_lite.training is now genscl_lite.train.loop" in done.stderr


def test_every_new_place_is_there_and_no_old_one():
    for old, places in genscl_lite._MOVED.items():
        assert not (PACKAGE / f"{old}.py").exists() and not (PACKAGE / old).exists()
        for place in re.findall(r"\w*\.[\w.]+", places):
            assert importlib.util.find_spec(place, "genscl_lite"), place
