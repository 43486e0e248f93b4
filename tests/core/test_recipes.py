"""The recipes of the guide to the loss, run with the libraries that they are for."""

import importlib.util
import runpy
from pathlib import Path

import pytest
import torch
from torch.nn.functional import interpolate

from genscl_lite import gen_supcon_loss
from genscl_lite.datasets import load_dataset

GUIDES = Path(__file__).parents[2] / "notebooks" / "guides"
RECIPES = sorted((GUIDES / "recipes").glob("*.py"))


def recipe(name, *needed):
    for module in needed:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"needs {module}: pip install 'genscl-lite[recipes]'")
    return runpy.run_path(str(GUIDES / "recipes" / f"{name}.py"))["main"]


def loss_of(network, size=8):
    """Of the digits that no recipe sees, as they are."""
    digits = load_dataset("digits")
    images = interpolate(digits.test_images / 255, size=size)
    with torch.no_grad():
        return gen_supcon_loss(network.cpu().eval()(images), digits.test_labels).item()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name, needed, size, options",
    [
        ("with_lightning", ["lightning"], 8, {}),
        ("with_transformers", ["transformers", "accelerate"], 8, {"folder": "."}),
        ("with_timm", ["timm"], 32, {"name": "test_convnext"}),
    ],
)
def test_a_recipe_learns(name, needed, size, options, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main = recipe(name, *needed)
    torch.manual_seed(0)
    before, after = (loss_of(main(epochs=epochs, **options), size) for epochs in (1, 4))
    assert after < before - 0.1


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_guide_shows_it(path):
    assert f"```py\n{path.read_text()}```" in (GUIDES / "loss.md").read_text()
    assert len(path.read_text().splitlines()) <= 65
