"""Each problem is a line with the command that mends it."""

import importlib
import importlib.metadata
import re
import subprocess
import sys
import tomllib
import types

import pytest
import torch

from genscl_lite.runs.paths import PROJECT
from genscl_lite.tools import doctor
from genscl_lite.tools.doctor import NOTE, OK, PROBLEM, Finding

BOTH = "pip install --upgrade torch torchvision"


@pytest.fixture
def machine(monkeypatch):
    """Pretend that only ``versions`` are installed, and that the imports of ``broken`` modules fail."""
    state = types.SimpleNamespace(versions={"torch": "2.12.0", "papermill": "2.7.0"}, broken={})
    real_import = importlib.import_module

    def version(package):
        if package not in state.versions:
            raise importlib.metadata.PackageNotFoundError(package)
        return state.versions[package]

    def import_module(name):
        if name in state.broken:
            raise state.broken[name]
        return real_import(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setattr(importlib, "import_module", import_module)
    return state


def test_python_has_a_least_version():
    assert doctor.check_python((3, 11, 0)).status == OK
    assert doctor.check_python((3, 10, 14)) == Finding(
        "Python", PROBLEM, "3.10.14, and 3.11 or newer is needed", "conda env create -f environment.yml")  # fmt: skip


@pytest.mark.parametrize(
    "wanted, version, status, text, fix",
    [
        ("pandas", None, PROBLEM, "not installed", 'pip install "pandas"'),
        ("papermill<3,>=2.7", "2.7.0", OK, "2.7.0", ""),
        ("papermill<3,>=2.7", "2.6.1", PROBLEM, "2.6.1, and papermill<3,>=2.7 is needed", 'pip install "papermill<3,>=2.7"'),
        ("torch>=2.11", "2.11.0.dev1+cu130", PROBLEM, "2.11.0.dev1+cu130, and torch>=2.11 is needed", BOTH),
        ("torch>=2.11", "2.12.0.dev1+cu130", OK, "2.12.0.dev1+cu130", ""),
        ("torchvision>=0.26", None, PROBLEM, "not installed", BOTH),
    ],
)  # fmt: skip
def test_a_package_is_there_in_a_version_that_fits(machine, wanted, version, status, text, fix):
    name = re.match("[a-z]+", wanted).group()
    machine.versions = {name: version} if version else {}
    assert doctor.check_package(wanted) == Finding(name, status, text, fix)


def test_the_packages_are_those_of_the_project():
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    del extras["recipes"]  # of the guide to the loss; nothing here needs them
    texts = sum(extras.values(), project["dependencies"])
    names = {re.match(r"[\w.-]+", text).group() for text in texts} - {"genscl-lite"}
    assert {finding.name for finding in doctor.check_packages()} == names


def test_what_cannot_be_imported_is_a_line(machine):
    assert doctor.check_imports() == []
    machine.broken = {
        "torchvision": RuntimeError("operator torchvision::nms does not exist\nand a trace"),
        "genscl_lessons": ModuleNotFoundError("No module named 'genscl_lessons'"),
    }
    assert doctor.check_imports() == [
        Finding("import torchvision", PROBLEM, "operator torchvision::nms does not exist", BOTH),
        Finding("import genscl_lessons", PROBLEM, "No module named 'genscl_lessons'",
                "pip install -r requirements.txt"),
    ]  # fmt: skip


def test_a_gpu_is_named_and_none_is_no_problem(machine, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert doctor.check_gpu().status == NOTE
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    gpu = types.SimpleNamespace(name="Tesla T4", total_memory=15 * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: gpu)
    assert str(doctor.check_gpu()) == "ok       GPU: Tesla T4, 15 GiB"
    machine.broken["torch"] = OSError("libcudart.so.13: cannot open")
    assert doctor.check_gpu() == Finding("GPU", NOTE, "not looked for, as torch cannot be imported")


@pytest.mark.parametrize("status, code", [(OK, 0), (NOTE, 0), (PROBLEM, 1)])
def test_only_problems_fail(monkeypatch, capsys, status, code):
    found = Finding("b", status, "2.0", "pip install b")
    for name, findings in {
        "check_python": found,
        "check_packages": [],
        "check_imports": [],
        "check_gpu": found._replace(status=OK),
    }.items():
        monkeypatch.setattr(doctor, name, lambda findings=findings: findings)
    assert doctor.main([]) == code
    first, _, last = capsys.readouterr().out.splitlines()
    assert first == f"{status:<8} b: 2.0; fix: pip install b"
    assert last == ("not ready: 1 to mend" if code else "ready")


def test_it_reports_where_nothing_is_installed():
    """Without site-packages: the command needs nothing beyond Python, and says what to install."""
    code = f"import sys; sys.path.insert(0, {str(PROJECT)!r})\nfrom genscl_lite.tools.cli import main; sys.exit(main(['check']))"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True)
    assert done.returncode == 1 and not done.stderr
    assert re.search("^problem  (genscl-lite|torch): not installed; fix: pip", done.stdout, re.M)
    assert "problem  import torch: No module named 'torch'" in done.stdout
    assert "not ready" in done.stdout
