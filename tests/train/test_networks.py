import builtins
import enum
import types
import warnings

import pytest
import torch
from torch import nn
from torchvision.models import get_model

from genscl_lite.train import networks
from genscl_lite.train.config import TrainConfig
from genscl_lite.train.networks import (
    ENCODERS,
    Model,
    build_encoder,
    build_network,
    check_arch,
    probe_encoder,
    warn_of_coarse_maps,
    weight_classes,
)
from genscl_lite.train.state import new_model


@pytest.mark.parametrize(
    "arch, channels, size, features",
    [
        ("resnet_small", 1, 8, 64),
        ("resnet18", 3, 32, 512),
        ("resnet34", 3, 32, 512),
        ("resnet50", 3, 32, 2048),
    ],
)
def test_encoders_give_features(arch, channels, size, features):
    assert build_encoder(arch, channels)(torch.zeros(2, channels, size, size)).shape == (
        2,
        features,
    )
    assert arch in ENCODERS


def test_the_stem_keeps_the_resolution():
    """A 7 x 7 stem of stride 2 and max-pool would leave 8 x 8 of 32 x 32 pixels for the first stage."""
    encoder, seen = build_encoder("resnet18"), []
    encoder.layer1.register_forward_hook(
        lambda module, inputs, output: seen.append(output.shape[-2:])
    )
    encoder(torch.zeros(1, 3, 32, 32))
    assert seen == [(32, 32)]
    assert encoder.conv1.kernel_size == (3, 3) and encoder.conv1.stride == (1, 1)


def test_sizes_are_the_published_ones():
    """SupContrast's ResNet-50 and -18 without classifier: 23.5 and 11.2 million parameters."""
    millions = [
        sum(p.numel() for p in build_encoder(f"resnet{depth}").parameters()) / 1e6
        for depth in (50, 18)
    ]
    assert abs(millions[0] - 23.50) < 0.01 and abs(millions[1] - 11.17) < 0.01


def test_heads():
    encoder = nn.Flatten()
    contrastive, classifier = (
        Model(encoder, 16, (1, 8, 8)),
        Model(encoder, 10, (1, 8, 8), classifier=True),
    )
    assert [type(layer) for layer in contrastive.head] == [nn.Linear, nn.ReLU, nn.Linear]
    assert isinstance(classifier.head, nn.Linear)
    assert contrastive(torch.zeros(3, 1, 8, 8)).shape == (3, 16) and classifier(
        torch.zeros(3, 1, 8, 8)
    ).shape == (3, 10)


def test_probing_changes_nothing():
    encoder = build_encoder("resnet_small", 1).train()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    assert probe_encoder(encoder, (1, 8, 8)).features == 64
    assert encoder.training and all(
        torch.equal(before[name], value) for name, value in encoder.state_dict().items()
    )


def test_probing_leaves_a_frozen_part_frozen_and_no_hook_behind():
    encoder = build_encoder("resnet_small", 1).train()
    encoder.stem.eval()
    before = [module.training for module in encoder.modules()]
    probe_encoder(encoder, (1, 8, 8))
    with pytest.raises(
        ValueError, match=r"encoder: fails on images of shape \(3, 8, 8\): .*channels"
    ):
        probe_encoder(encoder, (3, 8, 8))
    assert [module.training for module in encoder.modules()] == before and len(set(before)) == 2
    assert not any(module._forward_hooks for module in encoder.modules())


def test_bad_encoders_are_named():
    with pytest.raises(
        ValueError, match=r"encoder: expected features of shape \(N, F\), got \(2, 1, 8, 8\)"
    ):
        Model(nn.Identity(), 16, (1, 8, 8))
    with pytest.raises(ValueError, match="arch: 'resnet51' .*did you mean 'resnet50'"):
        build_encoder("resnet51")


# Names of torchvision and timm

FAMILIES = {
    "alexnet": 4096,
    "convnext_tiny": 768,
    "densenet121": 1024,
    "efficientnet_b0": 1280,
    "efficientnet_v2_s": 1280,
    "googlenet": 1024,
    "inception_v3": 2048,
    "maxvit_t": 512,
    "mnasnet0_5": 1280,
    "mobilenet_v3_small": 1024,
    "resnet50": 2048,
    "resnext50_32x4d": 2048,
    "shufflenet_v2_x0_5": 1024,
    "squeezenet1_1": 512,
    "swin_t": 768,
    "swin_v2_t": 768,
    "vgg11": 4096,
    "vit_b_16": 768,
    "wide_resnet50_2": 2048,
}


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.filterwarnings("error")
def test_every_family_of_torchvision_gives_features_and_logits(name):
    """Without numbers, on the meta device, and in training mode, where some would give auxiliary outputs."""
    with torch.device("meta"):
        encoder = build_encoder(f"torchvision/{name}", image_size=224)
        classifier = build_network(f"torchvision/{name}", 7, 3, 224)
        images = torch.zeros(2, 3, 224, 224)
    assert encoder.train()(images).shape == (2, FAMILIES[name])
    assert classifier.train()(images).shape == (2, 7)


