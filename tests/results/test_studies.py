"""Each study beside the results runs, can be stopped and goes on, and says what its table holds."""

import dataclasses
import importlib
import json
import math

import pandas as pd
import pytest
import torch

from genscl_lite.datasets import load_dataset
from genscl_lite.runs.finish import finish_run
from genscl_lite.train.augment import as_unit_float
from genscl_lite.train.loop import pretrain
from genscl_lite.train.state import new_run


def run_twice(script, words, out, capsys):
    """Run a study, then once more: nothing is done again. Return its table."""
    assert script.main([*words, "--out", str(out)]) == 0
    first = out.read_bytes()
    assert capsys.readouterr().out
    assert script.main([*words, "--out", str(out)]) == 0
    assert out.read_bytes() == first and not capsys.readouterr().out
    tries = pd.read_csv(out)
    assert (tries.cpu_seconds >= 0).all() and tries.machine.notna().all()
    assert all(isinstance(json.loads(config), dict) for config in tries.config)
    return tries


def test_validation_images_are_training_images_without_a_label_in_the_run(study):
    study("studies")
    studies = importlib.import_module("studies")
    whole, run = load_dataset("digits"), load_dataset("digits", labels_per_class=3, seed=1)
    few = studies.validation_split(3, 1, None, "digits")
    everything = studies.validation_split(0, 1, None, "digits")
    assert torch.equal(few.train_images, run.train_images)
    assert len(everything.train_images) + len(everything.test_images) == len(whole.train_images)
    for split in (few, everything):
        train, test = ({image.numpy().tobytes() for image in images}
                       for images in (split.train_images, split.test_images))  # fmt: skip
        known = {image.numpy().tobytes() for image in whole.train_images}
        assert not train & test and test <= known and len(test) > 100


def test_settled_statistics_are_those_of_the_whole_images(study, digits):
    study("studies")
    model = torch.nn.Sequential(torch.nn.BatchNorm2d(1), torch.nn.Flatten())
    importlib.import_module("studies").settle_batch_norm(model, digits, chunk=15)
    images = digits.normalize(as_unit_float(digits.train_images))
    assert torch.allclose(model[0].running_mean, images.mean(dim=(0, 2, 3)), atol=1e-5)
    assert torch.allclose(model[0].running_var, images.var(dim=(0, 2, 3)), atol=0.03)


def test_operations_of_a_step_are_those_of_its_products(study, quick, digits):
    """Of a linear classifier: three products of (M, F) and (F, C); a multiplication with an addition is two."""
    study("studies")
    studies = importlib.import_module("studies")
    config = quick("ce", arch="resnet_small", optimizer="sgd")
    wide = dataclasses.replace(digits, class_names=tuple(map(str, range(20))))
    more = studies.step_flops(config, wide) - studies.step_flops(config, digits)
    assert more == 3 * 2 * (2 * 12) * 64 * 10  # ten classes more, of 24 rows with 64 features
    assert studies.steps_of_epoch(config, digits) == 3
    alone = studies.step_flops(quick("genscl_mix"), digits)
    queued = studies.step_flops(quick("genscl_mix_queue"), digits)
    assert 0.5 < queued / alone < 0.8  # half the rows forward and backward, the other half forward


def test_parts_of_the_network_are_removed(study, photographs):
    ablation = study("ablation")
    networks = {
        part: ablation.network_without(part, "whitened_small", photographs, seed=0)
        for part in (ablation.WHOLE, *ablation.BUILT)
    }
    whole, images = networks.pop(ablation.WHOLE), torch.rand(4, 3, 32, 32)
    assert not whole[0].state_dict()["weight"].requires_grad and whole[1](torch.tensor(-1.0)) < 0
    learned = networks["frozen_whitening"][0].weight
    assert isinstance(learned, torch.nn.Parameter) and torch.equal(learned.data, whole[0].weight)
    assert len(networks["both_signs"][0].weight) == len(whole[0].weight) // 2
    assert not torch.equal(networks["whitening"][0].weight.data, whole[0].weight)
    assert networks["gelu"][1](torch.tensor(-1.0)) == 0
    for network in networks.values():  # and each is another network than the whole
        assert network(images).shape == (4, 96)
    scales = [layer.weight.requires_grad for layer in networks["batch_norm_without_scale"]
              if isinstance(layer, torch.nn.BatchNorm2d)]  # fmt: skip
    assert scales == [True] * 6
    a, b = (ablation.convolutions(network)[1].weight for network in (whole, networks["dirac"]))
    assert (a.flatten(1) == 1).any(dim=1).all() and not (b.flatten(1) == 1).any()


