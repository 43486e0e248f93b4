import pytest
import safetensors.torch
import torch
from torch import nn

from genscl_lite.datasets.files import RunFolderError
from genscl_lite.train.weights import load_weights, read_about, save_weights


def network(width=3):
    return nn.Sequential(nn.Conv2d(1, width, 3), nn.BatchNorm2d(width)).to(
        memory_format=torch.channels_last
    )


def test_weights_and_what_belongs_to_them_come_back(tmp_path):
    path, saved, loaded = tmp_path / "model.safetensors", network(), network()
    save_weights(
        path,
        saved,
        config={"arch": "resnet18", "ema": 0.9},
        summary={"accuracy_last": 0.5, "seconds": None},
    )
    assert read_about(path) == {
        "config": {"arch": "resnet18", "ema": 0.9},
        "summary": {"accuracy_last": 0.5, "seconds": None},
    }
    load_weights(path, loaded)
    assert all(
        torch.equal(value, loaded.state_dict()[name]) for name, value in saved.state_dict().items()
    )
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]


def test_tied_weights_are_no_trouble(tmp_path):
    tied = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    tied[1].weight = tied[0].weight
    save_weights(tmp_path / "tied.safetensors", tied, config={"arch": "custom"}, names=["pt"])
    assert read_about(tmp_path / "tied.safetensors") == {
        "config": {"arch": "custom"},
        "names": ["pt"],
    }
    other = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    other[1].weight = other[0].weight
    load_weights(tmp_path / "tied.safetensors", other)
    assert torch.equal(other[0].weight, tied[0].weight)
    state = safetensors.torch.load_file(tmp_path / "tied.safetensors")
    assert state.keys() == tied.state_dict().keys()
    assert torch.equal(state["1.weight"], tied[0].weight)


def test_tied_weights_are_read_from_files_that_hold_them_once(tmp_path):
    """As safetensors' own ``save_model``, and earlier versions, write them."""
    tied, path = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), tmp_path / "once.safetensors"
    tied[1].weight = tied[0].weight
    safetensors.torch.save_model(tied, str(path), metadata={"config": "{}"})
    assert len(safetensors.torch.load_file(path)) == 3
    other = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    other[1].weight = other[0].weight
    for parts in (True, False):
        load_weights(path, other, parts=parts)
        assert torch.equal(other[0].weight, tied[0].weight)
    assert read_about(path) == {"config": {}}


def test_a_compiled_part_has_the_networks_own_names(tmp_path):
    plain, path = network(), tmp_path / "model.safetensors"
    compiled = nn.ModuleDict({"encoder": torch.compile(plain, backend="eager")})
    save_weights(path, compiled)
    expected = set(nn.ModuleDict({"encoder": plain}).state_dict())
    assert safetensors.torch.load_file(path).keys() == expected
    others = (network() for _ in range(2))
    for encoder in (next(others), torch.compile(next(others), backend="eager")):
        load_weights(path, nn.ModuleDict({"encoder": encoder}))
        assert torch.equal(next(encoder.parameters()), plain[0].weight)


def test_a_part_that_the_model_has_not_is_left_and_nothing_else(tmp_path):
    path, saved, loaded = tmp_path / "model.safetensors", network(), network()
    save_weights(path, nn.ModuleDict({"encoder": saved, "probe": nn.Linear(3, 2)}))
    load_weights(path, nn.ModuleDict({"encoder": loaded}))
    assert torch.equal(loaded[0].weight, saved[0].weight)
    with pytest.raises(
        RunFolderError, match="of another model .head.bias is on one side only, and 1 more"
    ):
        load_weights(path, nn.ModuleDict({"encoder": network(), "head": nn.Linear(3, 2)}))
    with pytest.raises(
        RunFolderError, match="of another model .encoder.1.bias is on one side only, and 4 more"
    ):
        load_weights(path, nn.ModuleDict({"encoder": network()[:1]}))


def test_a_file_of_one_network_has_no_other_parts(tmp_path):
    """A classifier that the network has left out is passed over, what else it has not is an error."""
    path, whole = (
        tmp_path / "x.safetensors",
        nn.ModuleDict({"body": network(), "fc": nn.Linear(3, 2)}),
    )
    save_weights(path, whole)
    headless = nn.ModuleDict({"body": network(), "fc": nn.Identity()})
    load_weights(path, headless, parts=False)
    assert torch.equal(headless["body"][0].weight, whole["body"][0].weight)
    with pytest.raises(
        RunFolderError, match="of another model .fc.bias is on one side only, and 1"
    ):
        load_weights(path, nn.ModuleDict({"body": network()}), parts=False)


def test_damaged_and_foreign_files_are_named(tmp_path):
    path = tmp_path / "model.safetensors"
    save_weights(path, network(), config={})
    with pytest.raises(RunFolderError, match="model.safetensors: damaged, or of another model"):
        load_weights(path, network(width=4))
    path.write_bytes(path.read_bytes()[:100])
    for read in (read_about, lambda path: load_weights(path, network())):
        with pytest.raises(RunFolderError, match="model.safetensors: damaged"):
            read(path)
