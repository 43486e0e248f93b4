import dataclasses
import json
import re
import shutil

import numpy as np
import pytest
import safetensors.torch
import torch
import torchvision
from PIL import Image
from torch import nn

from genscl_lite.datasets.decode import center_crop, read_rgb
from genscl_lite.datasets.files import RunFolderError
from genscl_lite.datasets.images import ImageFiles
from genscl_lite.runs.finish import encode, finish_run, probe_run
from genscl_lite.runs.trained import Encoder
from genscl_lite.tools.cli import main
from genscl_lite.train.config import TrainConfig
from genscl_lite.train.evaluate import extract
from genscl_lite.train.loop import pretrain
from genscl_lite.train.state import kept_parts
from genscl_lite.train.weights import read_about, save_weights
from tests.conftest import QUICK
from tests.folders import make_digit_folder

SHORT = {"epochs": 1, "warmup_epochs": 0, "probe_epochs": 1, "eval_every": 9}


def train(dataset, folder, method="supcon", encoder=None, **changes):
    config = TrainConfig(**QUICK | {"method": method} | changes)
    run = pretrain(config, dataset, folder, encoder=encoder)
    finish_run(run, dataset, folder)
    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Holds supcon/seed0 and ce/seed0 of digits."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def contrastive(digits, folder):
    return train(digits, folder / "supcon" / "seed0")


@pytest.fixture(scope="module")
def classifier(digits, folder):
    return train(digits, folder / "ce" / "seed0", "ce")


@pytest.fixture(scope="module")
def loaded(contrastive, folder):
    return Encoder.load(folder / "supcon" / "seed0")


@pytest.fixture(scope="module")
def few(rgb):
    """Twelve and eight color images, for larger networks."""
    return dataclasses.replace(
        rgb,
        train_images=rgb.train_images[:12],
        train_labels=rgb.train_labels[:12],
        test_images=rgb.test_images[:8],
        test_labels=rgb.test_labels[:8],
    )


@pytest.fixture(scope="module")
def color(few, tmp_path_factory):
    """A run of timm's ResNet-18 on 32 x 32 color images: its folder."""
    folder = tmp_path_factory.mktemp("color")
    train(few, folder, arch="timm/resnet18", **SHORT)
    return folder


def accuracy(names, dataset):
    right = [
        dataset.class_names[label] == name
        for name, label in zip(names, dataset.test_labels.tolist(), strict=True)
    ]
    return sum(right) / len(right)


def pictures(dataset, number):
    """The first test images of digits as PIL images, gray and 8 x 8."""
    return [Image.fromarray(image[0].numpy()) for image in dataset.test_images[:number]]


# The run in memory and the run from its folder


def test_all_is_as_it_was_in_memory(contrastive, loaded, digits):
    images = digits.test_images
    assert accuracy(loaded.predict(images), digits) == loaded.summary["accuracy_last"]
    assert torch.equal(loaded.features(images), extract(contrastive.result.encoder, digits, images))
    assert torch.equal(loaded.latents(images), extract(contrastive.result, digits, images))
    probe = probe_run(contrastive, digits, encode(contrastive, digits, images))
    logits = probe.classifier(loaded.features(images))
    assert torch.equal(loaded.probabilities(images), logits.softmax(dim=1))
    assert not loaded.model.training and not loaded.probabilities(images).requires_grad
    assert loaded.features(images).dtype == torch.float32
    assert (loaded.class_names, loaded.image_shape, loaded.config) == (
        digits.class_names,
        (1, 8, 8),
        contrastive.config,
    )


def test_a_classifier_has_its_head_and_no_latents(classifier, folder, digits):
    loaded = Encoder.load(folder / "ce" / "seed0")
    assert accuracy(loaded.predict(digits.test_images), digits) == loaded.summary["head_accuracy"]
    logits = extract(classifier.result, digits, digits.test_images)
    assert torch.equal(loaded.probabilities(digits.test_images), logits.softmax(dim=1))
    assert not any(
        name.startswith("probe") for name in names_in(folder / "ce" / "seed0" / "model.safetensors")
    )
    with pytest.raises(ValueError, match="latents: method ce is a classifier"):
        loaded.latents(digits.test_images)


