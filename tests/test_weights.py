import pytest
import torch
from torch import nn

from genscl_lite.runfolder import RunFolderError
from genscl_lite.weights import load_weights, read_about, save_weights


def network(width=3):
    return nn.Sequential(nn.Conv2d(1, width, 3), nn.BatchNorm2d(width)).to(memory_format=torch.channels_last)


def test_weights_and_what_belongs_to_them_come_back(tmp_path):
    path, saved, loaded = tmp_path / "model.safetensors", network(), network()
    save_weights(path, saved, config={"arch": "resnet18", "ema": 0.9}, summary={"accuracy_last": 0.5, "seconds": None})
    assert read_about(path) == {"config": {"arch": "resnet18", "ema": 0.9}, "summary": {"accuracy_last": 0.5, "seconds": None}}
    load_weights(path, loaded)
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in saved.state_dict().items())
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]


def test_tied_weights_are_no_trouble(tmp_path):
    tied = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    tied[1].weight = tied[0].weight
    save_weights(tmp_path / "tied.safetensors", tied)
    other = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    other[1].weight = other[0].weight
    load_weights(tmp_path / "tied.safetensors", other)
    assert torch.equal(other[0].weight, tied[0].weight)


def test_damaged_and_foreign_files_are_named(tmp_path):
    path = tmp_path / "model.safetensors"
    save_weights(path, network(), config={})
    with pytest.raises(RunFolderError, match="model.safetensors: damaged, or of another model"):
        load_weights(path, network(width=4))
    path.write_bytes(path.read_bytes()[:100])
    for read in (read_about, lambda path: load_weights(path, network())):
        with pytest.raises(RunFolderError, match="model.safetensors: damaged"):
            read(path)