def test_the_ablation_runs(study, photographs, recipe, tmp_path, capsys):
    ablation = study("ablation")
    parts = (ablation.WHOLE, "gelu", "muon")
    words = ["--epochs", "2", "--seeds", "1", "--preset", recipe]
    words += [word for part in parts for word in ("--only", part)]
    tries = run_twice(ablation, words, tmp_path / "ablation.csv", capsys)
    assert len(tries) == len(parts) * 2 and tries.settled_accuracy.between(0, 1).all()
    text = ablation.render(tmp_path / "ablation.csv")
    assert "| gelu | SupCon |" in text and "statistics of whole images" in text


def test_time_to_accuracy_runs_and_goes_on(
    study, photographs, recipe, tmp_path, capsys, monkeypatch
):
    script = study("time_to_accuracy")
    monkeypatch.setattr(script, "RECIPES", {500: {"recipe": (recipe, {}, (3,)), "SupContrast's": (recipe, script.SUPCONTRAST, (2,))}})  # fmt: skip
    words = ["--runs", str(tmp_path / "runs")]
    out = tmp_path / "time_to_accuracy.csv"
    tries = run_twice(script, words, out, capsys)
    assert tries.groupby(["recipe", "method"]).epoch.apply(list).to_dict() == {
        (recipe, method): list(range(1, epochs + 1))
        for recipe, epochs in (("recipe", 3), ("SupContrast's", 2))
        for method in script.METHODS_TRIED
    }
    assert (tries.pflop > 0).all()
    lines = out.read_text().splitlines(keepends=True)
    out.write_text(
        "".join(lines[:2])
    )  # stopped after the first epoch: its run is finished, its lines are not
    assert script.main([*words, "--out", str(out)]) == 0
    again = pd.read_csv(out)
    assert len(again) >= 5  # the last line of the finished runs is there again
    script.draw(out, tmp_path / "time.png")
    assert (tmp_path / "time.png").stat().st_size > 0
    assert "| 500 | present recipe | SupCon |" in script.render(out)


def test_the_least_of_all_lengths_counts(study):
    script = study("time_to_accuracy")
    tries = pd.DataFrame(
        [(500, "a", "supcon", epochs, seed, epoch, accuracy, pflop, 10 * pflop)
         for epochs, seed, epoch, accuracy, pflop in ((10, 0, 5, 0.6, 1.0), (10, 0, 10, 0.76, 2.0), (20, 0, 10, 0.7, 3.0),
                                                      (20, 0, 20, 0.81, 4.0), (10, 1, 10, 0.72, 4.0))],
        columns=["labels_per_class", "recipe", "method", "epochs", "seed", "epoch", "accuracy", "pflop", "cpu_seconds"],
    )  # fmt: skip
    found = script.times(tries).set_index("threshold")
    assert found.pflop.to_dict() == {0.7: 3.0, 0.75: 2.0, 0.8: 4.0}
    assert found.seeds.to_dict() == {0.7: 2, 0.75: 1, 0.8: 1} and found.cpu_seconds[0.8] == 40


def test_what_a_recipe_saves_is_counted_at_the_best_that_another_reaches(study):
    script = study("time_to_accuracy")
    tries = pd.DataFrame(
        [(500, recipe, "supcon", 10, 0, epoch, accuracy, pflop, 10 * pflop)
         for recipe, epoch, accuracy, pflop in (("recipe", 5, 0.6, 1.0), ("recipe", 10, 0.7, 2.0), ("slow", 5, 0.5, 3.0),
                                                ("slow", 10, 0.65, 6.0), ("good", 10, 0.71, 6.0))],
        columns=["labels_per_class", "recipe", "method", "epochs", "seed", "epoch", "accuracy", "pflop", "cpu_seconds"],
    )  # fmt: skip
    slow, good = script.saving_lines(tries)
    assert "slow reaches 65.0 % at best (epoch 10 of 10, 6 PFLOP, 60 s)" in slow
    assert "after 2 PFLOP and 20 s, 3.0 times fewer operations" in slow
    assert good.endswith(
        "good reaches 71.0 % at best (epoch 10 of 10, 6 PFLOP, 60 s); the present one does not reach that here."
    )


