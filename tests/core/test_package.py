"""The package from outside: its names, and that it needs torch alone."""

import ast
import importlib
import importlib.util
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
GenSupConLoss().parts(z, y), label_similarity(y)
Teacher(torch.nn.Linear(8, 5))(z), MomentumEncoder(torch.nn.Linear(8, 5))(z)
LabelledQueue(300, 8, 5).enqueue(z.detach(), y)
assert "torch.nn.attention.flex_attention" not in sys.modules
for mixing in (mixup, cutmix, mixup_or_cutmix):
    mixing(torch.rand(4, 1, 8, 8), torch.arange(4), num_classes=4, alpha=0.5)
"""


def run(code: str, *options: str) -> subprocess.CompletedProcess:
    command = [sys.executable, *options, code]
    return subprocess.run(command, cwd=PACKAGE.parent, capture_output=True, text=True, timeout=300)


def test_every_public_name_is_there_and_no_other():
    [imports, *_] = [
        s for s in ast.parse((PACKAGE / "__init__.py").read_text()).body if isinstance(s, ast.Try)
    ]
    imported = [alias.name for statement in imports.body for alias in statement.names]
    assert sorted(imported) == sorted(genscl_lite.__all__)
    for name in genscl_lite.__all__:
        assert getattr(genscl_lite, name).__name__ == name and getattr(genscl_lite, name).__doc__


@pytest.mark.parametrize("broken", ["ImportError('no such module')", "OSError('libcudart.so.13')"])
def test_without_torch_a_name_says_what_is_missing_and_the_command_line_works(broken):
    code = f"""
import sys
class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            raise {broken}
sys.meta_path.insert(0, NoTorch())
import genscl_lite.tools.cli
try:
    from genscl_lite import mixup
except ImportError as error:
    print(error)
try:
    genscl_lite.nonsense
except AttributeError as error:
    print(error)
"""
    done = run(code, "-c")
    assert done.returncode == 0, done.stderr
    missing, unknown = done.stdout.splitlines()
    assert missing.startswith("genscl_lite needs PyTorch, which cannot be imported (")
    assert unknown == "module 'genscl_lite' has no attribute 'nonsense'"


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


def test_the_types_of_the_core_hold():
    done = run("mypy", "-m")
    assert done.returncode == 0, done.stdout + done.stderr
