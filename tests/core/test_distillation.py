import pytest
import torch
import torch.nn.functional as F
from torch import nn

from genscl_lite.distillation import Teacher, distilled_cross_entropy, distilled_loss
from genscl_lite.losses import gen_supcon_loss

Z = torch.randn(8, 5, generator=torch.Generator().manual_seed(0))
TARGETS = torch.randn(8, 2, 4, generator=torch.Generator().manual_seed(1)).softmax(2)


def compiled_eagerly(module):
    return torch.compile(module, backend="eager")


def network():
    return nn.Sequential(
        nn.Flatten(), nn.Linear(16, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 4)
    )


def test_a_teacher_is_a_tempered_classifier():
    classifier = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(16, 4))
    teacher, images = Teacher(classifier, temperature=3.0), torch.rand(5, 1, 4, 4)
    labels = teacher(images)
    assert torch.allclose(labels, F.softmax(classifier[2](images.flatten(1)) / 3, dim=1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert teacher(images).dtype == torch.float32


def test_a_teacher_answers_in_evaluation_mode_whoever_trains_it():
    classifier = network()
    whole, images = nn.ModuleList([classifier]), torch.randn(6, 1, 4, 4)
    teacher = Teacher(classifier)
    labels, before = teacher(images), [t.clone() for t in classifier.state_dict().values()]
    for change in (whole.train, classifier.train, classifier[2].train, teacher.train):
        change()
        assert torch.equal(teacher(images), labels) and torch.equal(teacher(images), labels)
    assert all(map(torch.equal, before, classifier.state_dict().values()))


@pytest.mark.parametrize("wrap", [lambda module: module, torch.nn.DataParallel, compiled_eagerly])
def test_the_callers_network_is_as_it_was(wrap):
    classifier = network()
    classifier[3].eval()
    classifier[1].bias.requires_grad_(False)
    modes, learns = (
        lambda: [module.training for module in classifier.modules()],
        lambda: [p.requires_grad for p in classifier.parameters()],
    )
    before = modes(), learns()
    teacher = Teacher(wrap(classifier))
    labels = teacher(torch.randn(6, 1, 4, 4, requires_grad=True))
    assert not labels.requires_grad and (modes(), learns()) == before
    classifier(torch.randn(6, 1, 4, 4)).sum().backward()  # it can still be trained
    assert classifier[4].weight.grad is not None and classifier[1].bias.grad is None
    with pytest.raises(RuntimeError):
        teacher(torch.randn(6, 3))
    assert (modes(), learns()) == before


def test_a_teacher_is_a_module_that_moves_and_saves():
    teacher, other = Teacher(network()).double(), Teacher(network()).double()
    images = torch.randn(3, 1, 4, 4).double()
    other.load_state_dict(teacher.state_dict())
    assert torch.equal(other(images), teacher(images))
    assert {name.partition(".")[0] for name in teacher.state_dict()} == {"classifier"}


def test_the_sum_of_the_papers_two_terms():
    both = distilled_loss(Z, TARGETS, [1.0, 0.5])
    label, soft = (gen_supcon_loss(Z, TARGETS[:, t], return_parts=True) for t in range(2))
    assert torch.isclose(both.loss, label.loss + 0.5 * soft.loss)
    assert torch.isclose(both.entropy, label.entropy + 0.5 * soft.entropy)
    assert torch.isclose(both.loss, both.entropy + both.kl)


def test_the_teacher_alone():
    assert torch.equal(distilled_loss(Z, TARGETS, [0, 1]).loss, gen_supcon_loss(Z, TARGETS[:, 1]))


def test_contrasts_bring_their_own_targets():
    keys, key_targets = torch.randn(6, 5), torch.randn(6, 2, 4).softmax(2)
    ours = distilled_loss(
        Z, TARGETS, [1, 1], contrast_latents=keys, contrast_targets=key_targets
    ).loss
    expected = sum(
        gen_supcon_loss(Z, TARGETS[:, t], contrast_latents=keys, contrast_labels=key_targets[:, t])
        for t in range(2)
    )
    assert torch.isclose(ours, expected)


def test_cross_entropy_is_torchs():
    logits = torch.randn(8, 4)
    ours = distilled_cross_entropy(logits, TARGETS, [1.0, 2.0])
    expected = F.cross_entropy(logits, TARGETS[:, 0]) + 2 * F.cross_entropy(logits, TARGETS[:, 1])
    assert torch.isclose(ours.loss, expected) and torch.isclose(ours.loss, ours.entropy + ours.kl)


@pytest.mark.parametrize("loss", [distilled_loss, distilled_cross_entropy])
@pytest.mark.parametrize(
    "weights, message",
    [
        ([1], "targets: expected shape"),
        ([0, 0], "target_weights"),
        ([1, -1], "target_weights"),
        ([1, float("nan")], "target_weights"),
        ([1, float("inf")], "target_weights"),
    ],
)
def test_bad_weights_are_named(loss, weights, message):
    with pytest.raises(ValueError, match=message):
        loss(Z[:, :4], TARGETS, weights)


def test_a_bad_teacher_is_named():
    with pytest.raises(ValueError, match="temperature: "):
        Teacher(nn.Identity(), temperature=0)
    with pytest.raises(ValueError, match="classifier: expected a Module, got function"):
        Teacher(lambda images: images)
    with pytest.raises(
        ValueError, match=r"classifier: expected logits of shape \(2, C\) .*got \(2, 0\)"
    ):
        Teacher(nn.Flatten())(torch.zeros(2, 0, 4))
    with pytest.raises(ValueError, match="classifier: .*or do when divided by temperature"):
        Teacher(nn.Flatten(), temperature=1e-9)(torch.full((2, 4), 1e30))
    with pytest.raises(ValueError, match="classifier: its logits hold NaN"):
        Teacher(nn.Flatten())(torch.full((2, 1, 4, 4), float("nan")))
    with pytest.raises(ValueError, match=r"classifier: expected logits of shape \(2, C\)"):
        Teacher(nn.Identity())(torch.zeros(2, 1, 4, 4))