def test_the_autopsy_of_the_queue_runs(study, photographs, recipe, tmp_path, capsys):
    script = study("queue_autopsy")
    words = ["--epochs", "2", "--seeds", "1", "--preset", recipe]
    words += [word for number in ("0", "1", "6", "14") for word in ("--try", number)]
    tries = run_twice(script, words, tmp_path / "queue.csv", capsys)
    alone, queued = tries[tries.method == "genscl_mix"], tries[tries.method != "genscl_mix"]
    assert alone.epochs.tolist() == [2] and queued.epochs.tolist() == [3] * 3
    assert queued.pflop.tolist() == pytest.approx([alone.pflop.item()] * 3, rel=0.2)
    curves = pd.read_csv(tmp_path / "queue_curves.csv")
    assert len(curves) == 2 + 3 * 3
    keys = 12 + 20  # of the batch, and of the queue
    assert curves.chance.iloc[-1] == pytest.approx(math.log(keys), rel=1e-3)
    assert "queue, key statistics running, momentum 0.0" in script.render(tmp_path / "queue.csv")


def test_averages_forget_as_fast_as_asked(study, photographs, recipe):
    script = study("queue_autopsy")
    changes = json.dumps({"key_statistics": "running", script.MEMORY: 0.3})
    [run] = script.runs_of(
        dict(zip(script.KEY, (recipe, script.QUEUED, changes, 1, 0), strict=True)), photographs
    )
    for model in (run.model, run.key_encoder.encoder):
        momenta = {layer.momentum for layer in model.encoder.modules() if isinstance(layer, torch.nn.BatchNorm2d)}  # fmt: skip
        assert momenta == {0.3}


def test_a_queue_begins_where_a_run_without_one_ended(study, photographs, recipe, monkeypatch):
    """With its encoder and its head, and both together with the operations of the run without a queue."""
    script = study("queue_autopsy")
    train, begun = script.studies.train, []

    def seen(config, dataset, **options):
        begun.append(new_run(config, dataset, None, torch.device("cpu")).model)
        return train(config, dataset, **options)

    monkeypatch.setattr(script.studies, "train", seen)
    changes = json.dumps({script.WITHOUT: 0.5})
    key = dict(zip(script.KEY, (recipe, script.QUEUED, changes, 4, 0), strict=True))
    first, queued = script.runs_of(key, photographs)
    assert (first.config.method, first.config.epochs) == (script.ALONE, 2)
    assert queued.config.method == script.QUEUED
    whole = dataclasses.replace(first.config, epochs=4)
    parts = first.config, dataclasses.replace(queued.config, weights="")  # whose folder is gone
    flops = [script.studies.flops(config, photographs) for config in (whole, *parts)]
    assert sum(flops[1:]) == pytest.approx(flops[0], rel=0.2)
    for name, value in first.model.state_dict().items():
        assert torch.equal(begun[1].state_dict()[name], value), name
    assert (script.QUEUED, {script.WITHOUT: 0.25}) in script.TRIES


def test_chance_is_left_when_the_loss_stays_below(study):
    left = study("queue_autopsy").left_chance
    log = [
        {"epoch": k + 1, "loss": loss, "chance": 2.0}
        for k, loss in enumerate((2.1, 1.9, 2.0, 1.9, 1.8))
    ]
    assert left(log) == 4 and left(log[:3]) is None and left(log[3:]) == 4


