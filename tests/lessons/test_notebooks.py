"""What the committed notebooks promise: clean outputs, exercises with answers, checked parameters."""

import ast
import contextlib
import io
import json
import re
import symtable
from unittest import mock

import matplotlib
import pytest
import torch
from matplotlib import pyplot as plt

from genscl_lessons.exercises import ParameterError
from genscl_lite.runs.paths import NOTEBOOKS, PROJECT
from genscl_lite.train.methods import METHODS
from tests.scripts import load_script

PATHS = sorted(NOTEBOOKS.glob("*.ipynb"))
NAMES = [path.stem for path in PATHS]
WRONG = {
    "int": -1,
    "float": -1.0,
    "bool": "no such thing",
    "str": "no such thing",
    "list": [-1],
    "dict": {"no such": 0},
}
ANY_NAME = ("out", "table", "figure")
"""Where a notebook writes: any file or folder will do."""


def read(name):
    return json.loads((NOTEBOOKS / f"{name}.ipynb").read_text())["cells"]


def source(cell):
    return "".join(cell["source"])


def tags(cell):
    return cell["metadata"].get("tags", [])


def code_of(name):
    return [cell for cell in read(name) if cell["cell_type"] == "code"]


def prose_of(name):
    return "\n".join(source(cell) for cell in read(name) if cell["cell_type"] == "markdown")


def run(cells, monkeypatch):
    """Execute cells in turn, as a kernel started in the notebook's folder does; return what they print."""
    monkeypatch.chdir(NOTEBOOKS)
    matplotlib.use("agg")
    printed, names = io.StringIO(), {"__name__": "__main__"}
    with contextlib.redirect_stdout(printed), mock.patch.dict(METHODS):  # a learner adds rows
        for text in cells:
            exec(compile(text, "cell", "exec"), names)
    plt.close("all")
    torch.set_num_threads(1)  # as conftest.py has it; UMAP sets another number
    return printed.getvalue()


def global_names(text):
    """Return the global names that code assigns, and those that it reads, inside functions too."""
    module = symtable.symtable(text, "cell", "exec")
    assigned = {
        name.get_name() for name in module.get_symbols() if name.is_assigned() or name.is_imported()
    }
    scopes, read = [module], set()
    for scope in scopes:  # the list grows on the way: functions in functions
        scopes += scope.get_children()
        names = [name for name in scope.get_symbols() if scope is module or name.is_global()]
        read |= {name.get_name() for name in names if name.is_referenced()}
    return assigned, read


def needed_cells(texts, last):
    """Return the ``last`` cells, given by index, and the cells before them that define what they need."""
    wanted, chosen = set(), []
    for k, text in reversed(list(enumerate(texts))):
        assigned, read = global_names(text)
        if k in last or assigned & wanted:
            wanted = wanted - assigned | read
            chosen.append(text)
    return chosen[::-1]


def test_only_needed_cells_are_chosen():
    cells = [
        "import a, b",
        "x, y = a.f(), 1",
        "z = b.g()",
        "def f(x): return y",
        "[y for y in z]",
        "f(x)",
    ]
    assert needed_cells(cells, last=[5]) == [cells[k] for k in (0, 1, 3, 5)]


def test_there_are_ten_in_order():
    assert [name[:2] for name in NAMES] == [f"{k:02d}" for k in range(1, 11)]


@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_those_of_one_run_and_plain(name):
    assert (NOTEBOOKS / f"{name}.ipynb").stat().st_size < 500_000
    cells = code_of(name)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert "stderr" not in {output.get("name") for output in outputs}
    assert "error" not in {output["output_type"] for output in outputs}
    kinds = {kind for output in outputs for kind in output.get("data", {})}
    assert "image/png" in kinds and kinds <= {
        "image/png",
        "text/plain",
        "text/html",
        "text/markdown",
    }
    assert "/tmp/" not in json.dumps([cell["outputs"] for cell in cells]).replace("/tmp/genscl", "")


@pytest.fixture(scope="module")
def make_thumbnails():
    return load_script(NOTEBOOKS / "thumbnails" / "make.py")


