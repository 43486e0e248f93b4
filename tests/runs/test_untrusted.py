"""Files from elsewhere: nothing in them is executed, fills the memory or is more than one line of an error."""

import json
import struct
import sys

import pytest
from PIL import Image

from genscl_lite.runs.job import Job, train_job
from genscl_lite.runs.plan import read_preset
from genscl_lite.runs.request import parse_parameter
from genscl_lite.runs.use import main
from genscl_lite.train.config import TrainConfig
from genscl_lite.train.teachers import load_teacher
from tests.conftest import QUICK


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The bytes of a good model.safetensors: header, as a dictionary, and weights."""
    folder = tmp_path_factory.mktemp("run")
    config = TrainConfig(**QUICK | {"method": "supcon", "epochs": 1, "warmup_epochs": 0})
    list(train_job(Job("supcon", (config,), folder)))
    content = (folder / "seed0" / "model.safetensors").read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + length]), content[8 + length :]


@pytest.fixture
def predict(model, tmp_path, monkeypatch, capsys):
    """Write a model whose header is changed, name an image's class by it, return what was printed."""
    monkeypatch.chdir(tmp_path)
    Image.new("L", (8, 8)).save("a.png")

    def with_header(changes, length=None):
        header = json.loads(json.dumps(model[0]))
        about = header["__metadata__"]
        for part, value in changes.items():
            whole = json.loads(about[part]) | value if isinstance(value, dict) else value
            about[part] = whole if isinstance(whole, str) else json.dumps(whole)
        text = json.dumps(header).encode()
        (tmp_path / "model.safetensors").write_bytes(
            struct.pack("<Q", length or len(text)) + text + model[1]
        )
        status = main("predict", ["model.safetensors", "a.png"])
        return status, capsys.readouterr()

    return with_header


@pytest.mark.parametrize("changes", [
    {"config": {"latent_dim": 10**12}}, {"config": "[" * 10**5}, {"config": [1]}, {"config": {"epochs": "x"}}, {"config": {"evil": 1}},
    {"config": {"arch": "timm/hf-hub:evil/model"}}, {"config": {"learning_rate": float("nan")}}, {"summary": "{" * 10**5},
    {"data": {"image_shape": [1, 10**5, 10**5]}}, {"data": {"image_shape": [10**8, 8, 8]}}, {"data": {"image_shape": [1, -8, 8]}},
    {"data": {"image_shape": [1, 8]}}, {"data": {"image_shape": "abc"}}, {"data": {"image_shape": [2**24, 1, 1], "mean": [0] * 2000}},
    {"data": {"class_names": ["a"] * 10**5}}, {"data": {"class_names": 5}}, {"data": {"class_names": list(range(10))}},
    {"data": {"mean": ["a"]}}, {"data": {"std": [0.0]}}, {"data": {"mean": [0.1, 0.1]}}, {"data": {"name": [1]}}, {"data": [1]}, {"data": "{}"},
])  # fmt: skip
def test_a_hostile_header_is_one_line(changes, predict):
    status, printed = predict(changes)
    assert status == 2 and not printed.out and printed.err.count("\n") == 1
    assert printed.err.startswith("error: model.safetensors: ") and (
        "damaged" in printed.err or "earlier version" in printed.err
    )


def test_a_header_of_any_length_is_one_line(predict):
    for length in (2**62, 200 * 2**20, 50):
        status, printed = predict({}, length)
        assert (
            status == 2
            and printed.err
            == "error: model.safetensors: damaged, or not written by this kit (SafetensorError)\n"
        )


def test_a_model_is_read_without_the_module_that_its_data_came_from(predict, tmp_path, monkeypatch):
    (tmp_path / "evil_data.py").write_text(
        "open('executed', 'w').close()\ndef load(root, config): pass\n"
    )
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    status, printed = predict(
        {"config": {"dataset": "evil_data:load"}, "data": {"name": "evil_data:load"}}
    )
    assert status == 0 and printed.out.startswith("a.png\t")
    with pytest.raises(
        ValueError, match="holds supcon, which is no classifier"
    ):  # so far it was read
        load_teacher(TrainConfig("genscl_mix_kd", teacher="model.safetensors"), None)
    assert not (tmp_path / "executed").exists() and "evil_data" not in sys.modules


def test_what_a_class_is_called_stays_in_its_line_and_off_the_terminal(predict):
    names = [f"\x1b[2J<script>\n\t{number}" for number in range(10)]
    status, printed = predict({"data": {"class_names": names}})
    assert status == 0 and printed.out.count("\n") == 1 and printed.out.count("\t") == 2
    assert printed.out.startswith(r"a.png	'\x1b[2J<script>\n\t") and "\x1b" not in printed.out


@pytest.mark.parametrize("text", [
    "epochs: !!python/object/apply:os.mkdir [executed]\n", "epochs: !!python/name:os.mkdir\n", "[" * 500, "? [1]\n: 2\n", "epochs: *a\n",
    "- 1\n", "\x00", "<<: [1]\n",
])  # fmt: skip
def test_a_preset_is_parameters_and_nothing_else(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"^preset: [^\n]*evil.yaml is not [^\n]*$"):
        read_preset(str(path))
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("value", ["!!python/object/apply:os.mkdir [executed]", "[" * 500])
def test_a_parameter_is_a_value_and_nothing_else(value, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="^parameter: [^\n]* is not YAML$"):
        parse_parameter(f"balanced={value}")
    assert not (tmp_path / "executed").exists()
