"""What a run begins from. Weights cannot be downloaded here: they lie in a cache of the hub's layout."""

import dataclasses
import json

import huggingface_hub
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from genscl_lite.datasets.files import RunFolderError
from genscl_lite.runs.finish import describe, finish_run
from genscl_lite.runs.job import Job, train_job
from genscl_lite.runs.plan import plan
from genscl_lite.runs.trained import Encoder
from genscl_lite.train.config import TrainConfig
from genscl_lite.train.loop import pretrain
from genscl_lite.train.optimizers import parameter_groups
from genscl_lite.train.run_folder import check_same
from genscl_lite.train.start import load_start, normalized_as_started
from genscl_lite.train.state import kept_parts, new_model, new_run
from genscl_lite.train.teachers import load_teacher
from genscl_lite.train.weights import save_weights

ARCH = "timm/test_resnet.r160_in1k"
CPU = torch.device("cpu")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The hub's cache on this machine, holding weights of ``ARCH``: returns the network and its file."""
    torch.manual_seed(1)
    network = timm.create_model("test_resnet.r160_in1k")
    about = network.pretrained_cfg
    folder = tmp_path / f"models--{about['hf_hub_id'].replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("1" * 40)
    file = folder / "snapshots" / ("1" * 40) / "model.safetensors"
    file.parent.mkdir(parents=True)
    save_file(network.state_dict(), file, {"format": "pt"})
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return network, file


@pytest.fixture
def begun(quick, rgb):
    """Begin a run of color images and return it."""

    def begin(method="supcon", data=rgb, encoder=None, **changes):
        return new_run(quick(method, **{"arch": ARCH} | changes), data, encoder, CPU)

    return begin


def same(module, other):
    states = module.state_dict(), other.state_dict()
    return all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_pretrained_network_begins_with_timms_weights(hub, begun, digits):
    assert same(begun(pretrained=True).model.encoder, hub[0])
    assert not same(begun().model.encoder, hub[0])
    gray = dataclasses.replace(
        digits,
        train_images=digits.train_images.repeat(1, 1, 4, 4),
        test_images=digits.test_images.repeat(1, 1, 4, 4),
    )
    first = begun(pretrained=True, data=gray).model.encoder.conv1[0].weight
    assert torch.allclose(first, hub[0].conv1[0].weight.sum(dim=1, keepdim=True), atol=1e-6)


def test_images_are_normalized_as_the_weights_expect(quick, rgb, digits, tmp_path):
    pretrained = quick(arch="timm/resnet18.tv_in1k", pretrained=True)
    assert normalized_as_started(pretrained, rgb).mean == (0.485, 0.456, 0.406)
    assert normalized_as_started(pretrained, digits).mean == (pytest.approx(0.449),)
    assert normalized_as_started(quick(), rgb) is rgb
    theirs = dataclasses.replace(digits, mean=(0.125,), std=(0.75,))
    run = pretrain(quick("ce", epochs=1, warmup_epochs=0), theirs)
    finish_run(run, theirs, tmp_path)
    again = normalized_as_started(quick(weights=str(tmp_path)), digits)
    assert (again.mean, again.std) == ((0.125,), (0.75,))


@pytest.mark.parametrize("ending", ["safetensors", "bin"])
def test_damaged_weights_in_the_cache_are_named(hub, begun, ending):
    file = hub[1].rename(hub[1].with_name({"bin": "pytorch_model.bin"}.get(ending, hub[1].name)))
    file.write_bytes(bytes(999))
    with pytest.raises(ValueError, match=f"weights of {ARCH}: .*{file.name} is damaged .*; delete"):
        begun(pretrained=True)


def test_weights_that_cannot_be_had_are_one_line(hub, begun):
    hub[1].unlink()
    with pytest.raises(ValueError, match=f"weights of {ARCH}: they could not be loaded"):
        begun(pretrained=True)


def test_a_run_goes_on_from_a_finished_one(quick, digits, tmp_path):
    """From the run, its file and its exported encoder; the head comes along where it says the same."""
    run = pretrain(quick("supcon"), digits, tmp_path / "first" / "seed0")
    finish_run(run, digits, tmp_path / "first" / "seed0")
    Encoder.load(tmp_path / "first").export(tmp_path / "encoder.safetensors")
    file = tmp_path / "first" / "seed0" / "model.safetensors"

    def begin(path, method="genscl_mix", **changes):
        return new_run(quick(method, weights=str(path), **changes), digits, None, CPU).model

    for path in (tmp_path / "first", file):
        assert same(begin(path), run.model)
        other = begin(path, latent_dim=32)
        assert same(other.encoder, run.model.encoder) and not same(other.head, run.model.head)
        assert same(begin(path, "ce").encoder, run.model.encoder)
    exported = begin(tmp_path / "encoder.safetensors")
    assert same(exported.encoder, run.model.encoder) and not same(exported.head, run.model.head)


