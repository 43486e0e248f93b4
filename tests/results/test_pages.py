"""What README and the guides show is what the code does."""

import re
import shlex
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import yaml
from PIL import Image

from genscl_lessons.costs import make_cost_table
from genscl_lite.datasets.files import as_path
from genscl_lite.datasets.registry import LOADERS
from genscl_lite.runs import launch
from genscl_lite.runs.job import Job, train_job
from genscl_lite.runs.paths import NOTEBOOKS, PROJECT, RESULTS
from genscl_lite.runs.plan import presets
from genscl_lite.runs.request import make_parser, read_requests
from genscl_lite.runs.statistics import t_interval
from genscl_lite.runs.tables import make_table, read_summaries
from genscl_lite.tools import cli
from genscl_lite.train.config import TrainConfig
from tests.scripts import load_script

pages = load_script(RESULTS / "pages.py")

PAGES = {
    path.relative_to(PROJECT).as_posix(): path
    for path in [*pages.pages(), PROJECT / "data" / "README.md"]
}
TEXTS = {name: path.read_text("utf-8") for name, path in PAGES.items()}
README = TEXTS["README.md"]


def fenced(text, language):
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands_of(page):
    lines = "".join(fenced(TEXTS[page], "bash")).replace("\\\n", "").splitlines()
    return [line for line in lines if line and not line.startswith("pip ")]


COMMANDS = sorted({line for page in PAGES for line in commands_of(page)})


@pytest.mark.parametrize("page", PAGES)
def test_tables_are_those_of_the_committed_results(page):
    assert pages.rewritten(TEXTS[page]) == TEXTS[page], "data/results/pages.py writes them anew"
    assert len(re.findall(r"^<!-- table: ", TEXTS[page], re.M)) == TEXTS[page].count("<!-- end -->")


@pytest.mark.parametrize("folder", sorted(path.parent.name for path in RESULTS.glob("*/table.csv")))
def test_committed_tables_are_those_of_the_committed_runs(folder):
    runs = read_summaries(RESULTS / folder)
    for name, table in (("table.csv", make_table(runs)), ("cost.csv", make_cost_table(runs))):
        pd.testing.assert_frame_equal(
            pd.read_csv(RESULTS / folder / name), table, check_dtype=False
        )


def test_tables_are_written_between_their_marks_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "PROJECT", tmp_path)
    monkeypatch.setattr(pages, "NOTEBOOKS", tmp_path / "notebooks")
    (tmp_path / "README.md").write_text("a\n<!-- table: ledger digits -->\nold\n<!-- end -->\nb\n")
    pages.main()
    before, *table, after = (tmp_path / "README.md").read_text().split("\n\n")
    assert before == "a\n<!-- table: ledger digits -->" and after == "<!-- end -->\nb\n"
    assert "SupCon beats cross-entropy" in table[0] and "old" not in table[0]


def test_a_page_shows_what_a_study_found(monkeypatch):
    monkeypatch.setitem(sys.modules, "ablation", SimpleNamespace(render=lambda: "| a |"))
    page = pages.rewritten("<!-- table: study ablation -->\n<!-- end -->")
    assert page == "<!-- table: study ablation -->\n\n| a |\n\n<!-- end -->"


def test_a_study_that_was_not_made_is_said_so():
    page = pages.rewritten("<!-- table: results nowhere -->\nold\n<!-- end -->")
    assert page == "<!-- table: results nowhere -->\n\n*Not measured yet.*\n\n<!-- end -->"


def test_seeds_that_were_added_are_shown_by_themselves(monkeypatch):
    """Mixing helps by the first three seeds, and harms by those that came later."""
    accuracy = {
        "supcon": [0.70, 0.71, 0.72, 0.80, 0.81, 0.82],
        "genscl_mix": [0.75, 0.765, 0.77, 0.76, 0.765, 0.78],
    }
    runs = [
        {"method": method, "seed": seed, "accuracy_last": value, "dataset": "cifar10",
         "arch": "small", "epochs": 80, "read_out": "converged"}
        for method, values in accuracy.items() for seed, value in enumerate(values)
    ]  # fmt: skip
    monkeypatch.setattr(pages, "read", {"added": pd.DataFrame(runs)}.get)
    head, _, mixing, *others = pages.later_seeds("added", "3").splitlines()
    assert head == "| claim | seeds below 3 | seeds from 3 on |" and len(others) == 2
    assert mixing.startswith("| Mixing helps GenSCL | supported: +5.2 (")
    assert "| contradicted: -4.2 (" in mixing


def test_what_peoples_labels_change_has_an_interval_and_a_verdict(monkeypatch):
    """Three seeds: nearer to people for sure; less accurate in the mean alone."""

    def runs(shift, accuracies):
        return pd.DataFrame([{"method": "supcon", "seed": seed, "accuracy_last": accuracy, "calibration_error": 0.1,
                              "people": {"outputs": {"between": 0.3 + shift + 0.001 * seed, "between_pearson": 0.2}, "cross_entropy": 0.5}}
                             for seed, accuracy in enumerate(accuracies)])  # fmt: skip

    frames = {"people": runs(0.1, [0.70, 0.72, 0.71, 0.5]), "classes": runs(0, [0.71, 0.70, 0.74])}
    monkeypatch.setattr(pages, "read", frames.get)
    lines = [
        line.strip("| ").split(" | ")
        for line in pages.people_differences("people", "classes").splitlines()[2:]
    ]
    assert [line[-1] for line in lines] == [
        "higher",
        "undecided",
        "undecided",
        "undecided",
        "undecided",
    ]
    mean, low, high, _ = t_interval([-0.01, 0.02, -0.03])
    assert lines[3] == [
        "SupCon",
        "accuracy, fraction",
        f"{mean:+.3f} ({low:+.3f} to {high:+.3f})",
        "3",
        "undecided",
    ]
    monkeypatch.setattr(pages, "read", lambda name: frames[name].iloc[:1])
    assert (
        pages.people_differences("people", "classes").splitlines()[2]
        == "| SupCon | `between`, Spearman | +0.100 | 1 | undecided |"
    )


