import os
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from genscl_lite.datasets import load_data
from genscl_lite.datasets.builtin import data_root
from genscl_lite.datasets.files import as_path, read_json
from genscl_lite.datasets.images import ImageFiles
from genscl_lite.runs.plan import (
    make_parser,
    parse_parameter,
    plan,
    preset_files,
    read_presets,
    read_requests,
    relative,
)
from genscl_lite.runs.seeds import main as train
from genscl_lite.runs.tables import read_summaries
from genscl_lite.runs.trained import Encoder
from genscl_lite.train.config import TrainConfig, make_configs, min_accuracy
from genscl_lite.train.loop import pretrain
from genscl_lite.train.methods import METHODS
from genscl_lite.train.run_folder import is_finished
from genscl_lite.train.teachers import load_teacher, read_teacher_table
from tests.folders import make_digit_folder


def test_a_preset_with_a_teacher_row_trains_one_teacher_for_all_seeds(tmp_path):
    by_method = {"teacher": {"arch": "resnet18", "views": 1, "ema": 0.9}}
    parameters = {"by_method": by_method, "labels_per_class": 0, "seeds": 3, "epochs": 20}
    jobs = plan(parameters, tmp_path, ["genscl_kd", "supcon"])
    assert [job.method for job in jobs] == ["teacher", "supcon", "genscl_kd"]
    assert [job.learns_from(jobs[0]) for job in jobs] == [False, False, True]
    configs = [make_configs(job.parameters) for job in jobs]
    assert [len(seeds) for seeds in configs] == [1, 3, 3]
    assert (configs[0][0].arch, configs[0][0].views, configs[0][0].ema) == ("resnet18", 1, 0.9)
    assert (
        configs[2][0].teacher == str(tmp_path / "teacher") and configs[2][0].arch == "resnet_small"
    )
    with_few_labels = plan(
        {"by_method": by_method, "seeds": 3, "epochs": 20}, tmp_path, ["genscl_kd"]
    )
    assert len(make_configs(with_few_labels[0].parameters)) == 3
    without = [job.method for job in plan({"epochs": 20}, tmp_path, [])]
    assert without[0] == "ce_mix" and METHODS.keys() - without == {
        "teacher",
        "expert",
        "genscl_mix_kd_expert",
    }


def test_an_expert_is_trained_once_with_all_labels_and_teaches_its_rows_alone(tmp_path):
    by_method = {"expert": {"views": 1}}
    parameters = {
        "methods": ["genscl_kd", "genscl_mix_kd_expert"],
        "by_method": by_method,
        "seeds": 3,
        "epochs": 20,
    }
    jobs = plan(parameters, tmp_path, [])
    assert [job.method for job in jobs] == ["expert", "ce_mix", "genscl_kd", "genscl_mix_kd_expert"]
    configs = [make_configs(job.parameters) for job in jobs]
    assert [len(seeds) for seeds in configs] == [1, 3, 3, 3]
    assert [seeds[0].labels_per_class for seeds in configs] == [0, 10, 10, 10] and configs[0][
        0
    ].views == 1
    assert [[job.learns_from(other) for other in jobs[:2]] for job in jobs[2:]] == [
        [False, True],
        [True, False],
    ]


def test_variations_are_planned_in_folders_of_their_own():
    options = make_parser("", "").parse_args(
        ["cifar10_small", "--vary", "epochs=20,80", "--seeds", "2"]
    )
    short, own = read_requests(options)
    assert short.out == Path("runs/cifar10_small_epochs20") and own.out == Path(
        "runs/cifar10_small"
    )
    for request, epochs in ((short, 20), (own, 80)):
        assert [job.method for job in request.jobs] == ["ce", "ce_mix", "supcon", "genscl_mix"]
        assert {
            (config.epochs, config.seed)
            for job in request.jobs
            for config in make_configs(job.parameters)
        } == {(epochs, 0), (epochs, 1)}
    assert [min_accuracy(request.jobs[0].parameters, "ce") for request in (short, own)] == [
        0.0,
        0.3,
    ]


def test_no_floor_of_a_method_holds_for_a_variation():
    (request,) = read_requests(
        make_parser("", "").parse_args(["digits", "--vary", "label_noise=0.4", "--only", "simclr"])
    )
    parameters = request.jobs[0].parameters
    assert (
        min_accuracy(parameters, "simclr") == 0.0 and make_configs(parameters)[0].label_noise == 0.4
    )
    assert request.out.name == "digits_label_noise0.4"


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("20,40", "vary: expected a parameter and its values, as in epochs=20,40,80; got '20,40'"),
        ("epochs=", "vary: expected a parameter and its values"),
        ("method=ce,supcon", "vary: expected a parameter and its values"),
        ("epoch=20", "vary: expected a parameter and its values"),
        ("epochs=20,x", "epochs: expected int, got 'x'"),
        ("epochs=20,0", "epochs: expected a number above 0, got 0"),
    ],
)
def test_what_cannot_be_varied_is_one_line(words, problem):
    with pytest.raises(ValueError, match=problem):
        read_requests(make_parser("", "").parse_args(["cifar10_small", "--vary", words]))