def test_a_classifiers_head_comes_along_for_the_same_classes_alone(quick, digits, tmp_path):
    file = tmp_path / "a.safetensors"
    config = quick("ce")
    model = new_model(config, digits)
    about = {"config": dataclasses.asdict(config), "data": describe(digits)}
    save_weights(file, kept_parts(model), **about)
    turned = dataclasses.replace(digits, class_names=digits.class_names[::-1])
    heads = []
    for data in (digits, turned):
        new = new_model(config, data)
        load_start(new, quick("ce_mix", weights=str(file)), data)
        heads.append(same(new.head, model.head))
        assert same(new.encoder, model.encoder)
    assert heads == [True, False]


def test_weights_that_may_have_seen_the_test_images_are_said(quick, digits, tmp_path, recwarn):
    run = pretrain(quick("ce"), digits, tmp_path / "seed0")
    finish_run(run, digits, tmp_path / "seed0")
    config = quick("supcon", weights=str(tmp_path))
    load_start(new_model(config, digits), config, digits)
    other_classes = dataclasses.replace(digits, class_names=tuple("abcdefghij"))
    load_start(new_model(config, digits), config, other_classes)
    assert not recwarn
    half = {name: getattr(digits, name)[:75] for name in ("test_images", "test_labels")}
    split = dataclasses.replace(digits, **half)
    with pytest.warns(UserWarning, match="was tested with other images than this run"):
        load_start(new_model(config, digits), config, split)
    taught = quick("genscl_kd", teacher=str(tmp_path))
    with pytest.warns(UserWarning, match="was tested with other images than this run"):
        load_teacher(taught, split)


def test_weights_of_another_program_serve_without_their_classifier(hub, begun, rgb):
    """As timm's own file does; an encoder of the caller's takes weights, too."""
    assert same(begun(weights=str(hub[1])).model.encoder, hub[0])
    own = timm.create_model("test_resnet", num_classes=0)
    assert same(begun(arch="custom", encoder=own, weights=str(hub[1])).model.encoder, hub[0])


def test_the_first_step_of_a_resumed_run_needs_no_weights(hub, quick, rgb, tmp_path):
    config = quick("supcon", arch=ARCH, pretrained=True, epochs=2)
    run = pretrain(config, rgb, tmp_path / "run")
    hub[1].write_bytes(b"")
    assert same(pretrain(config, rgb, tmp_path / "run").model, run.model)


def test_with_several_seeds_each_begins_from_its_own(quick, digits, tmp_path):
    models = [new_model(quick(seed=seed), digits) for seed in range(2)]
    for seed, model in enumerate(models):
        save_weights(tmp_path / f"seed{seed}" / "model.safetensors", model.encoder)
    for seed, model in enumerate(models):
        run = new_run(quick(weights=str(tmp_path), seed=seed), digits, None, CPU)
        assert same(run.model.encoder, model.encoder)
    with pytest.raises(ValueError, match="weights: .* holds 2 seeds; expected one of"):
        new_run(quick(weights=str(tmp_path), seed=2), digits, None, CPU)


@pytest.mark.parametrize("method", ["ce", "genscl_mix", "genscl_mix_queue"])
def test_a_frozen_encoder_stays_as_it_was(quick, digits, method):
    """Its BatchNorm too; the head learns."""
    torch.manual_seed(2)
    encoder = new_model(quick(), digits).encoder
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    config = quick(method, arch="custom", encoder_lr_scale=0.0)
    head = new_run(config, digits, encoder, CPU).model.head
    run = pretrain(config, digits, encoder=encoder)
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())
    assert not same(run.model.head, head)


