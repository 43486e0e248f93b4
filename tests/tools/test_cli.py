"""The one way in."""

import io
import runpy
import sys
from importlib import import_module
from importlib.machinery import PathFinder
from pathlib import Path
from types import SimpleNamespace

import pytest

from genscl_lite.tools import cli
from genscl_lite.tools.cli import COMMANDS, main


def test_help_is_a_table_of_contents(capsys):
    assert main(["--help"]) == main([]) == 0
    printed = capsys.readouterr().out
    assert printed.count("usage: genscl COMMAND") == 2
    for command, (what, _) in COMMANDS.items():
        assert f"  {command:<10} {what}\n" in printed


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_is_there_and_explains_itself(command, capsys):
    module, function = COMMANDS[command][1].split(":")
    assert callable(getattr(import_module(f"genscl_lite.{module}"), function))
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0 and f"usage: genscl {command}" in capsys.readouterr().out


@pytest.mark.parametrize("word, hint", [("reprodce", " (did you mean 'reproduce'?)"), ("xyz", "")])
def test_an_unknown_command_suggests_the_near_one(word, hint, capsys):
    assert main([word]) == 2
    assert (
        capsys.readouterr().err
        == f"error: command: {word!r} is unknown{hint}; `genscl --help` lists all\n"
    )


@pytest.mark.parametrize("command", ["benchmark", "keep", "pages"])
def test_a_command_that_became_a_script_says_which(command, capsys):
    assert main([command, "loss"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: `genscl {command}` is now `python ") and line.endswith(
        "in a clone"
    )


def test_a_package_that_is_missed_late_is_one_line_too(monkeypatch, capsys):
    def command(words):
        raise ModuleNotFoundError("No module named 'papermill'")

    monkeypatch.setattr(cli, "import_module", lambda name: SimpleNamespace(main=command))
    assert main(["train", "digits"]) == 2
    assert capsys.readouterr().err == "error: No module named 'papermill'\n"


def test_a_missing_package_is_one_line(monkeypatch, capsys):
    def missing(name):
        raise ImportError(
            "genscl_lite.datasets needs torchvision: pip install 'genscl-lite[train]'"
        )

    monkeypatch.setattr(cli, "import_module", missing)
    assert main(["train", "digits"]) == 2
    assert (
        capsys.readouterr().err
        == "error: genscl_lite.datasets needs torchvision: pip install 'genscl-lite[train]'\n"
    )


@pytest.mark.parametrize(
    "module, words", [("genscl_lite", ["reproduce"]), ("genscl_lite.reproduce", [])]
)
def test_python_m_is_the_same(module, words, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [module, *words, "digts"])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_module(module, run_name="__main__")
    assert stopped.value.code == 2
    assert capsys.readouterr().err.startswith(
        "error: preset: 'digts' is unknown (did you mean 'digits'?)"
    )


def test_what_the_output_cannot_encode_is_escaped(monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="cp1252", newline="\n"))
    command = SimpleNamespace(main=lambda words: print("\u72d7"))
    monkeypatch.setattr(cli, "import_module", lambda name: command)
    main(["train"])
    sys.stdout.flush()
    assert written.getvalue() == b"\\u72d7\n"


def test_a_module_of_the_current_folder_is_found_and_does_not_take_the_place_of_a_package(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for name in ("pandas", "safetensors", "csv", "my_data"):
        (tmp_path / f"{name}.py").touch()
    monkeypatch.setattr(
        sys, "path", [folder for folder in sys.path if folder not in ("", str(tmp_path))]
    )
    found = []

    def command(words):
        found.extend(
            name for name in words if Path(PathFinder.find_spec(name).origin).parent == tmp_path
        )
        return 0

    monkeypatch.setattr(cli, "import_module", lambda name: SimpleNamespace(main=command))
    assert main(["train", "pandas", "safetensors", "csv", "my_data"]) == 0
    assert found == ["my_data"]