@pytest.mark.filterwarnings("error")
def test_a_small_network_of_torchvision_is_torchvisions():
    torch.manual_seed(0)
    encoder = build_encoder("torchvision/regnet_y_400mf").eval()
    torch.manual_seed(0)
    theirs = get_model("regnet_y_400mf", weights=None).eval()
    theirs.fc = nn.Identity()
    images = torch.rand(2, 3, 64, 64)
    assert encoder(images).shape == (2, 440) and torch.equal(encoder(images), theirs(images))


def test_a_network_made_for_one_size_is_made_for_ours():
    with torch.device("meta"):
        encoder, images = (
            build_encoder("torchvision/vit_b_16", image_size=32),
            torch.zeros(2, 3, 32, 32),
        )
        assert encoder(images).shape == (2, 768)
        with pytest.raises(
            ValueError,
            match="image_size: torchvision/vit_b_16 cannot be built for 30 pixels: .*patch",
        ):
            build_encoder("torchvision/vit_b_16", image_size=30)
        with pytest.raises(
            ValueError,
            match="image_size: torchvision/maxvit_t cannot be built for 32 pixels: .*partition",
        ):
            build_encoder("torchvision/maxvit_t", image_size=32)


def test_timm_by_name():
    assert build_encoder("timm/vit_tiny_patch16_224", 1, image_size=32).eval()(
        torch.zeros(2, 1, 32, 32)
    ).shape == (2, 192)
    assert build_encoder("timm/mobilenetv3_small_050", 2).eval()(
        torch.zeros(2, 2, 32, 32)
    ).shape == (2, 1024)
    assert build_network("timm/mobilenetv3_small_050", 5, 1, 32).eval()(
        torch.zeros(2, 1, 32, 32)
    ).shape == (2, 5)
    check_arch("timm/vit_tiny_patch16_224.augreg_in21k")
    with pytest.raises(
        ValueError, match="arch: 'timm/resnet51' is unknown .did you mean 'timm/resnet5"
    ):
        check_arch("timm/resnet51")
    with pytest.raises(ValueError, match="weights: 'DEFAULT' are torchvision's"):
        build_network("timm/resnet50", 10, weights="DEFAULT")


def test_without_timm_its_names_say_what_to_do(monkeypatch):
    real_import = builtins.__import__

    def no_timm(name, *rest):
        if name == "timm":
            raise ModuleNotFoundError("No module named 'timm'")
        return real_import(name, *rest)

    monkeypatch.setattr(builtins, "__import__", no_timm)
    for ask in (check_arch, build_encoder, lambda arch: TrainConfig(arch=arch)):
        with pytest.raises(
            ValueError,
            match="arch: 'timm/resnet50' needs timm, .*No module.*; run `pip install timm`",
        ):
            ask("timm/resnet50")


@pytest.mark.parametrize(
    "arch, message",
    [
        (
            "resnet-18",
            "arch: 'resnet-18' is unknown .did you mean 'resnet18'.*; expected one of resnet_small, .*timm/NAME, custom",
        ),
        ("resnet101", "did you mean 'torchvision/resnet101'"),
        ("vit_b16", "did you mean 'torchvision/vit_b_16'"),
        (
            "torchvision/vit_b16",
            "arch: 'torchvision/vit_b16' is unknown .did you mean 'torchvision/vit_b_16'.*torchvision/NAME",
        ),
        ("torchvision/fcn_resnet50", "expected a classification model of torchvision"),
    ],
)
def test_unknown_names_meet_a_hint(arch, message, monkeypatch):
    monkeypatch.setattr(
        networks, "get_model", lambda *_, **__: pytest.fail("a check builds nothing")
    )
    for ask in (check_arch, build_encoder, lambda arch: TrainConfig(arch=arch)):
        with pytest.raises(ValueError, match=message):
            ask(arch)


def test_known_names_are_configurations(monkeypatch):
    monkeypatch.setattr(
        networks, "get_model", lambda *_, **__: pytest.fail("a check builds nothing")
    )
    for arch in (*ENCODERS, "custom", "torchvision/vit_h_14", "torchvision/efficientnet_v2_s"):
        assert TrainConfig(arch=arch).arch == arch
    with pytest.raises(ValueError, match='arch: "custom" stands for an encoder of your own'):
        build_encoder("custom")


def test_what_does_not_fit_is_named():
    with pytest.raises(
        ValueError, match="in_channels: torchvision/resnet18 takes 3 channels, got 1"
    ):
        build_encoder("torchvision/resnet18", in_channels=1)


def test_a_network_without_a_classifier_is_refused(monkeypatch):
    monkeypatch.setattr(networks, "get_model", lambda *_, **__: nn.Sequential(nn.Linear(4, 999)))
    with pytest.raises(ValueError, match="arch: Sequential has no layer with 1000 outputs"):
        build_encoder("torchvision/resnet18")


def test_the_classifier_is_the_last_layer_with_so_many_outputs(monkeypatch):
    network = nn.Sequential(nn.Linear(4, 1000), nn.ReLU(), nn.Linear(1000, 1000))
    monkeypatch.setattr(networks, "get_model", lambda *_, **__: network)
    assert [type(layer) for layer in build_encoder("torchvision/resnet18")] == [
        nn.Linear,
        nn.ReLU,
        nn.Identity,
    ]


