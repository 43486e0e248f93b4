import pytest
import torch

from genscl_lite.losses import LossParts, gen_supcon_loss
from genscl_lite.runs.plan import plan
from genscl_lite.train.config import TrainConfig
from genscl_lite.train.loop import pretrain
from genscl_lite.train.methods import METHODS, Method, cross_entropy, label_loss, teacher_of
from genscl_lite.train.objective import batch_loss


def alignment(inputs, target_weights, **options):
    """Pull all views of an image together; an objective that no row of the table has."""
    latents = torch.nn.functional.normalize(inputs.outputs, dim=1)
    same = inputs.images[:, None] == inputs.images
    loss = ((latents[:, None] - latents).square().sum(dim=2) * same).sum() / (
        same.sum() - len(same)
    )
    zero = torch.zeros_like(loss.detach())
    return LossParts(loss, zero, loss.detach(), zero)


@pytest.fixture
def own_row(monkeypatch):
    monkeypatch.setitem(
        METHODS, "align", Method("Alignment", alignment, "projection", "alignment", mixes=True)
    )


def test_a_row_with_an_objective_of_its_own_is_one_entry(own_row, quick, digits, tmp_path):
    run = pretrain(quick("align", epochs=8, learning_rate=0.05), digits, tmp_path)
    assert run.log[-1]["loss"] < 0.5 * run.log[0]["loss"]
    assert run.model.head[-1].out_features == 16 and run.model.joint is None
    [job] = plan("digits", {"temperature": 0.2}, methods=["align"])
    assert job.configs[0].method == "align"


def test_a_projection_head_brings_the_check_of_views_and_the_joint_classifier(
    own_row, quick, digits
):
    with pytest.raises(ValueError, match="views: align contrasts views and needs 2 or more, got 1"):
        quick("align", views=1)
    plain, joint = (
        pretrain(quick("align", epochs=1, warmup_epochs=0, ce_weight=w), digits) for w in (0.0, 0.5)
    )
    assert joint.model.joint.out_features == 10 and joint.log[0]["loss"] > plain.log[0]["loss"]


def test_the_larger_label_alone_counts_in_the_control(quick):
    """It is SupCon on the same blends, in the batch and with keys."""
    g = torch.Generator().manual_seed(0)
    z, keys = torch.randn(12, 8, generator=g), torch.randn(20, 8, generator=g)
    y, key_y = (torch.rand(rows, 1, 5, generator=g).softmax(dim=2) for rows in (12, 20))
    index, classes, key_classes = torch.arange(6), y[:, 0].argmax(1), key_y[:, 0].argmax(1)
    config = quick("supcon_mix")
    expected = gen_supcon_loss(z, classes, temperature=config.temperature)
    assert torch.equal(batch_loss(config, z, y, index).loss, expected)
    assert not torch.isclose(batch_loss(quick("genscl_mix"), z, y, index).loss, expected)
    expected = gen_supcon_loss(
        z,
        classes,
        contrast_latents=keys,
        contrast_labels=key_classes,
        temperature=config.temperature,
    )
    assert torch.equal(batch_loss(config, z, y, index, (keys, key_y)).loss, expected)


def test_each_row_with_a_teacher_names_its_own():
    taught = {
        row: teacher_of(row, by_method) for by_method in ((), {"teacher": {}}) for row in METHODS
    }
    assert {row for row, teacher in taught.items() if teacher} == {
        r for r, m in METHODS.items() if m.distils
    }
    assert taught["genscl_mix_kd"] == "teacher" and taught["genscl_mix_kd_expert"] == "expert"


def test_afterwards_the_row_is_gone():
    with pytest.raises(ValueError, match="method: 'align' is unknown"):
        TrainConfig(method="align")


def test_heads_are_checked():
    with pytest.raises(ValueError, match="head: 'projector' is unknown .did you mean 'projection'"):
        Method("X", label_loss, "projector", "label")
    with pytest.raises(
        ValueError, match="queues: a queue keeps latents, 'X' has a classifier's head"
    ):
        Method("X", cross_entropy, "classifier", "cross_entropy", queues=True)


@pytest.mark.parametrize(
    "method, changes",
    [
        ("ce_mix_kd", {}),
        ("simclr", {}),
        ("genscl_mix_kd", {"ce_weight": 0.5}),
        ("genscl_mix_kd_queue", {"ce_weight": 0.5}),
    ],
)
def test_the_loss_is_one_piece_for_the_compiler(method, changes, quick):
    """One graph without breaks, which gives the same."""

    def rows(n, outputs=16):
        return torch.randn(n, outputs), torch.rand(
            n, 2 if METHODS[method].distils else 1, 10
        ).softmax(2)

    config, queues = quick(method, **changes), METHODS[method].queues
    outputs, targets = rows(12 if queues else 24, 10 if METHODS[method].classifies else 26)
    step = config, outputs, targets, torch.arange(12), *([rows(12), rows(20)] if queues else [])
    whole = torch.compile(batch_loss, fullgraph=True, dynamic=False, backend="eager")
    assert torch.isclose(whole(*step).loss, batch_loss(*step).loss)
