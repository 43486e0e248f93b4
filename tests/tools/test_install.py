"""What an installation asks for and carries."""

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

import genscl_lite

OTHERS = ("numpy", "torchvision", "pandas", "sklearn", "matplotlib", "seaborn", "scipy", "PIL", "yaml",
          "safetensors", "IPython", "papermill", "timm")

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
sys.exit(main(sys.argv[1:]))
"""


def test_the_package_itself_asks_for_torch_alone():
    asked = importlib.metadata.requires("genscl-lite")
    assert [text for text in asked if "extra ==" not in text] == ["torch<3,>=2.11"]
    assert {"train", "notebooks", "test"} <= set(importlib.metadata.metadata("genscl-lite").get_all("Provides-Extra"))


@pytest.mark.parametrize("words", [["reproduce", "digits"], ["train", "digits"], ["data", "cifar10"], ["predict", "run", "a.png"],
                                   ["benchmark", "loss"], ["keep", "a", "b"]])
def test_without_the_extras_a_command_says_which_to_install(words):
    done = subprocess.run([sys.executable, "-c", REFUSE, *words], capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith("error: genscl_lite.datasets needs ") and line.endswith("pip install 'genscl-lite[train]'")


def test_presets_and_published_numbers_lie_in_the_package():
    runs = Path(genscl_lite.__file__).parent / "runs"
    assert (runs / "published.csv").exists() and (runs / "presets" / "lengths" / "quick.yaml").exists()
