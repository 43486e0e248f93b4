import pytest
import torch
from torch import nn

from genscl_lite.train.config import TrainConfig
from genscl_lite.train.networks import (
    ENCODERS,
    Model,
    build_encoder,
    build_timm,
    check_arch,
    count_features,
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


def test_counting_features_changes_nothing():
    encoder = build_encoder("resnet_small", 1).train()
    encoder.stem.eval()  # a frozen part stays frozen
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    modes = [module.training for module in encoder.modules()]
    assert count_features(encoder, (1, 8, 8)) == 64
    with pytest.raises(
        ValueError, match=r"encoder: fails on images of shape \(3, 8, 8\): .*channels"
    ):
        count_features(encoder, (3, 8, 8))
    assert [module.training for module in encoder.modules()] == modes and len(set(modes)) == 2
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())


def test_bad_encoders_are_named():
    with pytest.raises(
        ValueError, match=r"encoder: expected features of shape \(N, F\), got \(2, 1, 8, 8\)"
    ):
        Model(nn.Identity(), 16, (1, 8, 8))
    with pytest.raises(ValueError, match="arch: 'resnet51' .*did you mean 'resnet50'"):
        build_encoder("resnet51")


# Names of timm


@pytest.mark.parametrize(
    "name, channels, features",
    [
        ("test_resnet", 2, 96),
        ("vit_tiny_patch16_224", 1, 192),  # made for one size, and now for ours
        ("mobilenetv3_small_050", 3, 1024),
    ],
)
def test_timm_by_name(name, channels, features):
    images = torch.zeros(2, channels, 32, 32)
    encoder = build_encoder(f"timm/{name}", channels, image_size=32)
    classifier = build_timm(f"timm/{name}", channels, image_size=32, num_classes=5)
    assert encoder.eval()(images).shape == (2, features)
    assert classifier.eval()(images).shape == (2, 5)


def test_weights_have_a_tag_and_a_size_that_does_not_fit_is_named():
    check_arch("timm/vit_tiny_patch16_224.augreg_in21k")
    with pytest.raises(
        ValueError,
        match="^image_size: timm/xcit_nano_12_p16_224 cannot be built for 30 pixels: .*patch_size",
    ):
        with torch.device("meta"):
            build_encoder("timm/xcit_nano_12_p16_224", image_size=30)


@pytest.mark.parametrize(
    "arch, message",
    [
        ("resnet-18", "^arch: 'resnet-18' is unknown .did you mean 'resnet18'.*; expected one of resnet_small, .*timm/NAME, custom$"),
        ("convnext_tiny", "did you mean 'timm/convnext_tiny'"),
        ("timm/resnet51", "^arch: 'timm/resnet51' is unknown .did you mean 'timm/resnet5"),
        ("torchvision/resnet50", "^arch: 'torchvision/resnet50': named networks now come from timm; write 'timm/resnet50'$"),
        ("torchvision/efficientnet_v2_s", "now come from timm; write timm/NAME .did you mean 'timm/.*efficientnetv2_s"),
    ],
)  # fmt: skip
def test_unknown_and_old_names_meet_a_hint(arch, message):
    for ask in (check_arch, build_encoder, lambda arch: TrainConfig(arch=arch)):
        with pytest.raises(ValueError, match=message):
            ask(arch)


def test_known_names_are_configurations():
    for arch in (*ENCODERS, "custom", "timm/vit_huge_patch14_224"):
        assert TrainConfig(arch=arch).arch == arch
    with pytest.raises(ValueError, match='arch: "custom" stands for an encoder of your own'):
        build_encoder("custom")


def test_training_makes_a_network_for_the_images_of_the_data_set(rgb, quick):
    model = new_model(quick("supcon", arch="timm/vit_tiny_patch16_224"), rgb)
    assert model.encoder.patch_embed.img_size == (32, 32)
    assert model.head[0].in_features == 192