@pytest.mark.parametrize("name", NAMES)
def test_its_anatomy(name, make_thumbnails):
    prose = prose_of(name)
    assert re.match(rf"# {name[:2]} · .+\n\n\*\*.+\?\*\*\n", prose)  # a title and one question
    for heading in ("You will be able to", "## Parameters", "## Exercise", "## Take away"):
        assert heading in prose
    for target in re.findall(r"\]\(([^)#]+)\)", prose):
        assert target.startswith("https://") or (NOTEBOOKS / target).exists(), target
    assert make_thumbnails.thumbnail(NOTEBOOKS / f"{name}.ipynb").width == 320
    assert (NOTEBOOKS / "thumbnails" / f"{name}.png").exists()
    assert f"]({name}.ipynb)" in (NOTEBOOKS / "README.md").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_exercises_have_an_answer_that_its_check_accepts(name, monkeypatch):
    cells = code_of(name)
    folded = r"<summary>Answer</summary>\n\n```python\n(.*?)```\n.*?</details>"
    answers = re.findall(folded, prose_of(name), re.DOTALL)
    exercises = [k for k, cell in enumerate(cells) if "exercise" in tags(cell)]
    assert len(answers) == len(exercises) >= 1
    for k in exercises:
        assert "raise NotImplementedError" in source(cells[k])
    unsolved = "".join(
        "".join(output.get("text", "")) for cell in cells for output in cell["outputs"]
    )
    assert len(re.findall(r"^\w+: not solved yet$", unsolved, re.MULTILINE)) == len(exercises)

    texts = [source(cell) for cell in cells]
    for k, answer in zip(exercises, answers, strict=True):
        texts[k] = answer
    checks = [k + 1 for k in exercises]
    printed = run(needed_cells(texts, last=exercises + checks), monkeypatch)
    assert printed.count(": correct on ") == len(exercises) and "not yet" not in printed, printed


WRONG_ANSWERS = {  # exercise of notebook 05 -> what is wrong -> the body, and the case that shows it
    "retemper": {
        "multiplies by the factor": ("F.softmax(probabilities.log() * factor, dim=1)", 2),
        "does not bring the sum back to 1": ("probabilities ** (1 / factor)", 2),
        "divides the probabilities": ("probabilities / factor", 2),
        "forgets the power": ("probabilities / probabilities.sum(dim=1, keepdim=True)", 2),
        "takes probabilities for logits": ("F.softmax(probabilities / factor, dim=1)", 1),
        "takes the softmax over images": ("F.softmax(probabilities.log() / factor, dim=0)", 1),
    },
}


def test_a_wrong_answer_is_told_with_the_case_and_the_numbers(monkeypatch):
    cells = code_of("05_distillation")
    texts = [source(cell) for cell in cells]
    for exercise, answers in WRONG_ANSWERS.items():
        [at] = [k for k, text in enumerate(texts) if f"def {exercise}(" in text]
        definition = texts[at].split("\n")[0]
        needed = needed_cells(texts, last=[at, at + 1])[:-2]
        tried = [
            text
            for body, _ in answers.values()
            for text in (f"{definition}\n    return {body}", texts[at + 1])
        ]
        told = [
            line
            for line in run(needed + tried, monkeypatch).splitlines()
            if line.startswith(exercise)
        ]
        for line, (wrong, (_, case)) in zip(told, answers.items(), strict=True):
            hint = rf"not yet. Case {case} of 3 gives (\S+) at \[\d+, \d\], expected (\S+?)\. Why: "
            found = re.search(hint, line)
            assert found and abs(float(found[1]) - float(found[2])) > 1e-5, f"{wrong}: {line}"


def parameters_of(name):
    [cell] = [cell for cell in code_of(name) if "parameters" in tags(cell)]
    return {line.target.id: line.annotation.id for line in ast.parse(source(cell)).body}


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_parameter_stops_the_notebook_with_one_line(name, monkeypatch):
    cells = code_of(name)
    [at] = [k for k, cell in enumerate(cells) if "parameters" in tags(cell)]
    checked = next(
        k for k, cell in enumerate(cells) if k > at and "checked_parameters" in source(cell)
    )
    texts = [source(cell) for cell in cells]
    for parameter, kind in parameters_of(name).items():
        if parameter in ANY_NAME:
            continue
        wrong = f"{parameter} = {WRONG[kind]!r}"
        with pytest.raises(ParameterError) as stopped:
            run([*texts[: at + 1], wrong, *texts[at + 1 : checked + 1]], monkeypatch)
        [line] = stopped.value._render_traceback_()
        assert parameter in line and "\n" not in line


def test_the_map_has_a_line_for_each():
    text = (NOTEBOOKS / "README.md").read_text()
    for name in NAMES:
        assert f"(thumbnails/{name}.png)" in text
    assert "notebooks/README.md" in (PROJECT / "README.md").read_text()
