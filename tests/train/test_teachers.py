import dataclasses
import re

import pytest
import timm
import torch
import torch.nn.functional as F
from torchvision.transforms import v2

from genscl_lite.datasets import few_labels, load_data
from genscl_lite.datasets.splits import paths
from genscl_lite.train import objective
from genscl_lite.train.config import TrainConfig
from genscl_lite.train.loop import pretrain
from genscl_lite.train.methods import METHODS
from genscl_lite.train.state import new_model
from genscl_lite.train.teachers import Renormalize, load_teacher, teacher_path
from genscl_lite.train.weights import save_weights
from tests.folders import make_digit_folder, scan_folder


@pytest.fixture
def save(quick, digits, tmp_path):
    """Leaves the weights of a teacher with a seed and returns them."""

    def run(seed, **changes):
        config = quick("teacher", seed=seed, **changes)
        torch.manual_seed(seed)
        model = new_model(config, digits)
        save_weights(
            tmp_path / f"seed{seed}" / "model.safetensors", model, config=dataclasses.asdict(config)
        )
        return model.head.weight

    return run


def test_with_few_labels_the_teacher_has_the_same_seed(quick, digits, save, tmp_path):
    weights = [save(seed) for seed in range(2)]
    for seed in range(2):
        teacher = load_teacher(
            quick("genscl_kd", teacher=str(tmp_path), seed=seed, teacher_temperature=2.0), digits
        )
        assert (
            torch.equal(teacher.classifier.head.weight, weights[seed])
            and teacher.temperature == 2.0
        )
    with pytest.raises(ValueError, match="teacher: .*seed2 holds no finished run"):
        load_teacher(quick("genscl_kd", teacher=str(tmp_path), seed=2), digits)


def test_with_all_labels_the_lowest_seed_teaches_all(quick, save, tmp_path):
    for seed in (10, 9):
        save(seed, labels_per_class=0)
    config = quick("genscl_kd", teacher=str(tmp_path), seed=3, labels_per_class=0)
    assert teacher_path(config) == tmp_path / "seed9" / "model.safetensors"


def test_a_teacher_of_another_seed_knows_which_labels_are_wrong(quick, digits, save, tmp_path):
    """The seed draws them, also where all images have a label."""
    noisy = {"labels_per_class": 0, "label_noise": 0.4}
    save(0, **noisy)
    config = quick("genscl_kd", teacher=str(tmp_path), seed=1, **noisy)
    assert teacher_path(config) == tmp_path / "seed1" / "model.safetensors"
    file = str(tmp_path / "seed0" / "model.safetensors")
    with pytest.raises(ValueError, match="teacher: .* was trained with seed 0, this run needs 1"):
        load_teacher(dataclasses.replace(config, teacher=file), digits)


def test_a_file_of_weights_is_enough(quick, digits, save, tmp_path):
    weights, file = save(0, arch="resnet_small"), tmp_path / "shared.safetensors"
    (tmp_path / "seed0" / "model.safetensors").rename(file)
    teacher = load_teacher(quick("genscl_kd", teacher=str(file)), digits)
    assert torch.equal(teacher.classifier.head.weight, weights)
    with pytest.raises(ValueError, match="teacher: .* was trained with seed 0, this run needs 7"):
        load_teacher(quick("genscl_kd", teacher=str(file), seed=7), digits)


def test_an_own_encoder_cannot_be_rebuilt_from_its_file(quick, digits, save, tmp_path):
    save(0)
    path = tmp_path / "seed0" / "model.safetensors"
    config = dataclasses.asdict(quick("teacher", arch="custom"))
    save_weights(path, new_model(quick("teacher"), digits), config=config)
    with pytest.raises(
        ValueError, match="teacher: .*holds an encoder of its own; build it and give it as pretrain"
    ):
        load_teacher(quick("genscl_kd", teacher=str(tmp_path)), digits)


def test_an_expert_knows_all_labels_and_teaches_every_seed(quick, digits, save, tmp_path):
    weights = save(4, labels_per_class=0)
    config = quick("genscl_mix_kd_expert", teacher=str(tmp_path), seed=7)
    assert torch.equal(load_teacher(config, digits).classifier.head.weight, weights)
    with pytest.raises(
        ValueError, match="teacher: .*seed4 was trained with labels_per_class 0, this run needs 3"
    ):
        load_teacher(
            quick("genscl_kd", teacher=str(tmp_path / "seed4" / "model.safetensors"), seed=4),
            digits,
        )


# Classifiers of timm by name

NAMED = "timm/resnet18.tv_in1k"


@pytest.fixture
def ten(monkeypatch):
    """Ten of ImageNet's classes, all that timm's weights then know; what is built; nothing is downloaded."""
    names, built, create = [f"n0144076{digit}" for digit in range(10)], [], timm.create_model

    def without_download(name, pretrained, **options):
        built.append((name, pretrained))
        return create(name, pretrained=False, num_classes=10, **options)

    monkeypatch.setattr(timm, "create_model", without_download)
    monkeypatch.setattr(timm.data.ImageNetInfo, "label_names", lambda self: names)
    return names, built


def test_a_classifier_of_timm_teaches(quick, rgb, ten):
    """It is asked for with its weights, and gets images normalized as it expects."""
    names, built = ten
    numbered = dataclasses.replace(rgb, class_names=tuple(names))
    teacher = load_teacher(quick("genscl_kd", teacher=NAMED, teacher_temperature=2.0), numbered)
    assert built == [("resnet18.tv_in1k", True)]
    pixels = rgb.test_images[:9] / 255
    normalize = v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # this network's own
    logits = teacher.classifier[1].eval()(normalize(pixels))
    assert torch.allclose(teacher(rgb.normalize(pixels)), F.softmax(logits / 2, dim=1), atol=1e-5)


