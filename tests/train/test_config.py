import ast
import dataclasses
import math
import re

import nbformat
import pytest
import yaml

from genscl_lite.runs.paths import LENGTHS, NOTEBOOKS, PRESETS
from genscl_lite.runs.plan import preset_files, presets, read_presets
from genscl_lite.train import config
from genscl_lite.train.config import (
    PARAMETERS,
    RUN_PARAMETERS,
    TrainConfig,
    check_parameters,
    make_configs,
)
from genscl_lite.train.methods import METHODS


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(method="sup_con"), "method: 'sup_con' .*did you mean 'supcon'"),
        (dict(dataset="cifar-10"), "dataset: .*did you mean 'cifar10'"),
        (dict(arch="resnet-18"), "arch: .*did you mean 'resnet18'"),
        (dict(temperature=0), "temperature: expected a number above 0, got 0"),
        (dict(temperature=-0.1), "temperature: expected a number above 0"),
        (dict(temperature=float("nan")), "temperature: "),
        (
            dict(learning_rate="1e-3"),
            "learning_rate: expected float, got '1e-3' .YAML reads 1e-3 as text",
        ),
        (dict(epochs=10.0), "epochs: expected int, got 10.0"),
        (dict(epochs=True), "epochs: expected int, got True"),
        (dict(epochs=0), "epochs: expected a number above 0"),
        (dict(labels_per_class=-1), "labels_per_class: expected a number of at least 0"),
        (dict(momentum=1.0), "momentum: expected a number below 1"),
        (dict(ema=1.0), "ema: expected a number below 1"),
        (dict(compile="on"), "compile: 'on' is unknown"),
        (
            dict(labels="labels.csv"),
            "labels: is about the files of a folder, and digits has none; got 'labels.csv'",
        ),
        (dict(warmup_epochs=200), "warmup_epochs: expected fewer than the 200 epochs"),
        (
            dict(method="genscl_mix_kd_queue", queue_size=49),
            "queue_size: expected at least the 50 keys of a batch, got 49",
        ),
        (dict(method="genscl_mix_kd_queue", views=1), "views: "),
        (
            dict(method="simclr", views=1),
            "views: simclr contrasts views and needs 2 or more, got 1",
        ),
        (dict(method="genscl_kd", label_weight=0.0, kd_weight=0.0), "label_weight and kd_weight"),
        (
            dict(dataset="folder"),
            "image_size: the pixels of a folder's images, 0 for other data sets; got 0 for folder",
        ),
        (dict(image_size=32), "image_size: .* got 32 for digits"),
        (dict(dataset="custom", image_size=32), "image_size: .* got 32 for custom"),
        (
            dict(dataset="folder", image_size=-1),
            "image_size: expected a number of at least 0, got -1",
        ),
        (
            dict(dataset="folder", image_size=224, val_share=1.0),
            "val_share: expected a number below 1, got 1.0",
        ),
        (dict(resident=True), "resident: expected str, got True"),
        (
            dict(teacher=2024),
            "teacher: expected str, got 2024 .write text that looks like something else in quotes.",
        ),
    ],
)
def test_bad_values_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**change)


def test_a_folder_has_an_image_size():
    assert TrainConfig(dataset="folder", image_size=224).image_size == 224


def test_a_config_is_frozen_and_integers_serve_as_floats():
    made = TrainConfig(learning_rate=1)
    assert type(made.learning_rate) is float
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.epochs = 3


def test_configs_of_all_seeds_with_what_a_method_changes():
    made = make_configs(
        {
            "method": "ce",
            "seed": 4,
            "seeds": 3,
            "epochs": 9,
            "out": "x",
            "by_method": {"ce": {"epochs": 7}, "supcon": {"epochs": 8}},
        }
    )
    assert [c.seed for c in made] == [4, 5, 6] and {c.epochs for c in made} == {7}


