import pytest
import torch
import torch.nn.functional as F
from torch import nn

from genscl_lite.distillation import Teacher, distilled_cross_entropy

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


def test_cross_entropy_is_torchs_with_the_floor_of_the_mean_label():
    logits, classes = torch.randn(8, 4), torch.arange(8) % 4
    first, second = TARGETS.unbind(1)
    ours = distilled_cross_entropy(logits, [(1.0, first), (2.0, second)])
    expected = F.cross_entropy(logits, first) + 2 * F.cross_entropy(logits, second)
    mean = (first + 2 * second) / 3
    floor = 3 * F.cross_entropy(mean.log(), mean)
    assert torch.isclose(ours.loss, expected) and torch.isclose(ours.entropy, floor)
    assert torch.isclose(ours.chance, 3 * torch.tensor(4.0).log())
    assert torch.isclose(ours.loss, ours.entropy + ours.kl)
    reached = distilled_cross_entropy(mean.log(), [(1.0, first), (2.0, second)])
    assert torch.isclose(reached.loss, floor) and reached.kl.abs() < 1e-5
    by_number, one_hot = (
        distilled_cross_entropy(logits, y) for y in (classes, F.one_hot(classes).float())
    )
    assert torch.equal(by_number.loss, one_hot.loss) and by_number.entropy == 0


def test_rounded_labels_are_brought_to_a_sum_of_1():
    rounded = (TARGETS[:, 0] * 100).round() / 100 + 0.005
    ours = distilled_cross_entropy(torch.zeros(8, 4), rounded)
    assert torch.allclose(ours.loss, torch.tensor(4.0).log(), atol=1e-6)


@pytest.mark.parametrize("weights", [[0, 0], [1, -1], [1, float("nan")], [1, float("inf")]])
def test_bad_weights_are_named(weights):
    pairs = list(zip(weights, TARGETS.unbind(1), strict=True))
    with pytest.raises(ValueError, match="labels: expected weights >= 0, one of them above 0"):
        distilled_cross_entropy(Z[:, :4], pairs)


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
