import pytest
import torch
import torch.distributed as dist
from torch import nn

from genscl_lite.momentum import LabelledQueue, MomentumEncoder
from genscl_lite.wrappers import bare_copy


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


def batch_normalized(query, images):
    """What a network in training mode gives, without what that does to it."""
    with torch.no_grad():
        return bare_copy(query).train()(images)


def test_keys_of_batch_statistics_are_normalized_by_their_batch():
    query = network()
    key, images = MomentumEncoder(query, batch_statistics=True), 3 + torch.randn(16, 4)
    assert torch.allclose(key(images), batch_normalized(query, images), atol=1e-6)
    averaged = MomentumEncoder(query)
    assert not torch.allclose(averaged(images), key(images), atol=0.1)


@pytest.mark.parametrize("batch_statistics", [False, True])
def test_keys_leave_all_statistics_and_dropout_alone(batch_statistics):
    query = nn.Sequential(
        nn.utils.parametrizations.spectral_norm(nn.Linear(4, 8)),
        nn.BatchNorm1d(8, momentum=None),
        nn.Dropout(0.5),
        nn.BatchNorm1d(8, affine=False),
    )
    key = MomentumEncoder(query, batch_statistics=batch_statistics).train()
    before = {name: tensor.clone() for name, tensor in key.state_dict().items()}
    images = torch.randn(6, 4)
    keys = key(images)
    for change in (key.train, key.encoder.train, key.encoder[3].train, key.encoder[1].eval):
        change()
        assert torch.equal(key(images), keys) and not keys.requires_grad
    assert before.keys() == key.state_dict().keys()
    for name, tensor in key.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_statistics_follow_the_encoder_whatever_keys_are_normalized_with():
    query = network()
    averaged, batch = (MomentumEncoder(query, 0.9, batch_statistics=b) for b in (False, True))
    for _ in range(3):
        query(5 + torch.randn(32, 4))
        for key in (averaged, batch):
            key(torch.randn(8, 4))
            key.update(query)
    for name, tensor in averaged.state_dict().items():
        assert torch.equal(tensor, batch.state_dict()[name]), name
    assert averaged.encoder[1].running_mean.abs().max() > 0.1
    assert averaged.encoder[1].num_batches_tracked == 3
    averaged.load_state_dict(batch.state_dict())


def compiled_eagerly(module):
    return torch.compile(module, backend="eager")


@pytest.fixture
def one_process(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_wrappers_are_looked_through(one_process):
    query = network()
    expected, images = bare_copy(query), torch.randn(5, 4)
    wrappers = (
        nn.DataParallel,
        nn.parallel.DistributedDataParallel,
        compiled_eagerly,
        lambda module: compiled_eagerly(nn.parallel.DistributedDataParallel(module)),
        lambda module: nn.DataParallel(compiled_eagerly(module)),
    )
    for wrap in wrappers:
        for key, followed in (
            (MomentumEncoder(query, 0), wrap(query)),
            (MomentumEncoder(wrap(query), 0), query),
        ):
            assert key.state_dict().keys() == MomentumEncoder(network()).state_dict().keys()
            query[0].weight.data += 1
            expected[0].weight.data.copy_(query[0].weight)
            key.update(followed)
            assert torch.equal(key.encoder[0].weight, query[0].weight)
            assert torch.allclose(key(images), expected.eval()(images))


@pytest.mark.parametrize(
    "norm",
    [
        nn.utils.weight_norm,
        nn.utils.spectral_norm,
        nn.utils.parametrizations.weight_norm,
        nn.utils.parametrizations.orthogonal,
    ],
)
@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated:FutureWarning")
def test_networks_with_computed_weights_are_copied_and_followed(norm):
    query = nn.Sequential(norm(nn.Linear(4, 4)), nn.ReLU(), nn.Linear(4, 3))
    images = torch.randn(5, 4)
    query(images).sum().backward()
    key = MomentumEncoder(query, momentum=0)
    assert torch.allclose(key(images), query.eval()(images), atol=1e-6)
    for parameter in query.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    assert not torch.allclose(key(images), query(images), atol=1e-6)
    key.update(query)
    assert torch.allclose(key(images), query(images), atol=1e-6)


def test_what_cannot_be_copied_is_refused_in_a_line():
    query = network()
    query.open_file = (line for line in "abc")
    with pytest.raises(ValueError, match="^encoder: expected a module that copy.deepcopy copies, "):
        MomentumEncoder(query)


@pytest.mark.parametrize("batch_statistics", [False, True])
def test_a_compiled_momentum_encoder_gives_the_same_keys(batch_statistics):
    key = MomentumEncoder(network(), 0.5, batch_statistics=batch_statistics)
    compiled, images = torch.compile(key, backend="eager", fullgraph=True), torch.randn(6, 4)
    assert torch.allclose(compiled(images), key(images))
    key.update(network())
    assert torch.allclose(compiled(images), key(images))


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


def test_class_numbers_stay_integers():
    queue = LabelledQueue(5, 2)
    queue.enqueue(torch.ones(3, 2), torch.tensor([4, 2**40, 0]))
    queue.enqueue(torch.ones(3, 2), torch.tensor([7, 8, 9], dtype=torch.uint8))
    assert queue.contents()[1].tolist() == [9, 2**40, 0, 7, 8]
    with pytest.raises(ValueError, match="labels: expected integers as class numbers, got .*float"):
        queue.enqueue(torch.ones(2, 2), torch.tensor([0.0, 1.0]))
    with pytest.raises(ValueError, match="queue: expected latents and labels of shapes"):
        queue.enqueue(torch.ones(2, 2), torch.eye(2))


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