def test_the_encoder_learns_at_its_own_rate(quick, digits):
    config = quick("supcon", encoder_lr_scale=0.1)
    run = new_run(config, digits, None, CPU)
    scale = {id(p): g["lr_scale"] for g in parameter_groups(config, run.model) for p in g["params"]}
    assert {scale[id(p)] for p in run.model.encoder.parameters()} == {0.1}
    assert {scale[id(p)] for p in run.model.head.parameters()} == {1.0}


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"pretrained": True}, "pretrained: expected arch timm/NAME, .* got 'resnet_small'"),
        ({"pretrained": True, "arch": "custom"}, "pretrained: expected arch timm/NAME"),
        ({"pretrained": True, "arch": "timm/test_resnet"}, None),
        ({"pretrained": True, "arch": "timm/resnet14t"}, None),
        ({"pretrained": True, "arch": ARCH, "weights": "a"}, "one of them, got weights 'a'"),
        ({"pretrained": 1, "arch": ARCH}, "pretrained: expected bool, got 1"),
        ({"weights": True}, "weights: expected str, got True"),
        ({"encoder_lr_scale": 0.0}, "encoder_lr_scale: 0 freezes .* nothing yet"),
        ({"encoder_lr_scale": -1.0}, "encoder_lr_scale: expected a number of at least 0, got -1"),
    ],
)
def test_wrong_beginnings_are_refused(quick, changes, message):
    if message is None:
        quick(**changes)
        return
    with pytest.raises(ValueError, match=message):
        quick(**changes)


def test_wrong_files_are_named(begun, tmp_path):
    def refuses(path, message, kind=RunFolderError):
        with pytest.raises(kind, match=message):
            begun(weights=str(path))

    refuses(tmp_path / "no", "weights: .*no does not exist", ValueError)
    refuses(tmp_path, "weights: .* holds no finished run", ValueError)
    file = tmp_path / "x.safetensors"
    for content in (b"", bytes(999), b"no weights"):
        file.write_bytes(content)
        refuses(file, "weights: .*x.safetensors: damaged")
    save_file(nn.Linear(2, 3).state_dict(), file)
    refuses(file, "x.safetensors: of another model .* is on one side only, and .* more")
    wider = timm.create_model("test_resnet", num_classes=0, channels=(32, 48, 48, 192))
    save_file(wider.state_dict(), file)
    refuses(file, "x.safetensors: damaged, or of another model .*size mismatch")
    with pytest.raises(ValueError, match="weights: .*no does not exist"):
        plan("digits", {"weights": str(tmp_path / "no")}, methods=["ce"])


@pytest.mark.parametrize(
    "about, message",
    [
        ({"arch": "x", "mean": ["a"], "std": [1]}, "its mean or std is no number"),
        ({"arch": "x", "mean": 3, "std": [1]}, "its mean or std is no number"),
        ({"arch": "x", "mean": [0, 0], "std": [1]}, "its mean or std is no number"),
        ({"arch": "x", "mean": [0], "std": [0]}, "its mean or std is no number"),
        ({"data": {"mean": [0]}}, "its header is damaged or of another version"),
        ({"data": 5, "config": 6}, "its header is damaged or of another version"),
    ],
)
def test_headers_that_make_no_sense_are_named(quick, digits, tmp_path, about, message):
    file = tmp_path / "x.safetensors"
    save_weights(file, new_model(quick(), digits), **about)
    with pytest.raises(RunFolderError, match=message):
        normalized_as_started(quick(weights=str(file)), digits)


def test_a_run_of_an_earlier_version_had_the_defaults(quick, tmp_path):
    now = quick()
    config = json.loads(json.dumps(dataclasses.asdict(now)))
    earlier = {name: value for name, value in config.items() if name != "pretrained"}
    check_same(tmp_path / "config.json", earlier, now)
    oldest = {name: value for name, value in config.items() if name != "read_out"}
    with pytest.raises(RunFolderError, match="read_out 'sgd' there, 'converged' now"):
        check_same(tmp_path / "config.json", oldest, now)
    with pytest.raises(RunFolderError, match="pretrained False there, True now"):
        check_same(tmp_path / "config.json", earlier, quick(arch="timm/resnet18", pretrained=True))


def test_a_job_begins_trains_and_loads(hub, rgb, tmp_path, monkeypatch):
    """The normalization of the weights goes into the trained model."""
    monkeypatch.setattr("genscl_lite.runs.job.load_data", lambda *_: rgb)
    words = {"epochs": 1, "warmup_epochs": 0, "eval_every": 9, "encoder_lr_scale": 0.0}
    config = TrainConfig("ce", arch=ARCH, pretrained=True, **words)
    list(train_job(Job("ce", (config,), tmp_path)))
    trained = Encoder.load(tmp_path)
    assert trained.dataset.mean == (0.5, 0.5, 0.5)
    assert same(trained.model.encoder, hub[0])
