"""The package alone: what it requires, what a wheel of it carries."""

import importlib.metadata
import re
import subprocess
import sys
import zipfile

import pytest

from genscl_lite.runs.paths import PRESETS, PROJECT


def requirements():
    """(name, extra) of each package that the installed project requires."""
    for text in importlib.metadata.requires("genscl-lite"):
        extra = re.search(r"extra == ['\"](\w+)['\"]", text)
        yield re.match(r"[\w.-]+", text).group(), extra.group(1) if extra else ""


def test_torch_is_all_that_the_loss_requires():
    assert [name for name, extra in requirements() if not extra] == ["torch"]


def test_each_extra_brings_the_one_before_it():
    assert {extra for _, extra in requirements()} == {"", "train", "notebooks", "test"}
    texts = [text for text in importlib.metadata.requires("genscl-lite") if text.startswith("genscl-lite[")]
    assert [re.findall(r"\w+(?=\]|['\"]$)", text) for text in texts] == [["train", "notebooks"], ["notebooks", "test"]]


@pytest.fixture(scope="module")
def carried(tmp_path_factory):
    """Names of the files in a wheel, built without a network from a copy of what git would commit."""
    pytest.importorskip("setuptools", minversion="77", reason="a wheel is built by setuptools 77 or newer")
    out = tmp_path_factory.mktemp("wheel")
    tree = out / "tree"
    for name in ("genscl_lite", "tests", "notebooks", "pyproject.toml", "README.md", "LICENSE"):
        tree.mkdir(exist_ok=True)
        subprocess.run(["cp", "-r", PROJECT / name, tree / name], check=True)
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", out, tree]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    [wheel] = out.glob("*.whl")
    return set(zipfile.ZipFile(wheel).namelist())


def test_a_wheel_carries_all_modules_presets_and_published_numbers(carried):
    package = PROJECT / "genscl_lite"
    wanted = [*package.rglob("*.py"), *PRESETS.rglob("*.yaml"), package / "runs" / "published.csv"]
    assert {path.relative_to(PROJECT).as_posix() for path in wanted} <= carried


def test_a_wheel_carries_nothing_else(carried):
    assert {name.split("/")[0].split("-")[0] for name in carried} == {"genscl_lite"}
    assert {name.rsplit(".")[-1] for name in carried if ".dist-info/" not in name} == {"py", "yaml", "csv"}
