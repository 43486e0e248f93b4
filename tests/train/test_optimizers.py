import pytest
import torch
from torch import nn

from genscl_lite.train.loop import pretrain
from genscl_lite.train.optimizers import OPTIMIZERS, build_optimizer
from genscl_lite.train.state import new_model
from tests.train.test_loop import interrupt_after, weights

RATES = {"sgd": 0.1, "nesterov": 0.1, "adamw": 0.003, "muon": 0.05}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("method", ["ce", "genscl_mix"])
def test_a_resumed_run_equals_an_uninterrupted_one(optimizer, method, quick, rgb, tmp_path):
    config = quick(
        method, arch="whitened_small", optimizer=optimizer, learning_rate=RATES[optimizer]
    )
    whole = pretrain(config, rgb)
    with pytest.raises(KeyboardInterrupt):
        pretrain(config, rgb, tmp_path, on_epoch=interrupt_after(1))
    assert torch.equal(weights(whole), weights(pretrain(config, rgb, tmp_path)))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_loss_goes_down(optimizer, quick, digits):
    changes = {"optimizer": optimizer, "learning_rate": RATES[optimizer], "epochs": 12}
    log = pretrain(quick("ce", **changes), digits).log
    assert log[-1]["loss"] < 0.8 * log[0]["loss"]


def first_steps(model, config, factor=1.0):
    """Return gradient and step of every matrix and convolution, flattened to one row a filter."""
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = build_optimizer(config, model)
    images = torch.randn(20, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    (factor * model(images).square().sum()).backward()
    optimizer.step()
    pairs = zip(before, model.parameters(), strict=True)
    return [
        (p.grad.flatten(1), (old - p.detach()).flatten(1))
        for old, p in pairs
        if p.ndim > 1 and p.shape[1] > 1  # timm leaves a first layer of one channel to NAdamW
    ]


def test_muon_evens_out_the_directions_of_a_step(quick, digits):
    config = quick("supcon", optimizer="muon", learning_rate=0.1, weight_decay=0.0)
    for gradient, step in first_steps(new_model(config, digits), config):
        raw, moved = torch.linalg.svdvals(gradient), torch.linalg.svdvals(step / 0.1)
        assert moved.max() < 1.3
        assert moved.mean() / moved.max() > raw.mean() / raw.max()


def test_the_size_of_the_gradient_does_not_matter_to_muon(quick, digits):
    config = quick("supcon", optimizer="muon", learning_rate=0.1, weight_decay=0.0)
    model, other = (new_model(config, digits) for _ in range(2))
    other.load_state_dict(model.state_dict())
    pairs = zip(first_steps(model, config), first_steps(other, config, 64.0), strict=True)
    assert all(torch.allclose(one, two, atol=1e-3) for (_, one), (_, two) in pairs)


def test_weight_decay_leaves_biases_and_norms_alone_where_asked(quick, digits):
    config = quick("ce", optimizer="adamw", weight_decay=0.5, decay_1d=False)
    model = new_model(config, digits)
    decays = {
        id(p): group["weight_decay"]
        for group in build_optimizer(config, model).param_groups
        for p in group["params"]
    }
    assert {decays[id(p)] for p in model.parameters() if p.ndim > 1} == {0.5}
    assert {decays[id(p)] for p in model.parameters() if p.ndim == 1} == {0.0}


def test_muon_does_not_orthogonalize_a_classifiers_last_layer(quick, digits):
    for method, expected in (("ce", True), ("supcon", False)):
        config = quick(method, optimizer="muon")
        model = new_model(config, digits)
        groups = build_optimizer(config, model).param_groups
        last = [module for module in model.head.modules() if isinstance(module, nn.Linear)][-1]
        [group] = [g for g in groups if any(p is last.weight for p in g["params"])]
        assert group["use_fallback"] == expected


def test_sgd_is_torchs_own(quick, digits):
    """Grouping changes nothing of the arithmetic: the first recipe's numbers stay."""
    config = quick("ce")
    model, other = (new_model(config, digits) for _ in range(2))
    other.load_state_dict(model.state_dict())
    plain = torch.optim.SGD(other.parameters(), lr=config.learning_rate, momentum=0.9,
                            weight_decay=config.weight_decay, fused=True)  # fmt: skip
    images = torch.randn(10, 1, 8, 8)
    for network, optimizer in ((model, build_optimizer(config, model)), (other, plain)):
        for _ in range(3):
            optimizer.zero_grad()
            network(images).square().sum().backward()
            optimizer.step()
    for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_an_unknown_optimizer_is_named(quick):
    with pytest.raises(ValueError, match="optimizer: 'muonn' is unknown .did you mean 'muon'"):
        quick("ce", optimizer="muonn")
