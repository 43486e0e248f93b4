import torch
from torch import nn

from genscl_lite.momentum import MomentumEncoder
from genscl_lite.wrappers import named_tensors, unwrapped


def partly_wrapped():
    plain = nn.Sequential(nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)), nn.Linear(3, 2))
    compiled = torch.compile(plain[0], backend="eager")
    return plain, nn.Sequential(compiled, nn.DataParallel(plain[1]))


def test_a_part_that_is_wrapped_has_the_networks_own_names():
    plain, wrapped = partly_wrapped()
    assert list(named_tensors(wrapped)) == list(named_tensors(plain))
    key = MomentumEncoder(wrapped, 0)
    assert list(key.encoder.state_dict()) == list(plain.state_dict())
    plain[0][0].weight.data += 1
    key.update(wrapped)
    assert torch.equal(key.encoder[0][0].weight, plain[0][0].weight)
    assert isinstance(wrapped[1], nn.DataParallel)  # the caller's is as it was


def test_an_unwrapped_network_shares_its_tensors():
    plain, wrapped = partly_wrapped()
    bare = unwrapped(wrapped)
    assert list(bare.state_dict()) == list(plain.state_dict())
    for ours, theirs in zip(
        named_tensors(bare).values(), named_tensors(plain).values(), strict=True
    ):
        assert ours is theirs
    images = torch.randn(5, 4)
    assert torch.equal(bare.eval()(images), plain.eval()(images))


def test_a_network_without_wrappers_is_itself():
    plain, _ = partly_wrapped()
    plain.never_copied = (line for line in "abc")
    assert unwrapped(plain) is plain
