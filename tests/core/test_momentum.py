import pytest
import torch
from torch import nn

from genscl_lite.momentum import LabelledQueue, MomentumEncoder


def network():
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))


def test_parameters_and_running_statistics_are_averaged_counts_are_copied():
    query = network()
    key = MomentumEncoder(query, momentum=0.9)
    before = {name: value.clone() for name, value in key.encoder.state_dict().items()}
    for parameter in query.parameters():
        parameter.data += torch.randn_like(parameter)
    query(torch.randn(32, 4))  # moves the running statistics
    key.update(query)
    for name, now in query.state_dict().items():
        ours = key.encoder.state_dict()[name]
        expected = now if name.endswith("num_batches_tracked") else 0.9 * before[name] + 0.1 * now
        assert torch.allclose(ours, expected, atol=1e-6), name
    assert not torch.equal(before["1.running_mean"], key.encoder.state_dict()["1.running_mean"])


def test_tied_weights_move_once():
    query = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    query[1].weight = query[0].weight
    key, before = MomentumEncoder(query, momentum=0.9), query[0].weight.detach().clone()
    query[0].weight.data += 1
    key.update(query)
    assert torch.allclose(key.encoder[1].weight, before + 0.1)


def test_momentum_zero_copies():
    query, key = network(), None
    key = MomentumEncoder(query, momentum=0)
    query[0].weight.data += 1
    key.update(query)
    assert torch.equal(key.encoder[0].weight, query[0].weight)


def test_a_key_depends_on_its_own_image_alone():
    key = MomentumEncoder(network()).train()
    images = torch.randn(16, 4)
    together = key(images)
    alone = torch.cat([key(image[None]) for image in images])
    assert torch.allclose(together, alone, atol=1e-6)
    assert not together.requires_grad and not any(p.requires_grad for p in key.parameters())
    assert not key.encoder.training


def test_keys_come_from_evaluation_mode_whoever_trains_the_encoder():
    key, images = MomentumEncoder(network()), torch.randn(6, 4)
    keys, mean = key(images), key.encoder[1].running_mean.clone()
    for change in (key.train, key.encoder.train, key.encoder[1].train):
        change()
        assert torch.equal(key(images), keys) and torch.equal(key.encoder[1].running_mean, mean)


def test_the_encoder_is_copied_not_shared():
    query = network()
    before = query[0].weight.clone()
    MomentumEncoder(query).encoder[0].weight.data += 1
    assert torch.equal(query[0].weight, before) and query.training


def test_another_structure_is_refused():
    with pytest.raises(ValueError, match="encoder: expected the structure"):
        MomentumEncoder(network()).update(nn.Linear(4, 8))
    with pytest.raises(
        ValueError, match="encoder: .* weight is of another shape, or on one side only"
    ):
        MomentumEncoder(nn.Linear(4, 8)).update(nn.Linear(5, 8))
    with pytest.raises(ValueError, match="encoder: expected a Module, got NoneType"):
        MomentumEncoder(network()).update(None)
    with pytest.raises(ValueError, match="momentum: expected a number in .0, 1., got '0.9'"):
        MomentumEncoder(network(), momentum="0.9")
    with pytest.raises(ValueError, match="momentum: "):
        MomentumEncoder(network(), momentum=1.0)


def rows(first, count, width):
    return torch.arange(first, first + count).float()[:, None].expand(count, width)


@pytest.mark.parametrize("batches", [[3, 3, 3, 3], [5, 5, 5], [7, 7], [1] * 20, [4, 2, 7, 3, 1]])
def test_the_queue_holds_the_latest_rows_with_their_labels(batches):
    queue, seen = LabelledQueue(7, latent_dim=2, label_shape=3), 0
    for count in batches:
        queue.enqueue(rows(seen, count, 2), rows(seen, count, 3))
        seen += count
        latents, labels = queue.contents()
        assert sorted(latents[:, 0].tolist()) == list(range(max(0, seen - 7), seen))
        assert torch.equal(latents[:, 0], labels[:, 0])  # they travel together


def test_empty_slots_are_not_given_out():
    queue = LabelledQueue(100, 2, 3)
    assert [len(t) for t in queue.contents()] == [0, 0]
    queue.enqueue(torch.ones(4, 2), torch.ones(4, 3))
    assert [len(t) for t in queue.contents()] == [4, 4]


def test_contents_stay_when_the_queue_moves_on():
    queue = LabelledQueue(4, 2, 3)
    queue.enqueue(rows(0, 4, 2), rows(0, 4, 3))
    latents, _ = queue.contents()
    queue.enqueue(rows(9, 4, 2), rows(9, 4, 3))
    assert torch.equal(latents, rows(0, 4, 2))


def test_state_goes_on_where_it_was():
    queue, copy = LabelledQueue(5, 2, (2, 3)), LabelledQueue(5, 2, (2, 3))
    queue.enqueue(torch.rand(3, 2), torch.rand(3, 2, 3))
    copy.load_state_dict(queue.state_dict())
    more = torch.rand(4, 2), torch.rand(4, 2, 3)
    queue.enqueue(*more)
    copy.enqueue(*more)
    assert all(torch.equal(a, b) for a, b in zip(queue.contents(), copy.contents(), strict=True))


def test_bad_input_is_named():
    queue = LabelledQueue(4, 2, 3)
    with pytest.raises(
        ValueError, match="queue_size: expected at least the 5 keys of a batch, got 4"
    ):
        queue.enqueue(torch.ones(5, 2), torch.ones(5, 3))
    with pytest.raises(ValueError, match="queue: expected latents and labels of shapes"):
        queue.enqueue(torch.ones(2, 2), torch.ones(3, 3))
    with pytest.raises(ValueError, match="queue: expected sizes above 0"):
        LabelledQueue(0, 2, 3)
    for sizes in ((2.5, 2, 3), (4, "2", 3), (4, 2, None), (4, 2, (3, 0)), (4, 2, "ab")):
        with pytest.raises(ValueError, match="queue: expected sizes above 0"):
            LabelledQueue(*sizes)
    with pytest.raises(ValueError, match="queue: .* got .. and .."):
        queue.enqueue(torch.tensor(1.0), torch.tensor(1.0))
    with pytest.raises(ValueError, match="labels: expected a Tensor, got list"):
        queue.enqueue(torch.ones(2, 2), [[1.0] * 3] * 2)
    assert queue.filled == 0