@pytest.fixture
def classes_left_out(study, photographs, monkeypatch):
    """Ten digits in three superclasses, one class of each left out."""
    script = study("superclasses")
    monkeypatch.setattr(script, "coarse_labels", lambda root: [k // 4 for k in range(10)])
    load = importlib.import_module("studies").validation_split
    data = dataclasses.replace(photographs, name="cifar100")
    monkeypatch.setattr(
        importlib.import_module("studies"), "validation_split", lambda *_, **__: data
    )
    assert load(3, 0, None) is photographs
    return script


def test_one_class_of_each_superclass_is_never_seen(classes_left_out, photographs):
    data = classes_left_out.split(3, 0, None, test=False)
    unseen = set(data.unseen_labels.tolist())
    assert data.groups.tolist() == [0, 0, 0, 1, 1, 1, 2] and len(unseen) == 3
    assert {k // 4 for k in unseen} == {0, 1, 2}
    names = [int(name) for name in data.dataset.class_names]
    assert sorted([*names, *unseen]) == list(range(10))
    seen = [names[k] for k in data.dataset.train_labels.tolist()]
    assert seen == [k for k in photographs.train_labels.tolist() if k in names]


def test_cross_entropy_gets_the_shares_that_the_similarity_asks_for(study):
    loss = study("superclasses").loss_of("ce_soft", 0.3, torch.tensor([0, 0, 1, 1]))
    logits, labels = torch.randn(1, 4), torch.tensor([[0.0, 1.0, 0.0, 0.0]])
    shares = torch.tensor([0.3 / 1.3, 1 / 1.3, 0, 0])
    assert torch.isclose(loss(logits, labels, 0.1), -(shares * logits.log_softmax(dim=1)).sum())


def test_superclasses_run(classes_left_out, recipe, tmp_path, capsys):
    words = ["--epochs", "2", "--preset", recipe, "--labels-per-class", "3", "--within", "0.3"]
    preset = tmp_path / "hundred.yaml"
    preset.write_text((tmp_path / "tiny.yaml").read_text().replace("cifar10", "cifar100"))
    words[3] = str(preset)
    tries = run_twice(classes_left_out, words, tmp_path / "superclasses.csv", capsys)
    assert (
        len(tries) == 4 * 2
        and tries.severity.between(1, 2).all()
        and (tries.coarse >= tries.fine).all()
    )
    by_row = tries[tries.mixing == 0].set_index("row").fine  # the loss is another one
    assert by_row["genscl"] != by_row["supcon"] and by_row["ce_soft"] != by_row["ce"]
    assert tries.latent_map.isna().tolist() == [row.startswith("ce") for row in tries.row]
    text = classes_left_out.render(tmp_path / "superclasses.csv")
    assert "| GenSCL, class similarity | 0.3 | yes |" in text and "On validation images" in text
    assert " minus " not in text  # which are for test images


def test_rows_on_superclasses_are_subtracted_seed_by_seed_at_the_same_similarity(study):
    script = study("superclasses")
    rows = [
        ("supcon", 0.0, 0.3),
        ("ce_soft", 0.1, 0.2),
        ("ce_soft", 0.3, 0.9),
        ("genscl", 0.1, 0.5),
    ]
    tries = pd.DataFrame(
        [dict(zip(script.KEY, ("p", row, within, 0, 20, "test", 80, seed), strict=True))
         | dict.fromkeys(script.SHOWN, value + 0.01 * seed * (row == "genscl"))
         for row, within, value in rows for seed in range(2)]
    )  # fmt: skip
    text = script.differences_table(tries)
    assert (
        "| GenSCL, class similarity 0.1 minus SupCon | no | 20 | 80 | +20.5 (+14.1 to +26.9) |"
        in text
    )
    assert (
        "| GenSCL, class similarity 0.1 minus CE on the same shares | no | 20 | 80 | +30.5 ("
        in text
    )
    assert len(text.splitlines()) == 2 + 2


def test_options_of_the_loss_are_tried_on_frozen_features(
    study, quick, digits, tmp_path, capsys, monkeypatch
):
    script = study("frozen")
    folder = tmp_path / "seed0"
    finish_run(pretrain(quick("genscl_mix"), digits, folder, device="cpu"), digits, folder)
    tries = script.tries()
    assert len(tries) == 6 * 6 + 2 + 2 + 1 and tries[0]["temperature"] == 0.1
    softer = tries[0] | {"teacher_temperature": 4.0}
    monkeypatch.setattr(script, "tries", lambda: [tries[0], softer, tries[0] | {"head": "linear"}])
    words = [str(folder), "--seeds", "2", "--steps", "5"]
    found = run_twice(script, words, tmp_path / "frozen.csv", capsys)
    assert (
        len(found) == 6
        and found.accuracy.between(0.2, 1).all()
        and (found.share_of_the_way < 1).all()
    )
    assert "| teacher temperature | 4.0 |" in script.render(tmp_path / "frozen.csv")
    script.draw(tmp_path / "frozen.csv", tmp_path / "frozen.png")
    assert (tmp_path / "frozen.png").stat().st_size > 0


def test_tuning_writes_the_columns_it_always_had(study, photographs, recipe, tmp_path, monkeypatch):
    tune = study("tune")
    monkeypatch.setattr(tune, "TABLE", tmp_path / "tuning.csv")
    config = importlib.import_module("studies").settings("supcon", {}, 1, 0, recipe)
    key = dict(zip(tune.KEY, ("supcon", "{}", 1, 0), strict=True))
    tune.table().add(key | tune.try_out(config, photographs))
    head = (tmp_path / "tuning.csv").read_text().splitlines()[0]
    assert (
        head
        == "family,changes,epochs,seed,accuracy,knn_accuracy,head_accuracy,loss,cpu_seconds,machine"
    )
    assert tune.table().has(key) and not tune.table().has(key | {"seed": 1})
