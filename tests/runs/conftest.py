"""Presets of short runs, a stand-in for the kernels of notebooks, and CIFAR's files."""

import getpass
import math
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import papermill
import pytest
import yaml
from papermill.exceptions import PapermillExecutionError

from genscl_lite.datasets import builtin, files
from genscl_lite.runs.paths import PROJECT
from genscl_lite.runs.seeds import run_seeds
from genscl_lite.runs.tables import make_table, read_summaries, write_table
from genscl_lite.train.config import make_configs
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
    """Train as notebook 07 does, or make the table as 08 does, in this process; called as papermill's own."""
    Path(output).write_text("stand-in")
    if Path(notebook).name == "08_reproduce_table.ipynb":
        write_table(parameters["table"], make_table(read_summaries(parameters["results"])))
        return
    assert Path(notebook).name == "07_train.ipynb"
    root, seconds = parameters.get("data_root"), parameters.get("max_seconds") or math.inf
    with ONE_AT_A_TIME:
        try:
            configs, deadline = make_configs(parameters), time.monotonic() + seconds
            list(run_seeds(configs, parameters["out"], data_root=root, deadline=deadline))
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