def test_an_average_over_weights_is_what_is_loaded(digits, tmp_path):
    run = train(digits, tmp_path, ema=0.8)
    loaded = Encoder.load(tmp_path)
    averaged, trained = (
        extract(model.encoder, digits, digits.test_images)
        for model in (run.average.encoder, run.model)
    )
    assert torch.equal(loaded.features(digits.test_images), averaged) and not torch.equal(
        averaged, trained
    )
    assert accuracy(loaded.predict(digits.test_images), digits) == loaded.summary["accuracy_last"]


def test_a_run_is_its_folder_or_that_of_its_only_seed_or_its_file(
    contrastive, folder, loaded, digits, tmp_path
):
    file = shutil.copy(
        folder / "supcon" / "seed0" / "model.safetensors", tmp_path / "shared.safetensors"
    )
    for path in (folder / "supcon", file, str(file)):
        assert torch.equal(
            Encoder.load(path).features(digits.test_images), loaded.features(digits.test_images)
        )


def test_loading_leaves_the_random_state_alone(contrastive, folder):
    before = torch.get_rng_state()
    Encoder.load(folder / "supcon" / "seed0")
    assert torch.equal(torch.get_rng_state(), before)


def test_an_encoder_of_ones_own_is_given_as_a_module(digits, tmp_path):
    def own(width=9):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU())

    run = train(digits, tmp_path, arch="custom", encoder=own())
    module = own()
    loaded = Encoder.load(tmp_path, module=module)
    assert loaded.model.encoder is module
    assert torch.equal(
        loaded.features(digits.test_images), extract(run.result.encoder, digits, digits.test_images)
    )
    with pytest.raises(
        ValueError,
        match="module: .* holds an encoder of its own .arch custom.; build it and give it",
    ):
        Encoder.load(tmp_path)
    with pytest.raises(
        RunFolderError, match="model.safetensors: damaged, or of another model .*size mismatch"
    ):
        Encoder.load(tmp_path, module=own(8))
    with pytest.raises(
        RunFolderError, match="of another model .encoder.3.bias is on one side only, and 1 more"
    ):
        Encoder.load(tmp_path, module=nn.Sequential(*own(), nn.Linear(9, 9)))


# What is no finished run


def test_what_is_no_finished_run_is_named(contrastive, folder, loaded, digits, tmp_path):
    file = folder / "supcon" / "seed0" / "model.safetensors"
    with pytest.raises(ValueError, match="path: .*nowhere does not exist; expected a run's folder"):
        Encoder.load(tmp_path / "nowhere")
    with pytest.raises(
        ValueError, match="path: .* holds no finished run; expected a folder METHOD/seedN"
    ):
        Encoder.load(tmp_path)
    pretrain(contrastive.config, digits, tmp_path / "supcon" / "seed2")
    for path in ("supcon", "supcon/seed2"):
        with pytest.raises(
            ValueError, match="path: the run in .*seed2 is not finished; the command that began it"
        ):
            Encoder.load(tmp_path / path)
    (tmp_path / "supcon" / "seed10").mkdir()
    with pytest.raises(
        ValueError, match="path: .*supcon holds 2 seeds; expected one of .*seed2, .*seed10"
    ):
        Encoder.load(tmp_path / "supcon")
    with pytest.raises(
        ValueError,
        match="module: .* holds a resnet_small, which is built by this name; expected None, got Id",
    ):
        Encoder.load(file, module=nn.Identity())