def test_a_given_teacher_needs_no_row(tmp_path):
    given = "timm/resnet50"
    jobs = plan({"epochs": 20, "teacher": given}, tmp_path, ["genscl_kd"])
    assert [job.method for job in jobs] == ["genscl_kd"]
    assert make_configs(jobs[0].parameters)[0].teacher == given


def test_quick_is_the_same_recipe_in_fewer_epochs():
    paper, quick = (
        make_configs(read_presets(preset_files("cifar10_resnet18", length)))[0]
        for length in ("paper", "quick")
    )
    assert paper.epochs == 500 and quick.epochs == 50
    assert {name for name in vars(paper) if getattr(paper, name) != getattr(quick, name)} == {
        "epochs",
        "warmup_epochs",
        "probe_epochs",
        "eval_every",
    }


@pytest.mark.parametrize("words, value", [
    ("data_root=2024", "2024"), ("data_root=010", "010"), ("data_root='2024'", "2024"), ("data_root=my photos #2", "my photos #2"),
    ("data_root=C: new", "C: new"), ("data_root=~", "~"), ("data_root=[a]", "[a]"), ("teacher=null", "null"), ("teacher=", ""),
    ("teacher=1e-3", "1e-3"), ("labels=a=b.csv", "a=b.csv"), ("dataset=on", "on"),
    ("seed=010", 10), ("seed=1_000", 1000), ("seed=1:30", "1:30"), ("seed=0x10", "0x10"), ("epochs=1e3", "1e3"),
    ("learning_rate=1e-3", 0.001), ("learning_rate=010", 10.0), ("min_accuracy=.5", 0.5), ("learning_rate=low", "low"),
    ("balanced=true", True), ("balanced=off", False), ("nonsense=3", 3),
])  # fmt: skip
def test_parameters_are_read_as_people_mean_them(words, value):
    """Text as it stands; numbers are decimal; what is no number goes to the checks of types as it stands."""
    name, read = parse_parameter(words)
    assert name == words.partition("=")[0] and (read, type(read)) == (value, type(value))


def test_paths_begin_with_the_home_folder(tmp_path, monkeypatch):
    """One answer for all of them: folders of data, of runs and of teachers, presets, CSV files, images."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GENSCL_DATA", "~/data")
    assert data_root() == tmp_path / "data" and data_root("~/x") == tmp_path / "x" == as_path(
        tmp_path / "x"
    )
    assert as_path("~nobody-of-this-name/x") == Path("~nobody-of-this-name/x") and as_path(
        "a~b"
    ) == Path("a~b")
    make_digit_folder(
        tmp_path / "photos", per_class=4, classes=2, splits={"train": 0.5, "val": 0.5}
    )
    rows = [
        f"train/{name}/{file.name},0.5,0.5"
        for name in ("one", "zero")
        for file in (tmp_path / "photos/train" / name).iterdir()
    ]
    (tmp_path / "soft.csv").write_text("\n".join(["path,one,zero", *rows]))
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({
        "dataset": "folder", "data_root": "~/photos", "image_size": 16, "labels_per_class": 0, "labels": "~/soft.csv",
        "epochs": 1, "warmup_epochs": 0, "probe_epochs": 1, "batch_size": 4, "seeds": 1}))  # fmt: skip
    assert train(["~/mine.yaml", "--only", "ce_mix", "--out=~/runs"]) == 0
    run = "~/runs/ce_mix/seed0"
    assert (tmp_path / run[2:] / "summary.json").is_file() and is_finished(
        tmp_path / run[2:], read_json(f"{run}/config.json")
    )
    assert Encoder.load(run).predict(
        ["~/photos/val/one/" + sorted(os.listdir(tmp_path / "photos/val/one"))[0]]
    )
    data = load_data(TrainConfig(**read_json(f"{run}/config.json")), "~/photos")
    assert (data.train_distributions == 0.5).all() and len(read_summaries("~/runs")) == 1
    [kd] = make_configs(
        {**read_json(f"{run}/config.json"), "method": "genscl_kd", "teacher": "~/runs/ce_mix"}
    )
    assert (
        load_teacher(kd, data)
        and pretrain(kd, data, "~/again").epoch == 1
        and (tmp_path / "again/checkpoint.pt").is_file()
    )
    assert next(ImageFiles("~/photos", data.train_files, 16, workers=0).split(1)).shape == (
        1,
        3,
        16,
        16,
    )
    assert read_teacher_table(replace(kd, teacher="~/soft.csv"), data).shape == (4, 2)


def test_presets_of_any_editor_are_read(tmp_path):
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        (tmp_path / "a.yaml").write_text("# caf\xe9\nepochs: 3\n", encoding=encoding)
        assert read_presets([tmp_path / "a.yaml"]) == {"epochs": 3}
    (tmp_path / "a.yaml").write_text("# caf\xe9\nepochs: 3\n", encoding="cp1252")
    with pytest.raises(ValueError, match="^preset: .*a.yaml is not YAML: [^\n]*$"):
        read_presets([tmp_path / "a.yaml"])


def test_the_same_folder_in_other_words_is_the_same(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    jobs = [
        plan({}, relative(out), ["genscl_kd"])[-1]
        for out in (Path("runs/a"), tmp_path / "runs" / "a", Path("./runs/a"))
    ]
    assert len({job.parameters["teacher"] for job in jobs}) == 1
