"""Notebooks are executed by this Python, however slow its kernels are and wherever their caches may lie."""

import json
import os
import signal
import sys
from functools import partial
from pathlib import Path

import nbformat
import pytest

from genscl_lite.runs import kernels
from genscl_lite.runs.kernels import Kernels, writable_home


@pytest.fixture
def execute_cell(tmp_path, monkeypatch):
    """Execute one cell as a notebook of the project, in a kernel of ``kept``; return what it printed."""
    monkeypatch.setattr(kernels, "NOTEBOOKS", tmp_path)

    def run(code, kept):
        spec = {"name": "python3", "display_name": "Python 3", "language": "python"}
        cells = [nbformat.v4.new_code_cell(code)]
        notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": spec})
        nbformat.write(notebook, tmp_path / "one.ipynb")
        kept.execute("one.ipynb", tmp_path / "out" / "one.ipynb", {})
        (cell,) = nbformat.read(tmp_path / "out" / "one.ipynb", 4).cells
        assert cell.execution_count == 1
        return cell.outputs[0].text.strip()

    with Kernels() as kept:
        yield partial(run, kept=kept)


def test_the_kernel_is_this_python_whatever_is_registered(execute_cell, tmp_path, monkeypatch):
    spec = tmp_path / "jupyter" / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True)
    spec.write_text(json.dumps({"argv": ["false"], "display_name": "other", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    assert execute_cell("import sys; print(sys.executable)") == sys.executable


def test_a_kernel_that_does_not_start_is_one_line(execute_cell, tmp_path, monkeypatch):
    startup = tmp_path / "ipython" / "profile_default" / "startup" / "00.py"
    startup.parent.mkdir(parents=True)
    startup.write_text("import time; time.sleep(60)")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setattr(kernels, "PATIENCE", 1)
    with pytest.raises(ValueError, match="^its kernel did not start within .* look at the startup"):
        execute_cell("print(1)")


NAMES = (
    "import os; print(os.getpid(), sorted(name for name in globals() if name in {'left', 'mine'}))"
)


@pytest.mark.slow
def test_a_notebook_finds_the_kernel_of_the_one_before_without_its_names(
    execute_cell, tmp_path, monkeypatch
):
    startup = tmp_path / "ipython" / "profile_default" / "startup" / "00.py"
    startup.parent.mkdir(parents=True)
    startup.write_text("mine = 1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    first = execute_cell(f"left = 1; {NAMES}")
    assert first.endswith(" ['left', 'mine']")
    assert execute_cell(NAMES) == first.replace("'left', ", "")
    with pytest.raises(ValueError, match="^ZeroDivisionError: "):
        execute_cell("1 / 0")
    other, names = execute_cell(NAMES).split(" ", 1)
    assert other != first.split(" ", 1)[0] and names == "['mine']"
    os.kill(int(other), signal.SIGKILL)
    with pytest.raises(ValueError, match="^its kernel was killed, "):
        execute_cell(NAMES)


def test_without_a_home_caches_lie_in_a_temporary_one(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", "/nonexistent")
    with writable_home():
        assert os.access(Path.home(), os.W_OK)
    assert os.environ["HOME"] == "/nonexistent"
    monkeypatch.setenv("HOME", str(tmp_path))
    with writable_home():
        assert Path.home() == tmp_path
