import pytest
import torch
from torch import nn

from genscl_lite.models import ENCODERS, Model, build_encoder, feature_size


@pytest.mark.parametrize("arch, channels, size, features", [
    ("resnet_small", 1, 8, 64), ("resnet18", 3, 32, 512), ("resnet34", 3, 32, 512), ("resnet50", 3, 32, 2048),
])  # fmt: skip
def test_encoders_give_features(arch, channels, size, features):
    assert build_encoder(arch, channels)(torch.zeros(2, channels, size, size)).shape == (2, features)
    assert arch in ENCODERS


def test_the_stem_keeps_the_resolution():
    """A 7 x 7 stem of stride 2 and max-pool would leave 8 x 8 of 32 x 32 pixels for the first stage."""
    encoder, seen = build_encoder("resnet18"), []
    encoder.layer1.register_forward_hook(lambda module, inputs, output: seen.append(output.shape[-2:]))
    encoder(torch.zeros(1, 3, 32, 32))
    assert seen == [(32, 32)]
    assert encoder.conv1.kernel_size == (3, 3) and encoder.conv1.stride == (1, 1)


def test_sizes_are_the_published_ones():
    """SupContrast's ResNet-50 and -18 without classifier: 23.5 and 11.2 million parameters."""
    millions = [sum(p.numel() for p in build_encoder(f"resnet{depth}").parameters()) / 1e6 for depth in (50, 18)]
    assert abs(millions[0] - 23.50) < 0.01 and abs(millions[1] - 11.17) < 0.01


def test_heads():
    encoder = nn.Flatten()
    contrastive, classifier = Model(encoder, 16, (1, 8, 8)), Model(encoder, 10, (1, 8, 8), classifier=True)
    assert [type(layer) for layer in contrastive.head] == [nn.Linear, nn.ReLU, nn.Linear]
    assert isinstance(classifier.head, nn.Linear)
    assert contrastive(torch.zeros(3, 1, 8, 8)).shape == (3, 16) and classifier(torch.zeros(3, 1, 8, 8)).shape == (3, 10)


def test_asking_for_the_feature_size_changes_nothing():
    encoder = build_encoder("resnet_small", 1).train()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    assert feature_size(encoder, (1, 8, 8)) == 64
    assert encoder.training and all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())


def test_bad_encoders_are_named():
    with pytest.raises(ValueError, match=r"encoder: expected features of shape \(N, F\), got \(2, 1, 8, 8\)"):
        Model(nn.Identity(), 16, (1, 8, 8))
    with pytest.raises(ValueError, match="arch: 'resnet51' .*did you mean 'resnet50'"):
        build_encoder("resnet51")