@pytest.mark.parametrize("page", [page for page in PAGES if fenced(TEXTS[page], "python")])
def test_python_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b.png"):
        Image.new("L", (8, 8), 128).save(name)
    before, names = dict(LOADERS), {}
    if "runs/digits/supcon" in TEXTS[page]:
        train_a_little("runs/digits/supcon")
    try:
        for code in fenced(TEXTS[page], "python"):
            exec(code, names)
    finally:
        LOADERS.clear()
        LOADERS.update(before)
    if page.endswith(("README.md", "loss.md")):
        assert (names["encoder"][1].weight.grad != 0).any()


def train_a_little(folder):
    config = TrainConfig("supcon", epochs=1, warmup_epochs=0, probe_epochs=1)
    list(train_job(Job("supcon", (config,), as_path(folder))))


def test_a_trained_model_is_used_as_its_guide_says(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b.png"):
        Image.new("L", (8, 8), 128).save(name)
    train_a_little("runs/digits/supcon")
    commands = commands_of("notebooks/guides/trained_model.md")
    assert len(commands) == 4
    for line in commands:
        assert cli.main(shlex.split(line, comments=True)[1:]) == 0
    assert capsys.readouterr().out.count("a.png\t") == 1
    assert {"features.npz", "encoder.safetensors", "encoder.json", "model.onnx", "model.json"} <= {
        path.name for path in tmp_path.iterdir()
    }


def slugs(text):
    """Anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)]+)\)", TEXTS[page]):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        path = PAGES[page].parent / file if file else PAGES[page]
        assert path.exists(), target
        assert not anchor or anchor in slugs(path.read_text("utf-8")), target


def test_every_guide_is_in_the_table_of_readme():
    for path in (NOTEBOOKS / "guides").glob("*.md"):
        assert f"](notebooks/guides/{path.name})" in README


def with_data_in(folder: Path, words: list[str]) -> list[str]:
    """Let a command's data lie in a folder that is there."""
    return [re.sub(r"^data_root=.*", f"data_root={folder}", word) for word in words]


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.startswith("genscl reproduce")])
def test_commands_that_train_are_understood(line, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    earlier = tmp_path / "runs" / "tuned" / "genscl_mix" / "seed0" / "model.safetensors"
    for folder in (tmp_path / "photos", earlier.parent):
        folder.mkdir(parents=True)
    earlier.touch()
    words = with_data_in(tmp_path, shlex.split(line.split(">")[0], comments=True)[2:])
    if words[0] not in presets():
        words[0] = str(PROJECT / words[0])
    assert launch.main([*words, *([] if "--dry-run" in words else ["--dry-run"])]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) >= (1 if "--only" in words else 4) and all(
        "papermill" in line for line in printed
    )


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.startswith("torchrun")])
def test_commands_of_several_processes_are_understood(line, tmp_path):
    words = shlex.split(line.partition("-m genscl_lite train ")[2], comments=True)
    words = with_data_in(tmp_path, words)
    [request] = read_requests(make_parser("genscl train", "").parse_args(words))
    assert words[words.index("--only") + 1] in {job.method for job in request.jobs}


@pytest.mark.parametrize(
    "line", [line for line in COMMANDS if not line.startswith(("genscl reproduce", "torchrun"))]
)
def test_other_commands_and_their_options_exist(line, capsys):
    first, *words = shlex.split(line.split(">")[0], comments=True)
    if first == "python":
        assert words[0] == "-m" and find_spec(words[1]) or (PROJECT / words[0]).exists()
        return
    if first != "genscl":
        assert first in ("head", "tail", "jupyter", "papermill", "pytest")
        return
    with pytest.raises(SystemExit) as stopped:
        cli.main([words[0], "--help"])
    text = capsys.readouterr().out
    assert stopped.value.code == 0 and all(word in text for word in words if word.startswith("--"))


def test_commands_in_sentences_exist():
    texts = [text for name, text in TEXTS.items() if "changelog" not in name]  # it names old ones
    named = {word for text in texts for word in re.findall(r"`genscl ([a-z]+)", text)}
    assert named <= cli.COMMANDS.keys() and len(named) > 3


def test_both_commands_are_those_of_ci():
    commands = re.findall(r"^pip install -r .*?(?=  )", README, re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        assert (
            command.strip().replace("pip install", "pip install -q")
            in (PROJECT / ".ci" / "run").read_text()
        )


def test_the_citation_is_that_of_this_version():
    citation = yaml.safe_load((PROJECT / "CITATION.cff").read_text())
    assert (
        citation["cff-version"] == "1.2.0"
        and citation["title"]
        and citation["message"]
        and citation["authors"]
    )
    assert f'version = "{citation["version"]}"' in (PROJECT / "pyproject.toml").read_text()
    [paper] = citation["references"]
    assert (
        f"*{paper['title']}*" in README
        and paper["url"].removeprefix("https://arxiv.org/abs/") in README
    )
    assert all(author["family-names"] in README for author in paper["authors"])
