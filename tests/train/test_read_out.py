import pytest
import torch
from sklearn.linear_model import LogisticRegression

from genscl_lite.train import read_out
from genscl_lite.train.read_out import fit_read_out


def clouds(count=300, classes=3, features=8, spread=1.0, seed=0):
    draw = torch.Generator().manual_seed(seed)
    centers = torch.randn(classes, features, generator=draw)
    labels = torch.arange(count) % classes
    return centers[labels] + spread * torch.randn(count, features, generator=draw), labels


def test_it_converges_to_scikit_learns_solution(monkeypatch):
    x, y = clouds()
    monkeypatch.setattr(read_out, "STRENGTHS", (0.01,))
    ours = fit_read_out(x, y, 3)
    mean, std = x.mean(dim=0), x.std(dim=0, correction=0)
    theirs = LogisticRegression(C=1 / (0.01 * len(x)), tol=1e-8, max_iter=2000)
    theirs.fit(((x - mean) / std).numpy(), y.numpy())
    probabilities = torch.from_numpy(theirs.predict_proba(((x - mean) / std).numpy())).float()
    assert torch.allclose(ours(x).softmax(dim=1), probabilities, atol=2e-3)


def test_scale_and_place_of_features_do_not_matter():
    x, y = clouds()
    scale, place = torch.logspace(-4, 4, 8), torch.linspace(-10, 10, 8)
    one, other = (
        fit_read_out(x, y, 3)(x),
        fit_read_out(x * scale + place * scale, y, 3)(x * scale + place * scale),
    )
    assert torch.allclose(one, other, atol=1e-2)


def test_noise_asks_for_a_stronger_penalty_than_clean_clouds():
    clean = read_out._choose_strength(*clouds(spread=0.2), 3, seed=0)
    noisy = read_out._choose_strength(*clouds(count=60, features=40, spread=4.0), 3, seed=0)
    assert noisy > clean


def test_a_class_of_one_image_is_read():
    x, y = clouds(count=31)
    y[30] = 3
    x[30] = 20.0
    assert fit_read_out(x, y, 4)(x).argmax(dim=1)[30] == 3


def test_a_feature_that_does_not_vary_is_left_out():
    x, y = clouds()
    padded = torch.cat([x, torch.full((len(x), 1), 7.0)], dim=1)
    layer = fit_read_out(padded, y, 3)
    assert (layer.weight[:, -1] == 0).all()
    assert torch.allclose(layer(padded), fit_read_out(x, y, 3)(x), atol=1e-4)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (torch.ones(6, 3), torch.arange(6) % 2, "features: all rows are the same"),
        (torch.full((6, 3), torch.nan), torch.arange(6) % 2, "features: .*NaN"),
        (torch.randn(6, 3), torch.arange(6), "labels: expected class numbers below 2, got 5"),
        (torch.randn(6, 3), torch.arange(5) % 2, "labels"),
    ],
)
def test_what_cannot_be_read_is_named(x, y, message):
    with pytest.raises(ValueError, match=message):
        fit_read_out(x, y, 2)
