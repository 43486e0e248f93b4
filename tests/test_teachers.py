import dataclasses

import pytest
import torch

from genscl_lite.runs import new_model
from genscl_lite.teachers import load_teacher, teacher_path
from genscl_lite.weights import save_weights


@pytest.fixture
def save(quick, digits, tmp_path):
    """Leaves the weights of a teacher with a seed and returns them."""

    def run(seed, **changes):
        config = quick("teacher", seed=seed, **changes)
        torch.manual_seed(seed)
        model = new_model(config, digits)
        save_weights(tmp_path / f"seed{seed}" / "model.safetensors", model, config=dataclasses.asdict(config))
        return model.head.weight

    return run


def test_with_few_labels_the_teacher_has_the_same_seed(quick, digits, save, tmp_path):
    weights = [save(seed) for seed in range(2)]
    for seed in range(2):
        teacher = load_teacher(quick("genscl_kd", teacher=str(tmp_path), seed=seed, teacher_temperature=2.0), digits)
        assert torch.equal(teacher.classifier.head.weight, weights[seed]) and teacher.temperature == 2.0
    with pytest.raises(ValueError, match="teacher: .*seed2 holds no finished run"):
        load_teacher(quick("genscl_kd", teacher=str(tmp_path), seed=2), digits)


def test_with_all_labels_the_lowest_seed_teaches_all(quick, save, tmp_path):
    for seed in (10, 9):
        save(seed, labels_per_class=0)
    config = quick("genscl_kd", teacher=str(tmp_path), seed=3, labels_per_class=0)
    assert teacher_path(config) == tmp_path / "seed9" / "model.safetensors"


def test_a_file_of_weights_is_enough(quick, digits, save, tmp_path):
    weights, file = save(0, arch="resnet_small"), tmp_path / "shared.safetensors"
    (tmp_path / "seed0" / "model.safetensors").rename(file)
    teacher = load_teacher(quick("genscl_kd", teacher=str(file), seed=7), digits)
    assert torch.equal(teacher.classifier.head.weight, weights)


def test_an_own_encoder_cannot_be_rebuilt_from_its_file(quick, digits, save, tmp_path):
    save(0)
    path = tmp_path / "seed0" / "model.safetensors"
    config = dataclasses.asdict(quick("teacher", arch="custom"))
    save_weights(path, new_model(quick("teacher"), digits), config=config)
    with pytest.raises(ValueError, match="teacher: .*holds an encoder of its own; build it and give it as pretrain"):
        load_teacher(quick("genscl_kd", teacher=str(tmp_path)), digits)
