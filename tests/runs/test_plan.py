import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from genscl_lite.datasets import load_data
from genscl_lite.datasets.builtin import data_root
from genscl_lite.datasets.files import as_path, read_json
from genscl_lite.datasets.images import ImageFiles
from genscl_lite.runs.paths import LENGTHS, PRESETS
from genscl_lite.runs.plan import plan, presets, read_preset
from genscl_lite.runs.request import make_parser, parse_parameter, read_requests
from genscl_lite.runs.tables import read_summaries
from genscl_lite.runs.train import main as train
from genscl_lite.runs.trained import Encoder
from genscl_lite.train.config import TrainConfig, read_config
from genscl_lite.train.loop import pretrain
from genscl_lite.train.methods import METHODS
from genscl_lite.train.run_folder import is_finished
from genscl_lite.train.teachers import load_teacher
from tests.folders import make_digit_folder


@pytest.fixture
def planned(tmp_path):
    """Plan rows of a preset that says this, in runs/mine."""

    def of(preset, *methods, **words):
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"epochs": 20} | preset))
        return plan(str(tmp_path / "mine.yaml"), methods=methods, out=tmp_path, **words)

    return of


def requested(*words):
    return read_requests(make_parser("", "").parse_args(words))


def test_a_preset_with_a_teacher_row_trains_one_teacher_for_all_seeds(planned, tmp_path):
    by_method = {"teacher": {"arch": "resnet18", "views": 1, "ema": 0.9}}
    preset = {"by_method": by_method, "labels_per_class": 0, "seeds": 3}
    teacher, supcon, kd = planned(preset, "genscl_kd", "supcon")
    assert [job.method for job in (teacher, supcon, kd)] == ["teacher", "supcon", "genscl_kd"]
    assert (teacher.teacher, supcon.teacher, kd.teacher) == (None, None, teacher)
    assert [len(job.configs) for job in (teacher, supcon, kd)] == [1, 3, 3]
    config = teacher.configs[0]
    assert (config.arch, config.views, config.ema) == ("resnet18", 1, 0.9)
    assert kd.configs[0].teacher == str(tmp_path / "teacher") and supcon.configs[0].teacher == ""
    with_few_labels = planned({"by_method": by_method, "seeds": 3}, "genscl_kd")
    assert len(with_few_labels[0].configs) == 3
    without = [job.method for job in planned({})]
    missing = {"teacher", "expert", "ce_mix_kd_expert", "genscl_mix_kd_expert"}
    assert without[0] == "ce_mix" and METHODS.keys() - without == missing


def test_an_expert_is_trained_once_with_all_labels_and_teaches_its_rows_alone(planned):
    rows = ["genscl_kd", "genscl_mix_kd_expert"]
    preset = {"methods": rows, "by_method": {"expert": {"views": 1}}, "seeds": 3}
    expert, ce_mix, kd, kd_expert = planned(preset)
    assert (expert.method, ce_mix.method) == ("expert", "ce_mix")
    assert (kd.teacher, kd_expert.teacher) == (ce_mix, expert)
    assert [len(job.configs) for job in (expert, ce_mix, kd, kd_expert)] == [1, 3, 3, 3]
    labels = [job.configs[0].labels_per_class for job in (expert, ce_mix, kd, kd_expert)]
    assert labels == [0, 10, 10, 10] and expert.configs[0].views == 1


def test_a_given_teacher_needs_no_row(planned):
    given = "torchvision/resnet50@IMAGENET1K_V2"
    [job] = planned({"teacher": given}, "genscl_kd")
    assert job.teacher == job.configs[0].teacher == given
    with pytest.raises(ValueError, match="^teacher: there is no file or folder 'nowhere'$"):
        planned({}, "genscl_kd", overrides={"teacher": "nowhere"})


