"""The playground's page: its own loss is the kit's, and it needs nothing but itself.

``playground_states.json`` holds states with what the page's script says of them. Every machine compares these numbers
with the kit; one with Node also asks the page again. After a change of the page's loss, write them anew with
``python -m tests.lessons.test_playground``.
"""

import json
import math
import random
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from torch import Tensor

from genscl_lite import gen_supcon_loss, label_similarity

PAGE = Path(__file__).parents[2] / "notebooks" / "playground.html"
STATES = Path(__file__).with_name("playground_states.json")
ASK = """
const asked = JSON.parse(require("fs").readFileSync(0, "utf8"));
console.log(JSON.stringify(asked.map((q) => {
  const labels = q.hard ? q.labels.map(hardLabel) : q.labels;
  const teacher = q.logits && q.logits.map((x) => temperedSoftmax(x, q.softness));
  return lossAndGradient(q.points, labels, { temperature: q.temperature, teacher, teacherWeight: q.weight });
})));
"""
NAMES = ("loss", "floor", "chance", "w", "gradient")
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed")


def ask_page(states: list[dict]) -> list[dict]:
    """What the page's script computes, run with Node."""
    script = re.search(r'<script id="loss">(.*?)</script>', PAGE.read_text("utf-8"), re.S).group(1)
    asked = subprocess.run(
        ["node", "-e", script + ASK],
        input=json.dumps(states),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return json.loads(asked.stdout)


def double(numbers) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def ask_kit(state: dict) -> dict[str, Tensor]:
    """The same from the kit, in float64."""
    z, y, tau = (
        double(state["points"]).requires_grad_(),
        double(state["labels"]),
        state["temperature"],
    )
    targets = [(1.0, y.argmax(dim=1) if state["hard"] else y)]
    if state["logits"] and state["weight"]:
        teacher = (double(state["logits"]) / state["softness"]).softmax(dim=1)
        targets.append((state["weight"], teacher))
    loss = sum(a * gen_supcon_loss(z, target, temperature=tau) for a, target in targets)
    loss.backward()

    # One target for all: each anchor's shares, added up by their weights in the loss.
    total = double(0)
    for a, target in targets:
        s = label_similarity(target).double().fill_diagonal_(0)
        counted = max(1, int((s.sum(dim=1) > 0).sum()))
        total = total + a / counted * (s / s.sum(dim=1, keepdim=True)).nan_to_num()
    weight = total.sum(dim=1)
    v = (total / weight[:, None]).nan_to_num()
    floor = (weight * torch.special.entr(v).sum(dim=1)).sum()
    chance = weight.sum() * math.log(len(z) - 1)
    return dict(zip(NAMES, (loss.detach(), floor, chance, v, z.grad), strict=True))


def assert_close(page: dict, expected: dict[str, Tensor], tolerance=1e-9):
    for name in NAMES:
        scale = max(1, float(expected[name].abs().max()))
        worst = float((double(page[name]) - expected[name]).abs().max()) / scale
        assert worst < tolerance, f"{name}: {page[name]}, expected {expected[name].tolist()}"


def make_states() -> list[dict]:
    """Points on the circle and off it, labels of every kind, and every slider at its ends."""
    draw = random.Random(0)
    pure = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    blends = [[0.5, 0.5, 0.0], [0.8, 0.2, 0.0], [0.0, 0.25, 0.75], [0.2, 0.3, 0.5]]

    def state(name, labels, temperature=0.3, **changes):
        points = [[round(draw.gauss(0, 1), 3) for _ in range(2)] for _ in labels]
        return {
            "name": name,
            "points": points,
            "labels": labels,
            "temperature": temperature,
            "hard": False,
            "logits": None,
            "softness": 1.0,
            "weight": 0.0,
        } | changes

    logits = [[5, 2, 0], [3.2, 2.8, 0], [2, 5, 1], [1, 5, 1.5], [0, 1.5, 5], [0.5, 1, 4]]
    two_each = [label for label in pure for _ in range(2)]
    mixed = [*pure, *blends]
    circle = [
        [1.0, 0.0],
        [0.6, 0.8],
        [0.0, -1.0],
        [-0.8, 0.6],
        [-0.6, -0.8],
        [1.0, 0.0],
        [0.0, 1.0],
    ]
    return [
        state("on the circle", mixed, points=circle),
        state("off the circle", mixed),
        state("SupCon, where a tie goes to the first class", mixed, hard=True),
        state("the coldest softmax", mixed, 0.02),
        state("the hottest softmax", mixed, 2.0),
        state("a teacher", two_each, logits=logits, weight=1.0),
        state("a teacher that is sure of itself", two_each, logits=logits, softness=0.1, weight=3.0),
        state("a teacher to whom all is alike", two_each, logits=logits, softness=10.0, weight=0.05),
        state("a teacher without a weight", two_each, logits=logits),
        state("one label resembles no other", [pure[0], pure[0], blends[0], pure[2]]),
        state(
            "one resembles no other, but the teacher's does",
            [pure[0], pure[0], pure[1], pure[2]],
            logits=[logits[0], logits[1], logits[2], logits[4]],
            weight=2.0,
        ),
        state("no label resembles another", pure),
        state("all labels are the same", [blends[1]] * 4),
        state("two points in one place, one at the center", two_each[:4])
        | {"points": [[1.0, 0.0], [1.0, 0.0], [0.0, 0.0], [0.0, -1.5]]},
    ]  # fmt: skip


def read_states() -> list[dict]:
    return json.loads(STATES.read_text("utf-8"))


@pytest.mark.parametrize("state", read_states(), ids=lambda state: state["name"])
def test_the_pages_numbers_are_the_kits(state):
    assert_close(state["page"], ask_kit(state))


def test_the_states_are_those_described():
    assert [{k: v for k, v in s.items() if k != "page"} for s in read_states()] == make_states()


@needs_node
def test_the_page_still_gives_these_numbers():
    states = read_states()
    for state, answer in zip(states, ask_page(states), strict=True):
        assert_close(answer, {name: double(state["page"][name]) for name in NAMES})


@needs_node
def test_the_forces_of_pairs_add_up_to_the_gradient():
    states = read_states()
    for state, answer in zip(states, ask_page(states), strict=True):
        x = double(state["points"])
        length = x.norm(dim=1, keepdim=True)
        z = x / length.clamp(min=1e-12)
        force = double(answer["pull"]) @ z
        around = (force - (force * z).sum(dim=1, keepdim=True) * z) * (length > 0)
        assert torch.allclose(double(answer["gradient"]) * length, -around, atol=1e-9)


def test_the_page_is_one_small_file_that_loads_nothing():
    page = PAGE.read_text("utf-8")
    assert PAGE.stat().st_size < 100_000
    assert not re.search(r"https?:|\bsrc=|<link|@import|url\(|\bfetch\(|XMLHttpRequest", page)
    links = re.findall(r'href="([^"]+)"', page)
    assert links and all((PAGE.parent / link).is_file() for link in links)


if __name__ == "__main__":
    states = make_states()
    for state, answer in zip(states, ask_page(states), strict=True):
        state["page"] = {name: answer[name] for name in NAMES}
    rows = ",\n".join(json.dumps(state) for state in states)
    STATES.write_text(f"[\n{rows}\n]\n", "utf-8")
