"""Presets of short runs, a stand-in for the kernels of notebooks, and CIFAR's files."""

import getpass
import math
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import nbformat
import papermill
import pytest
import yaml
from papermill.exceptions import PapermillExecutionError

from genscl_lite.datasets import builtin, files
from genscl_lite.runs.job import train_job
from genscl_lite.runs.paths import PROJECT
from genscl_lite.runs.plan import plan
from genscl_lite.train.loop import OutOfTime
from tests.conftest import QUICK


def write_preset(folder, **changes):
    """Write quick.yaml: runs of a fraction of a second, two seeds each; return its path."""
    path = Path(folder) / "quick.yaml"
    path.write_text(yaml.safe_dump(QUICK | {"seeds": 2, "min_accuracy": 0.0} | changes))
    return str(path)


@pytest.fixture
def preset(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write_preset(tmp_path)


ONE_AT_A_TIME = threading.Lock()
"""Kernels have a random state each, threads share one."""


def without_kernel(notebook, output, parameters, **options):
    """Train as notebook 08 does, in this process, or leave an empty notebook; called as papermill's own."""
    nbformat.write(nbformat.v4.new_notebook(), output)
    if Path(notebook).name != "08_train.ipynb":
        return
    given, seconds = dict(parameters), parameters.get("max_seconds") or math.inf
    given = {name: value for name, value in given.items() if name != "max_seconds"}
    jobs = plan(given.pop("preset"), given.pop("overrides"), methods=[given.pop("method")], **given)
    with ONE_AT_A_TIME:
        try:
            for job in jobs:
                list(train_job(job, time.monotonic() + seconds))
        except OutOfTime as stop:
            raise PapermillExecutionError(0, 0, "", type(stop).__name__, str(stop), []) from None


with_kernel = papermill.execute_notebook


@pytest.fixture
def no_kernels(monkeypatch):
    monkeypatch.setattr(papermill, "execute_notebook", without_kernel)


@pytest.fixture(scope="session")
def cifar10_root():
    """The folder of CIFAR-10's files: $GENSCL_DATA, data, or unpacked from ../shared/data and kept."""
    try:
        return builtin.check_cifar("cifar10").parent
    except FileNotFoundError as missing:
        unpack = PROJECT.parent / "shared" / "data" / "unpack.py"
        if not unpack.exists():
            pytest.skip(f"{missing}; and there is no {unpack}")
    root = Path(tempfile.gettempdir()) / f"genscl_lite_tests_{getpass.getuser()}"
    with files.locked(root, wait=300):
        command = [sys.executable, str(unpack), "--out", str(root), "--dataset", "cifar10"]
        subprocess.run(command, check=True, capture_output=True)
    return builtin.check_cifar("cifar10", root).parent
