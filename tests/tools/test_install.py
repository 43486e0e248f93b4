"""What an installation asks for and carries."""

import importlib.metadata
import re
import subprocess
import sys
import zipfile

import pytest

from genscl_lite.runs.paths import PRESETS, PROJECT

OTHERS = (
    "numpy",
    "torchvision",
    "pandas",
    "sklearn",
    "matplotlib",
    "seaborn",
    "scipy",
    "PIL",
    "yaml",
    "safetensors",
    "IPython",
    "papermill",
    "timm",
)

COMMANDS = (
    ["reproduce", "digits"],
    ["train", "digits"],
    ["data", "cifar10"],
    ["predict", "run", "a.png"],
)
REFUSE = f"""
import sys
class Refuse:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in {OTHERS}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Refuse)
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name in {OTHERS} else found(name, package)
from genscl_lite.tools.cli import main
for words in {COMMANDS}:
    print(main(words), flush=True)
"""


def test_the_package_itself_asks_for_torch_alone():
    asked = importlib.metadata.requires("genscl-lite")
    assert [text for text in asked if "extra ==" not in text] == ["torch<3,>=2.11"]
    assert {"train", "notebooks", "test"} <= set(
        importlib.metadata.metadata("genscl-lite").get_all("Provides-Extra")
    )


def test_without_the_extras_a_command_says_which_to_install():
    done = subprocess.run([sys.executable, "-c", REFUSE], capture_output=True, text=True)
    assert done.stdout.split() == ["2"] * len(COMMANDS), done.stderr
    lines = done.stderr.splitlines()[-len(COMMANDS) :]  # torch itself warns before, of NumPy
    for line in lines:
        assert line.startswith("error: genscl_lite.datasets needs ")
        assert line.endswith("pip install 'genscl-lite[train]'")


def test_each_extra_brings_the_one_before_it():
    texts = [
        text
        for text in importlib.metadata.requires("genscl-lite")
        if text.startswith("genscl-lite[")
    ]
    brought = [set(re.findall(r"[a-z]+(?=[,\]])|[a-z]+(?=['\"]$)", text)) for text in texts]
    assert brought == [{"train", "notebooks"}, {"notebooks", "onnx", "test"}]


@pytest.fixture(scope="module")
def carried(tmp_path_factory):
    """Names of the files in a wheel, built without a network from a copy of what git would commit."""
    pytest.importorskip(
        "setuptools", minversion="77", reason="a wheel is built by setuptools 77 or newer"
    )
    out = tmp_path_factory.mktemp("wheel")
    tree = out / "tree"
    for name in ("genscl_lite", "tests", "notebooks", "pyproject.toml", "README.md", "LICENSE"):
        tree.mkdir(exist_ok=True)
        subprocess.run(["cp", "-r", PROJECT / name, tree / name], check=True)
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        out,
        tree,
    ]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    [wheel] = out.glob("*.whl")
    return set(zipfile.ZipFile(wheel).namelist())


def test_a_wheel_carries_all_modules_presets_and_published_numbers(carried):
    package = PROJECT / "genscl_lite"
    wanted = [*package.rglob("*.py"), *PRESETS.rglob("*.yaml"), package / "runs" / "published.csv"]
    wanted += [package / "py.typed"]
    lessons = (PROJECT / "notebooks" / "genscl_lessons").rglob("*.py")
    assert {path.relative_to(PROJECT).as_posix() for path in wanted} <= carried
    assert {path.relative_to(PROJECT / "notebooks").as_posix() for path in lessons} <= carried


def test_a_wheel_carries_nothing_else(carried):
    assert {name.split("/")[0].split("-")[0] for name in carried} == {
        "genscl_lite",
        "genscl_lessons",
    }
    assert {name.rsplit(".")[-1] for name in carried if ".dist-info/" not in name} == {
        "py",
        "yaml",
        "csv",
        "typed",
    }
