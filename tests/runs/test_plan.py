from pathlib import Path

import pytest

from genscl_lite.runs.plan import make_parser, plan, preset_files, read_presets, read_requests, relative
from genscl_lite.train.config import make_configs
from genscl_lite.train.methods import METHODS


def test_a_preset_with_a_teacher_row_trains_one_teacher_for_all_seeds(tmp_path):
    by_method = {"teacher": {"arch": "resnet18", "views": 1, "ema": 0.9}}
    parameters = {"by_method": by_method, "labels_per_class": 0, "seeds": 3, "epochs": 20}
    jobs = plan(parameters, tmp_path, ["genscl_kd", "supcon"])
    assert [job.method for job in jobs] == ["teacher", "supcon", "genscl_kd"]
    assert [job.learns_from(jobs[0]) for job in jobs] == [False, False, True]
    configs = [make_configs(job.parameters) for job in jobs]
    assert [len(seeds) for seeds in configs] == [1, 3, 3]
    assert (configs[0][0].arch, configs[0][0].views, configs[0][0].ema) == ("resnet18", 1, 0.9)
    assert configs[2][0].teacher == str(tmp_path / "teacher") and configs[2][0].arch == "resnet_small"
    with_few_labels = plan({"by_method": by_method, "seeds": 3, "epochs": 20}, tmp_path, ["genscl_kd"])
    assert len(make_configs(with_few_labels[0].parameters)) == 3
    without = [job.method for job in plan({"epochs": 20}, tmp_path, [])]
    assert without[0] == "ce_mix" and METHODS.keys() - without == {"teacher", "expert", "genscl_mix_kd_expert"}


def test_an_expert_is_trained_once_with_all_labels_and_teaches_its_rows_alone(tmp_path):
    by_method = {"expert": {"views": 1}}
    parameters = {"methods": ["genscl_kd", "genscl_mix_kd_expert"], "by_method": by_method, "seeds": 3, "epochs": 20}
    jobs = plan(parameters, tmp_path, [])
    assert [job.method for job in jobs] == ["expert", "ce_mix", "genscl_kd", "genscl_mix_kd_expert"]
    configs = [make_configs(job.parameters) for job in jobs]
    assert [len(seeds) for seeds in configs] == [1, 3, 3, 3]
    assert [seeds[0].labels_per_class for seeds in configs] == [0, 10, 10, 10] and configs[0][0].views == 1
    assert [[job.learns_from(other) for other in jobs[:2]] for job in jobs[2:]] == [[False, True], [True, False]]


def test_lengths_are_planned_in_folders_of_their_own():
    options = make_parser("", "").parse_args(["cifar10_small", "--lengths", "20,80", "--seeds", "2"])
    short, own = read_requests(options)
    assert short.out == Path("runs/cifar10_small_20epochs") and own.out == Path("runs/cifar10_small")
    for request, epochs in ((short, 20), (own, 80)):
        assert [job.method for job in request.jobs] == ["ce", "ce_mix", "supcon", "genscl_mix"]
        assert {(config.epochs, config.seed) for job in request.jobs for config in make_configs(job.parameters)} == {
            (epochs, 0), (epochs, 1)}
    with pytest.raises(ValueError, match="lengths: expected numbers of epochs as in 20,40,80, got '20,x'"):
        read_requests(make_parser("", "").parse_args(["cifar10_small", "--lengths", "20,x"]))


def test_a_given_teacher_needs_no_row(tmp_path):
    given = "torchvision/resnet50@IMAGENET1K_V2"
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


def test_the_same_folder_in_other_words_is_the_same(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    jobs = [
        plan({}, relative(out), ["genscl_kd"])[-1]
        for out in (Path("runs/a"), tmp_path / "runs" / "a", Path("./runs/a"))
    ]
    assert len({job.parameters["teacher"] for job in jobs}) == 1