def test_an_override_counts_more_than_what_a_preset_says_of_a_method(planned):
    preset = {"by_method": {"ce": {"learning_rate": 0.8, "min_accuracy": 0.5}}, "min_accuracy": 0.9}
    [ce] = planned(preset, "ce")
    assert (ce.configs[0].learning_rate, ce.min_accuracy) == (0.8, 0.5)
    [ce] = planned(
        preset, "ce", overrides={"learning_rate": 0.3, "min_accuracy": 0.1, "seed": 4}, seeds=2
    )
    assert [(c.seed, c.learning_rate) for c in ce.configs] == [(4, 0.3), (5, 0.3)]
    assert ce.min_accuracy == 0.1


@pytest.mark.parametrize(
    "preset, message",
    [
        ({"temperatur": 0.1}, "preset: 'temperatur' is no parameter .did you mean 'temperature'"),
        ({"method": "ce"}, "preset: 'method' is no parameter .did you mean 'methods'"),
        ({"seeds": 0, "methods": ["ce"]}, "seeds: expected at least 1, got 0"),
        ({"seeds": "3"}, "seeds: expected int"),
        ({"methods": ["cee"]}, "methods: 'cee' is unknown"),
        ({"min_accuracy": 2.0}, "min_accuracy: expected a fraction from 0 to 1"),
        ({"data_root": "nowhere"}, "data_root: there is no folder 'nowhere'"),
        ({"by_method": {"cee": {}}}, "by_method: 'cee' is unknown"),
        ({"by_method": {"ce": {"epoch": 3}}}, "by_method, ce: 'epoch' is no parameter .did you"),
        ({"by_method": {"simclr": {"temperature": 0}}}, "temperature: expected a number above 0"),
        (
            {"by_method": {"simclr": {"method": "ce"}}},
            "by_method, simclr: 'method' is no parameter",
        ),
    ],
)
def test_bad_parameters_of_a_preset_are_named(preset, message, planned):
    with pytest.raises(ValueError, match=f"^{message}"):
        planned(preset)


def test_presets_are_valid_for_every_method_also_when_they_are_shortened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("genscl_lite.runs.plan.check_teacher", lambda name: None)
    only = [word for method in METHODS for word in ("--only", method)]
    for preset in presets():
        for length in ("paper", "quick"):
            [request] = requested(preset, "--length", length, *only)
            assert len(request.jobs) == len(METHODS)
            assert request.jobs[0].configs[0].epochs == 50 or length == "paper"


def test_presets_explain_themselves_and_hold_no_text_numbers():
    for path in [*PRESETS.glob("*.yaml"), *LENGTHS.glob("*.yaml")]:
        assert path.read_text().startswith("# ")
        assert not re.search(r"\d[eE]-?\d", path.read_text())  # YAML would read text


def test_the_cifar_presets_are_the_v1_recipe():
    expected = {
        "epochs": 500, "batch_size": 1024, "learning_rate": 0.5, "warmup_epochs": 10, "warmup_from": 0.01,
        "temperature": 0.1, "base_temperature": 0.07, "weight_decay": 1e-4, "sgd_momentum": 0.9,
        "probe_epochs": 100, "probe_batch_size": 512, "probe_learning_rate": 5.0, "mixing": "mixup_cutmix",
        "mix_alpha": 1.0, "mix_per_image": False, "latent_dim": 128,
    }  # fmt: skip
    for name in ("cifar10_resnet50", "cifar100_resnet50", "cifar10_resnet18", "cifar100_resnet18"):
        made = plan(name, methods=["genscl_mix_kd"])[-1].configs[0]
        assert name == f"{made.dataset}_{made.arch}" and expected.items() <= vars(made).items()


def test_the_digits_preset_is_the_default():
    assert plan("digits", methods=["genscl_mix"])[0].configs[0] == TrainConfig()


def test_quick_is_the_same_recipe_in_fewer_epochs():
    paper, quick = (
        requested("cifar10_resnet18", "--length", length, "--only", "supcon")[0].jobs[0].configs[0]
        for length in ("paper", "quick")
    )
    changed = {name for name in vars(paper) if getattr(paper, name) != getattr(quick, name)}
    assert changed == {"epochs", "warmup_epochs", "probe_epochs", "eval_every"}


