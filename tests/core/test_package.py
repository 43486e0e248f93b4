"""What ``import genscl_lite`` gives, what it loads, and what it says of names that have moved."""

import importlib
import re
import subprocess
import sys

import pytest

import genscl_lite

ALONE = """
import sys

class Refuse:
    @staticmethod
    def find_spec(name, path=None, target=None):
        top = name.partition(".")[0]
        if top in {refused}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Refuse)
import genscl_lite
assert "torch" not in sys.modules, "the package itself loads torch"
from genscl_lite import {names}
import torch
z, y = torch.randn(6, 4), torch.softmax(torch.randn(6, 3), dim=1)
assert gen_supcon_loss(z, y).isfinite() and label_similarity(y).shape == (6, 6)
assert Teacher(torch.nn.Linear(4, 3))(z).shape == (6, 3)
assert MomentumEncoder(torch.nn.Linear(4, 3))(z).shape == (6, 3)
assert "sympy" not in sys.modules, "the loss loads sympy"
"""
OTHERS = ("numpy", "torchvision", "pandas", "sklearn", "matplotlib", "seaborn", "scipy", "PIL", "yaml",
          "safetensors", "IPython", "papermill", "timm")


def run_alone(more: str = "") -> subprocess.CompletedProcess:
    code = ALONE.format(refused=OTHERS, names=", ".join(genscl_lite.__all__))
    return subprocess.run([sys.executable, "-c", code + more], capture_output=True, text=True)


def test_the_public_names_need_torch_alone():
    done = run_alone()
    assert done.returncode == 0, done.stderr


def test_mixing_without_numpy_says_what_to_install():
    done = run_alone("mixup(torch.rand(2, 1, 4, 4), torch.eye(2))")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == ("ImportError: mixup and cutmix draw their shares with NumPy: "
                                            "pip install numpy (or 'genscl-lite[train]')")


@pytest.mark.parametrize("name", genscl_lite.__all__)
def test_every_public_name_is_there_and_listed(name):
    assert getattr(genscl_lite, name).__name__ == name and name in dir(genscl_lite)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'gen_supcon'"):
        _ = genscl_lite.gen_supcon
    with pytest.raises(ModuleNotFoundError, match="No module named 'genscl_lite.nonsense'"):
        importlib.import_module("genscl_lite.nonsense")


@pytest.mark.parametrize("old, new", genscl_lite._MOVED.items())
def test_an_old_name_names_its_new_place(old, new):
    with pytest.raises(ModuleNotFoundError, match=f"^genscl_lite.{old} is now genscl_lite.") as caught:
        importlib.import_module(f"genscl_lite.{old}")
    assert "\n" not in str(caught.value)
    for place in re.findall(r"(?<![\w`])\.([\w.]*\w)", new):  # which are there
        assert f"genscl_lite.{place}" in str(caught.value)
        importlib.import_module(f"genscl_lite.{place}")


def test_python_m_says_it_too():
    done = subprocess.run([sys.executable, "-m", "genscl_lite.training", "digits"], capture_output=True, text=True)
    assert done.returncode == 1 and "genscl_lite.training is now genscl_lite.train.loop" in done.stderr