def test_normalization_is_undone_channel_by_channel():
    own = {"mean": (0.1, 0.4, 0.8), "std": (0.5, 0.25, 2.0)}
    dataset = dataclasses.make_dataclass("Normalized", own)(**own)
    pixels = torch.rand(4, 3, 5, 6, generator=torch.Generator().manual_seed(0))
    theirs = v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))(pixels)
    assert torch.allclose(
        Renormalize(dataset, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))(
            v2.Normalize(**own)(pixels)
        ),
        theirs,
        atol=1e-5,
    )


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda names: names[::-1], "has other classes, or another order: 0: n01440760 there, n01440769 here, .* and 7 more"),
        (lambda names: [*names[:9], "nine"], "has other classes, or another order: 9: n01440769 there, nine here"),
        (lambda names: names[:9], "knows 10 classes, digits has 9"),
    ],
)  # fmt: skip
def test_other_classes_or_another_order_are_refused(change, message, quick, rgb, ten):
    names, built = ten
    dataset = dataclasses.replace(rgb, class_names=tuple(change(names)))
    with pytest.raises(ValueError, match=f"^teacher: {NAMED} {message}$"):
        load_teacher(quick("genscl_kd", teacher=NAMED), dataset)
    assert not built


@pytest.mark.parametrize(
    "name, message",
    [
        ("timm/resnet51", "'timm/resnet51' is unknown"),
        ("torchvision/resnet50@IMAGENET1K_V2", "'torchvision/resnet50@IMAGENET1K_V2': named networks now come from timm; write 'timm/resnet50'$"),
        ("timm/vit_base_patch16_dinov3.lvd1689m", "timm/vit.* does not tell its classes"),
    ],
)  # fmt: skip
def test_a_name_that_cannot_teach_is_one_line(name, message, quick, rgb):
    with pytest.raises(ValueError, match=f"^teacher: {message}"):
        load_teacher(quick("genscl_kd", teacher=name), rgb)


# A table of what a teacher said


@pytest.fixture
def folder(tmp_path):
    """The configuration of a folder of 18 images to train on, with a teacher's CSV, and what it says of each file."""
    root = make_digit_folder(
        tmp_path / "digits", per_class=8, classes=3, splits={"train": 0.75, "val": 0.25}
    )
    files = scan_folder(root)
    said = {
        file: torch.rand(3, generator=torch.Generator().manual_seed(i)).softmax(0)
        for i, file in enumerate([*paths(files.train), *paths(files.test), "elsewhere/1.png"])
    }
    order = files.class_names[::-1]
    rows = [
        ",".join([file, *(f"{x:.9f}" for x in said[file].flip(0).tolist())])
        for file in sorted(said, reverse=True)
    ]
    (tmp_path / "said.csv").write_text("\n".join([",".join(["path", *order]), *rows]))
    config = TrainConfig(
        method="genscl_kd",
        dataset="folder",
        image_size=16,
        labels_per_class=0,
        resident="always",
        teacher=str(tmp_path / "said.csv"),
        epochs=1,
        warmup_epochs=0,
        batch_size=6,
        augmentation="none",
    )
    return config, root, said


def test_a_table_speaks_for_the_training_files_in_their_order(folder):
    """Rows of other files, of the other split or none at all, are passed over."""
    config, root, said = folder
    dataset = load_data(config, root)
    table = load_teacher(config, dataset)
    assert len(table) == 18
    assert torch.allclose(table, torch.stack([said[file] for file in dataset.train_files]))
    few = few_labels(dataset, 2, seed=1)
    assert torch.equal(
        load_teacher(config, few),
        table[[dataset.train_files.index(file) for file in few.train_files]],
    )


def test_only_methods_with_kd_read_a_table(folder):
    config, root, _ = folder
    dataset = load_data(config, root)
    for method in METHODS:
        table = load_teacher(dataclasses.replace(config, method=method), dataset)
        assert (table is not None) == METHODS[method].distils


def test_a_table_needs_files_and_a_row_for_each(folder, quick, digits, tmp_path):
    config, root, _ = folder
    with pytest.raises(
        ValueError,
        match="^teacher: a CSV names files, and digits has none; it goes with dataset folder$",
    ):
        load_teacher(quick("genscl_kd", teacher=config.teacher), digits)
    lines = (tmp_path / "said.csv").read_text().splitlines()
    (tmp_path / "said.csv").write_text(
        "\n".join(line for line in lines if not line.startswith("train/one/000"))
    )
    with pytest.raises(
        ValueError,
        match=f"^teacher: {re.escape(config.teacher)}: 1 of 18 training files have no row: ",
    ):
        load_teacher(config, load_data(config, root))


def test_training_learns_from_the_table(folder, monkeypatch):
    """In one batch of all images, each row's second target is what the table says of that image."""
    config, root, said = folder
    config = dataclasses.replace(config, batch_size=18)
    dataset, seen = load_data(config, root), []
    expected = torch.stack([said[file] for file in dataset.train_files])
    loss = objective.batch_loss
    monkeypatch.setattr(objective, "batch_loss", lambda *step: seen.append(step) or loss(*step))
    pretrain(config, dataset, device="cpu")
    [(_, _, targets, index)] = seen
    assert torch.equal(targets[:, 0], torch.eye(3)[dataset.train_labels[index]].repeat(2, 1))
    assert torch.allclose(targets[:, 1], expected[index].repeat(2, 1)) and targets.shape == (
        36,
        2,
        3,
    )