def test_training_makes_a_network_for_the_images_of_the_data_set(rgb, quick):
    with torch.device("meta"):
        model = new_model(quick("supcon", dataset="digits", arch="torchvision/vit_b_16"), rgb)
    assert model.encoder.image_size == 32 and model.head[0].in_features == 768


# Pretrained weights, which are asked for by name


@pytest.fixture
def birds(monkeypatch):
    """Weights with three classes, and what the builder was asked for."""
    weights = enum.Enum(
        "Weights",
        {"BIRDS": types.SimpleNamespace(meta={"categories": ["auk", "bee-eater", "coot"]})},
    )
    for member in weights:
        member.meta = member.value.meta
    asked = []

    def build(name, weights=None, **options):
        asked.append((name, weights, options["num_classes"]))
        return get_model(name, weights=None, **options)

    monkeypatch.setattr(networks, "get_model_weights", lambda name: weights)
    monkeypatch.setattr(networks, "get_model", build)
    return asked


def test_weights_are_passed_by_their_name(birds):
    classifier = build_network("torchvision/shufflenet_v2_x0_5", 3, 3, 64, weights="BIRDS")
    encoder = build_encoder("torchvision/shufflenet_v2_x0_5")
    assert birds == [("shufflenet_v2_x0_5", "BIRDS", 3), ("shufflenet_v2_x0_5", None, 1000)]
    assert classifier.eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 3)
    assert encoder.eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 1024)


def test_weights_name_their_classes(birds):
    assert weight_classes("torchvision/resnet18", "BIRDS") == ("auk", "bee-eater", "coot")
    with pytest.raises(ValueError, match="weights: 'BIRD' is unknown .did you mean 'BIRDS'"):
        weight_classes("torchvision/resnet18", "BIRD")
    with pytest.raises(
        ValueError,
        match="weights: only torchvision/NAME has weights by name, got 'BIRDS' for 'resnet18'",
    ):
        weight_classes("resnet18", "BIRDS")


# Maps of a single pixel


def warnings_of(encoder, image_shape):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        warn_of_coarse_maps(probe_encoder(encoder, image_shape), image_shape)
    return [str(warning.message) for warning in seen]


def test_a_network_for_large_images_is_warned_of_on_small_ones():
    encoder = build_encoder("torchvision/resnet18")
    [message] = warnings_of(encoder, (3, 32, 32))
    assert (
        message.startswith("encoder: reduces 32 x 32 images to 1 x 1 maps before pooling")
        and "arch resnet18" in message
    )
    assert probe_encoder(encoder, (3, 64, 64)).last_map == (2, 2) and not warnings_of(
        encoder, (3, 64, 64)
    )
    assert not warnings_of(encoder, (3, 224, 224))


@pytest.mark.parametrize(
    "arch, channels, size, last_map",
    [
        ("resnet_small", 1, 8, (2, 2)),
        ("resnet18", 3, 32, (4, 4)),
        ("resnet50", 3, 32, (4, 4)),
        ("torchvision/mobilenet_v3_small", 3, 64, (2, 2)),
    ],
)
def test_no_warning_where_maps_are_left(arch, channels, size, last_map):
    encoder = build_encoder(arch, channels)
    assert probe_encoder(encoder, (channels, size, size)).last_map == last_map
    assert not warnings_of(encoder, (channels, size, size))


def test_layers_behind_a_pooling_do_not_count():
    pooled = [
        nn.Conv2d(1, 4, 3),
        nn.AdaptiveAvgPool2d(1),
        nn.Conv2d(4, 8, kernel_size=1),
        nn.ReLU(),
        nn.Flatten(),
    ]
    assert probe_encoder(nn.Sequential(*pooled), (1, 8, 8)).last_map == (6, 6)


def test_max_pooling_counts_and_large_images_or_single_pixels_are_left_alone():
    encoder = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.AdaptiveMaxPool2d(8), nn.MaxPool2d(8), nn.Flatten()
    )
    assert len(warnings_of(encoder, (1, 64, 48))) == 1
    assert not warnings_of(encoder, (1, 65, 48)) and not warnings_of(encoder, (1, 1, 1))


@pytest.mark.parametrize(
    "encoder", [nn.Flatten(), nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU())]
)
def test_encoders_without_maps_are_never_warned_of(encoder):
    assert probe_encoder(encoder, (1, 8, 8)).last_map is None and not warnings_of(
        encoder, (1, 8, 8)
    )


def test_a_model_is_probed_once_and_warns_once():
    encoder, passes = build_encoder("torchvision/shufflenet_v2_x0_5"), []
    encoder.register_forward_hook(lambda *_: passes.append(1))
    with pytest.warns(UserWarning, match="reduces 32 x 32 images to 1 x 1 maps") as seen:
        Model(encoder, 16, (3, 32, 32))
    assert len(seen) == len(passes) == 1 and seen[0].filename == __file__