def test_variations_are_planned_in_folders_of_their_own():
    short, own = requested("cifar10_small", "--vary", "epochs=20,80", "--seeds", "2")
    assert [str(r.out) for r in (short, own)] == [
        "runs/cifar10_small_epochs20",
        "runs/cifar10_small",
    ]
    for request, epochs in ((short, 20), (own, 80)):
        assert [job.method for job in request.jobs] == ["ce", "ce_mix", "supcon", "genscl_mix"]
        found = {(config.epochs, config.seed) for job in request.jobs for config in job.configs}
        assert found == {(epochs, 0), (epochs, 1)}
    assert [request.jobs[0].min_accuracy for request in (short, own)] == [0.0, 0.3]


def test_a_variation_holds_for_rows_that_the_preset_sets_apart():
    """Of ``cifar10_small`` GenSCL has learning rate 0.05, classifiers and SupCon 0.1."""
    requests = requested("cifar10_small", "--vary", "learning_rate=0.05,0.1")
    for request, rate in zip(requests, (0.05, 0.1), strict=True):
        assert request.out.name == f"cifar10_small_learning_rate{rate}"
        assert {config.learning_rate for job in request.jobs for config in job.configs} == {rate}
    (own,) = requested("cifar10_small", "--vary", "learning_rate=0.05", "--only", "genscl_mix")
    assert own.out.name == "cifar10_small"


def test_no_least_accuracy_of_a_method_holds_for_a_variation():
    (request,) = requested("digits", "--vary", "label_noise=0.4", "--only", "simclr")
    [job] = request.jobs
    assert (job.min_accuracy, job.configs[0].label_noise) == (0.0, 0.4)
    assert request.out.name == "digits_label_noise0.4"


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("20,40", "vary: expected a parameter and its values, as in epochs=20,40,80; got '20,40'"),
        ("epochs=", "vary: expected a parameter and its values"),
        ("method=ce,supcon", "vary: expected a parameter and its values"),
        ("epoch=20", "vary: expected a parameter and its values"),
        ("weights=runs/a", "vary: weights=runs/a cannot stand in a folder's name"),
        ("epochs=20,x", "epochs: expected int, got 'x'"),
        ("epochs=20,0", "epochs: expected a number above 0, got 0"),
    ],
)
def test_what_cannot_be_varied_is_one_line(words, problem):
    with pytest.raises(ValueError, match=problem):
        requested("cifar10_small", "--vary", words)


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
        tmp_path / run[2:], read_config(read_json(f"{run}/config.json"))
    )
    assert Encoder.load(run).predict(
        ["~/photos/val/one/" + sorted(os.listdir(tmp_path / "photos/val/one"))[0]]
    )
    data = load_data(TrainConfig(**read_json(f"{run}/config.json")), "~/photos")
    assert (data.train_distributions == 0.5).all() and len(read_summaries("~/runs")) == 1
    about = {"method": "genscl_kd", "teacher": "~/runs/ce_mix"}
    kd = TrainConfig(**read_json(f"{run}/config.json") | about)
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
    assert load_teacher(replace(kd, teacher="~/soft.csv"), data).shape == (4, 2)


def test_presets_of_any_editor_are_read(tmp_path):
    path = tmp_path / "a.yaml"
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        path.write_text("# caf\xe9\nepochs: 3\n", encoding=encoding)
        assert read_preset(str(path)) == {"epochs": 3}
    path.write_text("# caf\xe9\nepochs: 3\n", encoding="cp1252")
    with pytest.raises(ValueError, match="^preset: .*a.yaml is not YAML: [^\n]*$"):
        read_preset(str(path))


def test_the_same_folder_in_other_words_is_the_same(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outs = Path("runs/a"), tmp_path / "runs" / "a", Path("./runs/a")
    jobs = [plan("digits", methods=["genscl_kd"], out=out)[-1] for out in outs]
    assert len({job.configs[0].teacher for job in jobs}) == 1
