import dataclasses
import math

import pytest

from genscl_lite.train.config import PARAMETERS, TrainConfig
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
        (dict(warmup_epochs=200), "warmup_epochs: expected fewer than the 80 epochs"),
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
        "ce_mix_kd_expert",
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
