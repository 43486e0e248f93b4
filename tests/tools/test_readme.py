"""What README shows is what the code does."""

import re

import pandas as pd
import pytest

from genscl_lite.datasets import files
from genscl_lite.runs.claims import make_ledger, render_ledger
from genscl_lite.runs.launch import main
from genscl_lite.runs.paths import PROJECT, RESULTS
from genscl_lite.runs.plan import presets
from genscl_lite.runs.tables import (
    make_cost_table,
    make_table,
    read_summaries,
    render_cost_table,
    render_table,
)
from genscl_lite.tools.benchmark import loss, step

README = (PROJECT / "README.md").read_text()


def test_the_table_is_the_committed_one():
    assert render_table(pd.read_csv(RESULTS / "digits" / "table.csv")) in README


def test_its_costs_are_those_of_the_committed_runs():
    costs = pd.read_csv(RESULTS / "digits" / "cost.csv")
    pd.testing.assert_frame_equal(costs, make_cost_table(read_summaries(RESULTS / "digits")), check_dtype=False)
    assert render_cost_table(costs) in README


@pytest.mark.parametrize("name", ["digits", "cifar10_small"])
def test_its_ledgers_are_those_of_the_committed_runs(name):
    assert render_ledger(make_ledger(read_summaries(RESULTS / name))) in README


def test_the_table_of_photographs_is_the_committed_one():
    assert render_table(make_table(read_summaries(RESULTS / "cifar10_small"))) in README


def test_its_python_runs():
    names = {}
    for code in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        exec(code, names)
    assert (names["encoder"][1].weight.grad != 0).any()


def test_what_the_loss_costs_is_the_committed_benchmark():
    written = files.read_json(RESULTS / "loss" / "loss.json")
    records = pd.DataFrame(written["records"])
    assert loss.render(records, 10) in README
    for line in loss.claims(records):
        assert f"- {line}\n" in README
    assert written["device"].replace("(R)", "").split(" Processor")[0] in README


def test_what_a_step_costs_is_the_committed_benchmark():
    records = pd.DataFrame(files.read_json(RESULTS / "step" / "step.json")["records"])
    assert step.render(records) in README
    for line in step.claims(records):
        assert f"- {line}\n" in README


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert target.startswith("https://") or (PROJECT / target).exists(), target


@pytest.mark.parametrize("line", [line for line in README.replace("\\\n", "").splitlines()
                                  if line.startswith("genscl reproduce")])  # fmt: skip
def test_its_commands_are_understood(line, capsys):
    words = line.split("#")[0].split(">")[0].split()[2:]
    assert words[0] in presets()
    assert main([*words, *([] if "--dry-run" in words else ["--dry-run"])]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) >= (1 if "--only" in words else 7) and all("papermill" in line for line in printed)


def test_both_commands_are_those_of_ci():
    for command in re.findall(r"^pip install -r .*?(?=  )", README, re.MULTILINE):
        assert command.strip().replace("pip install", "pip install -q") in (PROJECT / ".ci" / "run").read_text()