def test_files_that_are_damaged_or_of_another_version_are_named(
    contrastive, folder, loaded, tmp_path
):
    about, path = (
        read_about(folder / "supcon" / "seed0" / "model.safetensors"),
        tmp_path / "model.safetensors",
    )
    parts = kept_parts(loaded.model, loaded.probe)
    save_weights(path, parts, config=about["config"], summary=about["summary"])
    with pytest.raises(
        RunFolderError,
        match="model.safetensors: holds no data, an earlier version wrote it; delete the summary",
    ):
        Encoder.load(path)
    save_weights(path, parts, **about | {"config": about["config"] | {"color": "red"}})
    with pytest.raises(
        RunFolderError,
        match="model.safetensors: its header is damaged or of another version .*color",
    ):
        Encoder.load(path)
    save_weights(path, loaded.model, **about)
    with pytest.raises(RunFolderError, match="of another model .no tensor has the size 10"):
        Encoder.load(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(RunFolderError, match="model.safetensors: damaged"):
        Encoder.load(path)
    loaded.export(tmp_path / "alone.safetensors")
    with pytest.raises(
        RunFolderError,
        match="alone.safetensors: an exported encoder without its head; give the run's",
    ):
        Encoder.load(tmp_path / "alone.safetensors")


# Images


def test_images_are_tensors_files_or_pil_images(loaded, digits, tmp_path):
    images, pil = digits.test_images[:5], pictures(digits, 5)
    expected = loaded.features(images)
    assert torch.equal(loaded.features(images.double() / 255), expected)
    assert torch.allclose(loaded.features(images, rows=2), expected, rtol=1e-5, atol=1e-6)
    for number, image in enumerate(pil):
        image.save(tmp_path / f"{number}.png")
    paths = [tmp_path / f"{number}.png" for number in range(5)]
    for given in (
        pil,
        paths,
        [str(path) for path in paths],
        tuple(pil[:3] + paths[3:]),
        [p.convert("RGB") for p in pil],
    ):
        assert torch.equal(loaded.features(given), expected)
    assert loaded.predict(paths) == loaded.predict(images)


def test_gray_is_as_pil_makes_it(loaded):
    pixels = np.random.default_rng(0).integers(0, 256, size=(8, 8, 3), dtype=np.uint8)
    gray = torch.from_numpy(np.array(Image.fromarray(pixels).convert("L")))[None, None]
    assert torch.equal(loaded.features([Image.fromarray(pixels)]), loaded.features(gray))


def test_files_are_cropped_as_those_of_a_folder(color, tmp_path):
    loaded = Encoder.load(color)
    make_digit_folder(tmp_path, per_class=2, classes=2)
    files = sorted(tmp_path.rglob("*.*"))
    crops = torch.stack([center_crop(read_rgb(file), 32) for file in files])
    expected = loaded.features(crops)
    assert torch.equal(loaded.features(files), expected) and len(expected) == 4
    streamed = ImageFiles(tmp_path, [file.relative_to(tmp_path) for file in files], 32, workers=0)
    assert torch.equal(loaded.features(streamed), expected)
    turned = Image.open(files[0]).rotate(90, expand=True)
    exif = turned.getexif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    turned.save(tmp_path / "turned.png", exif=exif)
    assert torch.equal(
        loaded.features([Image.open(tmp_path / "turned.png")]), loaded.features(files[:1])
    )


WRONG_IMAGES = {
    "other size": (
        torch.zeros(2, 1, 9, 9),
        r"images: expected one or more of shape \(1, 8, 8\), got \(2, 1, 9, 9\)",
    ),
    "other channels": (
        torch.zeros(2, 3, 8, 8),
        r"images: expected one or more of shape \(1, 8, 8\), got \(2, 3, 8, 8\)",
    ),
    "one image": (
        torch.zeros(1, 8, 8),
        r"images: expected .* of shape \(N, channels, height, width\), got .* \(1, 8, 8\)",
    ),
    "up to 255": (
        torch.full((2, 1, 8, 8), 255.0),
        r"images: expected uint8, or floating point from 0 to 1, got 255 to 255",
    ),
    "below 0": (
        torch.full((2, 1, 8, 8), -0.5),
        r"images: expected uint8, or floating point from 0 to 1, got -0.5 to -0.5",
    ),
    "not a number": (
        torch.full((2, 1, 8, 8), torch.nan),
        r"images: expected uint8, or floating point from 0 to 1, got nan",
    ),
    "integers": (
        torch.zeros(2, 1, 8, 8, dtype=torch.long),
        "images: expected uint8, or floating point, of shape .*, got torch.int64",
    ),
    "none": (torch.zeros(0, 1, 8, 8), "images: expected at least one, got none"),
    "empty list": ([], "images: expected at least one, got none"),
    "a single path": (
        "a.png",
        "images: expected a tensor, ImageFiles, or a list of paths or PIL images, got str",
    ),
    "an array": (
        np.zeros((2, 1, 8, 8)),
        "images: expected a tensor, ImageFiles, or a list .*, got ndarray",
    ),
    "a list of tensors": (
        ["a.png", torch.zeros(1, 8, 8)],
        "images: expected paths or PIL images in the list, got Tensor at 1",
    ),
    "no file": (["nowhere.png"], "nowhere.png: cannot be read: .*No such file"),
    "unknown range": (
        [Image.new("F", (8, 8))],
        "cannot be read: pixels of type float32, 0 to 0, and",
    ),
}


@pytest.mark.parametrize("case", WRONG_IMAGES)
def test_wrong_images_are_named(case, loaded):
    images, message = WRONG_IMAGES[case]
    for method in (loaded.features, loaded.latents, loaded.predict, loaded.probabilities):
        with pytest.raises(ValueError, match=message):
            method(images)
    with pytest.raises(ValueError, match="rows: expected a whole number of at least 1, got 0"):
        loaded.features(torch.zeros(2, 1, 8, 8), rows=0)


def test_files_need_a_square_model_of_one_or_three_channels(digits, tmp_path):
    wide = dataclasses.replace(
        digits, train_images=digits.train_images[..., 1:], test_images=digits.test_images[..., 1:]
    )
    train(wide, tmp_path, **SHORT)
    loaded = Encoder.load(tmp_path)
    assert loaded.image_shape == (1, 8, 7) and loaded.features(wide.test_images).shape == (150, 64)
    with pytest.raises(
        ValueError,
        match="images: files become square .* the model takes 1 x 8 x 7; expected a tensor",
    ):
        loaded.features(pictures(digits, 1))


# Export


def names_in(path):
    return safetensors.torch.load_file(path).keys()


@torch.no_grad()
def assert_loads_elsewhere(network, loaded, dataset, path):
    """The exported encoder fits ``network`` to the last name, and gives the same features there."""
    loaded.export(path)
    network.eval().to(memory_format=torch.channels_last)
    images = dataset.normalize(dataset.test_images / 255).contiguous(
        memory_format=torch.channels_last
    )
    expected = loaded.features(dataset.test_images)
    assert not torch.allclose(network(images), expected)
    network.load_state_dict(safetensors.torch.load_file(path))
    assert torch.equal(network(images), expected)


def test_torchvision_reads_the_kits_own_resnet(few, tmp_path):
    train(few, tmp_path / "run", arch="resnet18", **SHORT)
    network = torchvision.models.resnet18()
    network.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
    network.maxpool = network.fc = nn.Identity()
    assert_loads_elsewhere(
        network, Encoder.load(tmp_path / "run"), few, tmp_path / "encoder.safetensors"
    )


@pytest.mark.parametrize(
    ("name", "options"), [("mobilenetv3_small_050", {}), ("vit_tiny_patch16_224", {"img_size": 32})]
)
def test_timm_reads_what_it_knows_by_name(name, options, few, tmp_path):
    timm = pytest.importorskip("timm")
    train(few, tmp_path / "run", arch=f"timm/{name}", **SHORT)
    network = timm.create_model(name, num_classes=0, **options)
    assert_loads_elsewhere(
        network, Encoder.load(tmp_path / "run"), few, tmp_path / "encoder.safetensors"
    )


def test_what_belongs_to_an_export_is_in_its_header_and_beside_it(loaded, digits, tmp_path):
    loaded.export(tmp_path / "deep" / "digits.safetensors")
    about = read_about(tmp_path / "deep" / "digits.safetensors")
    assert about == json.loads((tmp_path / "deep" / "digits.json").read_text())
    assert (about["arch"], about["image_shape"], about["mean"]) == (
        "resnet_small",
        [1, 8, 8],
        list(digits.mean),
    )
    assert (about["std"], about["class_names"]) == (list(digits.std), list(digits.class_names))
    assert (
        about["config"] == dataclasses.asdict(loaded.config) and about["summary"] == loaded.summary
    )


def test_tied_weights_are_exported_under_each_name(digits, tmp_path):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = self.second = nn.Linear(64, 64)

        def forward(self, images):
            return self.second(self.first(images.flatten(1)).relu())

    run = train(digits, tmp_path / "run", arch="custom", encoder=Tied(), **SHORT)
    loaded = Encoder.load(tmp_path / "run", module=Tied())
    assert torch.equal(
        loaded.features(digits.test_images), extract(run.result.encoder, digits, digits.test_images)
    )
    assert_loads_elsewhere(Tied(), loaded, digits, tmp_path / "tied.safetensors")


def test_an_export_overwrites_nothing_but_an_export(contrastive, folder, loaded, tmp_path):
    for name in ("model.safetensors", "summary.json"):
        shutil.copy(folder / "supcon" / "seed0" / name, tmp_path / name)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(
        ValueError, match="path: .*model.safetensors exists and is no exported encoder"
    ):
        loaded.export(tmp_path / "model.safetensors")
    with pytest.raises(
        ValueError, match="path: .*summary.json exists and belongs to no exported encoder"
    ):
        loaded.export(tmp_path / "summary.safetensors")
    with pytest.raises(
        ValueError, match="path: expected a file name ending in .safetensors, got .*encoder.pt"
    ):
        loaded.export(tmp_path / "encoder.pt")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    for _ in range(2):
        loaded.export(tmp_path / "encoder.safetensors")


# The command line


@pytest.fixture
def files(contrastive, digits, tmp_path):
    for number, image in enumerate(pictures(digits, 3)):
        image.save(tmp_path / f"{number}.png")
    return [str(tmp_path / f"{number}.png") for number in range(3)]


def test_the_command_line_predicts(folder, loaded, files, capsys):
    assert main(["predict", str(folder / "supcon"), *files]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in rows] == files and [row[1] for row in rows] == loaded.predict(files)
    assert [float(row[2]) for row in rows] == pytest.approx(
        loaded.probabilities(files).amax(dim=1).tolist(), abs=6e-5
    )


def test_the_command_line_writes_features_and_encoder(folder, loaded, files, tmp_path):
    assert (
        main(["features", str(folder / "supcon"), *files, "--out", str(tmp_path / "features.npz")])
        == 0
    )
    with np.load(tmp_path / "features.npz") as stored:
        assert (
            np.array_equal(stored["features"], loaded.features(files).numpy())
            and stored["files"].tolist() == files
        )
    assert main(["export", str(folder / "supcon"), str(tmp_path / "encoder.safetensors")]) == 0
    assert names_in(tmp_path / "encoder.safetensors") == loaded.model.encoder.state_dict().keys()
    assert (tmp_path / "encoder.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict", "nowhere", "FILE"], "error: path: nowhere does not exist"),
        (["predict", "RUN", "nowhere.png"], "error: nowhere.png: cannot be read"),
        (
            ["features", "RUN", "FILE", "--out", "features.csv"],
            "error: --out: expected a file name ending in .npz",
        ),
        (
            ["export", "RUN", "encoder.pt"],
            "error: path: expected a file name ending in .safetensors",
        ),
        (["export", "RUN", "FILE/encoder.safetensors"], "error: .*0.png"),
    ],
)
def test_errors_of_the_command_line_are_one_line(arguments, message, folder, files, capsys):
    given = [
        part.replace("RUN", str(folder / "supcon")).replace("FILE", files[0]) for part in arguments
    ]
    assert main(given) == 2
    out, error = capsys.readouterr()
    assert error.startswith("error: ") and error.count("\n") == 1 and out == ""
    assert re.match(message, error)


def test_an_unknown_command_is_refused():
    assert main(["paint", "run"]) == 2