@pytest.mark.parametrize(
    "parameters, message",
    [
        ({"temperatur": 0.1}, "temperatur: unknown parameter .did you mean 'temperature'"),
        ({"seeds": 0}, "seeds: expected at least 1"),
        ({"seeds": "3"}, "seeds: expected int"),
        ({"max_seconds": -1.0}, "max_seconds: expected a number of at least 0"),
        ({"by_method": {"cee": {}}}, "by_method: 'cee' is unknown"),
        ({"by_method": {"ce": {"epoch": 3}}}, "epoch: unknown parameter .did you mean 'epochs'"),
        ({"by_method": {"simclr": {"temperature": 0}}}, "temperature: "),
        ({"by_method": {"simclr": {"method": "ce"}}}, "method: unknown parameter"),
    ],
)
def test_bad_parameters_are_named(parameters, message):
    with pytest.raises(ValueError, match=message):
        check_parameters(parameters)


@pytest.mark.parametrize("preset", presets())
def test_presets_are_valid_for_every_method(preset):
    for length in ("paper", "quick"):
        check_parameters(read_presets(preset_files(preset, length)))


def test_presets_explain_themselves_and_hold_no_text_numbers():
    for path in [*PRESETS.glob("*.yaml"), *LENGTHS.glob("*.yaml")]:
        assert path.read_text().startswith("# ")
        assert not re.search(r"\d[eE]-?\d", path.read_text())  # YAML would read text


def test_the_cifar_presets_are_the_v1_recipe():
    for name in ("cifar10_resnet50", "cifar100_resnet50", "cifar10_resnet18", "cifar100_resnet18"):
        made = make_configs(read_presets(preset_files(name)) | {"method": "genscl_mix_kd"})[0]
        assert name == f"{made.dataset}_{made.arch}"
        assert (made.epochs, made.batch_size, made.learning_rate) == (500, 1024, 0.5)
        assert (made.warmup_epochs, made.warmup_from) == (10, 0.01)
        assert (made.temperature, made.base_temperature, made.weight_decay, made.sgd_momentum) == (
            0.1,
            0.07,
            1e-4,
            0.9,
        )
        assert (made.probe_epochs, made.probe_batch_size, made.probe_learning_rate) == (
            100,
            512,
            5.0,
        )
        assert (made.mixing, made.mix_alpha, made.mix_per_image, made.latent_dim) == (
            "mixup_cutmix",
            1.0,
            False,
            128,
        )


def test_the_digits_preset_is_the_default():
    """So that notebook 07 by hand is a run of the table."""
    assert make_configs(yaml.safe_load((PRESETS / "digits.yaml").read_text()))[0] == TrainConfig()


def test_the_parameters_cell_is_the_configuration():
    """Names, types, defaults and explanations of notebook 07 are those of TrainConfig."""
    notebook = nbformat.read(NOTEBOOKS / "07_train.ipynb", 4)
    [cell] = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    found = {}
    for line in cell.source.splitlines():
        statement, comment = line.split("  # ")
        node = ast.parse(statement).body[0]
        found[node.target.id] = (node.annotation.id, ast.literal_eval(node.value), comment)
    assert list(found) == [*PARAMETERS, *RUN_PARAMETERS]
    source = open(config.__file__).read()
    for name, field in PARAMETERS.items():
        assert found[name][:2] == (field.type.__name__, field.default)
        assert f"  # {found[name][2]}" in source
    for name, kind in RUN_PARAMETERS.items():
        assert found[name][0] == kind.__name__


def test_every_number_of_the_config_has_a_range():
    wrong = {int: (-1,), float: (-0.5, math.nan, math.inf)}
    for name, field in PARAMETERS.items():
        for value in wrong.get(field.type, ()):
            with pytest.raises(
                ValueError, match=f"^{name}: expected a number (above|of at least) 0, got "
            ):
                TrainConfig(**{name: value})


def test_rows_of_the_table():
    assert list(METHODS) == [
        "teacher",
        "expert",
        "ce",
        "ce_mix",
        "ce_mix_kd",
        "simclr",
        "supcon",
        "supcon_mix",
        "genscl_kd",
        "genscl_mix",
        "genscl_mix_queue",
        "genscl_mix_kd",
        "genscl_mix_kd_expert",
        "genscl_mix_kd_queue",
        "genscl_mix_kd_queue_m0",
    ]
