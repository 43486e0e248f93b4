"""``genscl check DATA``: what is in a data set, on a page."""

import shlex
import shutil
import sys
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genscl_lite.datasets import load_dataset
from genscl_lite.runs.paths import NOTEBOOKS
from genscl_lite.tools import look
from genscl_lite.tools.cli import main
from tests.folders import add_corrupt, make_digit_folder


@pytest.fixture
def photos(tmp_path):
    """A folder with much that is odd: copies in both splits, broken files, a file that is no image."""
    root = make_digit_folder(
        tmp_path / "photos", per_class=10, classes=3, splits={"Train": 0.6, "Valid": 0.4}
    )
    add_corrupt(root / "Train" / "one")
    (root / "Valid" / "two" / "notes.heic").write_text("no image")
    for k in range(2):
        shutil.copy(
            root / "Train" / "one" / f"00{k}_rgb.{('jpg', 'png')[k]}",
            root / "Valid" / "one" / f"copy{k}.{('jpg', 'png')[k]}",
        )
    return root


def test_a_folder_on_a_page(photos, capsys):
    for words, code in (([], 0), (["--strict"], 1)):
        assert main(["check", str(photos), "--image-size", "16", *words]) == code
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].startswith("data     folder: 3 x 16 x 16, mean (0.")
        assert lines[1:3] == [
            "train    18 images of 3 classes: one: 6, two: 6, zero: 6",
            "test     14 images of 3 classes: two: 4, zero: 4, one: 6",
        ]
        pixels, passed_over, left_out, *odd, last = lines[3:]
        assert (
            passed_over
            == f"note     root: passed over in {photos}, as no image that PIL reads or of no class: 1 .heic"
        )
        assert left_out.startswith(
            f"note     left out: 3 of 35 images in {photos} cannot be read: Train/one/cut.jpg ("
        )
        assert pixels.startswith("pixels   uint16 in 3 files, ")
        assert pixels.split("; ")[1].startswith("uint8 in 29 files, 0 to 255")
        [twins] = odd
        assert twins == (
            "note     2 of 14 images to test with are among those to train with: "
            "Valid/one/copy0.jpg = Train/one/000_rgb.jpg, Valid/one/copy1.png = Train/one/001_rgb.png"
        )
        assert last == "to look at: 3"


def test_many_classes_and_files_stay_on_a_page(tmp_path, capsys):
    for k in range(300):
        for i in range(3):
            folder = tmp_path / f"class_of_a_long_name_{k:03d}"
            folder.mkdir(exist_ok=True)
            Image.new("RGB", (8, 8), "red").save(folder / f"{i}.png")
            (folder / f"{i}.x{k}").touch()
    assert (
        main(["check", str(tmp_path), "--image-size", "8", "--picture", str(tmp_path / "look.png")])
        == 0
    )
    printed = capsys.readouterr().out
    assert len(printed.splitlines()) < 12 and len(printed) < 3000
    assert (
        "300 of 300 images to test with are among" in printed
        and "900 images are of a single color" in printed
    )


def test_a_named_data_set_and_one_of_ones_own(monkeypatch, capsys, tmp_path):
    assert main(["check", "digits", "--strict"]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        "train    1000 images of 10 classes: 8: 97, 2: 98, 0: 99, 7: 100, 9: 100, 1: 101, 4: 101, 5: 101, 6: 101, 3: 102",
        "test     797 images of 10 classes: 8: 77, 0: 79, 2: 79, 7: 79, 4: 80, 6: 80, 9: 80, 1: 81, 3: 81, 5: 81",
        "nothing odd",
    ]
    module, digits = types.ModuleType("my_data"), load_dataset("digits")
    module.load = lambda root, config: replace(digits, train_labels=digits.train_labels - 1)
    monkeypatch.setitem(sys.modules, "my_data", module)
    assert main(["check", "my_data:load"]) == 1
    assert capsys.readouterr().out.startswith(
        "problem  train_labels: expected class numbers from 0 to 9, got -1 (99 of 1000"
    )


@pytest.mark.parametrize("words, message", [
    (["digit"], "dataset: 'digit' is unknown (did you mean 'digits'?)"),
    (["no/such/photos"], "root: no/such/photos is no folder"),
    (["cifar10", "--root", "nowhere"], "cifar10: nowhere/cifar-10-batches-py/data_batch_1 is missing"),
    (["folder"], "data_root: dataset folder needs the folder of the images"),
    (["digits", "--picture", "a.xyz"], "Format 'xyz' is not supported"),
])  # fmt: skip
def test_what_is_wrong_is_one_line(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["check", *words]) == 1
    printed = capsys.readouterr()
    assert (
        printed.out.startswith(f"problem  {message}")
        and printed.out.count("\n") == 1
        and not printed.err
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name, width", [("digits", 8), ("folder", 16)])
@pytest.mark.filterwarnings("ignore:left out", "ignore:root. passed over")
def test_the_picture_shows_training_images_of_each_class(
    photos, tmp_path, monkeypatch, name, width
):
    """Gray or RGB: a row for each class, of its own first images, white where there are no more."""
    from matplotlib.axes import Axes

    shown, draw_image = [], Axes.imshow
    monkeypatch.setattr(
        Axes,
        "imshow",
        lambda axis, image, **options: shown.append(image) or draw_image(axis, image, **options),
    )
    data = look.load(name, str(photos), width)
    look.draw(data, tmp_path / "look.png")
    assert Image.open(tmp_path / "look.png").width > 400
    [sheet], each, width = (
        shown,
        6 if name == "folder" else 10,
        width + 2,
    )  # a white line around each
    assert (
        sheet.shape[:2] == (data.num_classes * width, 10 * width)
        and (sheet[:, each * width :] == 255).all()
    )
    for c in range(data.num_classes):
        images = data.train_images[data.train_labels == c].permute(0, 2, 3, 1).squeeze(3).numpy()
        for k in range(each):
            assert (
                sheet[c * width + 1 : (c + 1) * width - 1, k * width + 1 : (k + 1) * width - 1]
                == images[k]
            ).all()


@pytest.fixture
def guide(tmp_path, monkeypatch):
    """What the guide to own data speaks of: photos with labels.csv, scans of 12 bits, pets with votes.csv."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for k in range(20):
        pixels = random.integers(0, 256, (16, 16, 3), dtype="uint8")
        for place in (f"photos/{('cat', 'dog')[k % 2]}", f"pets/train/{('cat', 'dog')[k % 2]}"):
            Path(place).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(f"{place}/{k}.png")
        scan = random.integers(0, 4072 if k else 20_000, (16, 16), dtype="uint16")
        Path(f"scans/{k % 2}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(scan).save(f"scans/{k % 2}/{k}.png")
    for name in ("cat", "dog"):
        Path(f"pets/val/{name}").mkdir(parents=True)
        for k in range(2):
            Image.fromarray(random.integers(0, 256, (16, 16, 3), dtype="uint8")).save(
                f"pets/val/{name}/{k}.png"
            )
    labels = [f"{('cat', 'dog')[k % 2]}/{k}.png,{('a', 'b')[k % 2]},{k // 4}" for k in range(20)]
    Path("labels.csv").write_text("\n".join(["path,label,group", *labels]))
    votes = [f"train/{('cat', 'dog')[k % 2]}/{k}.png,{3 + k % 2},{1 + k}" for k in range(20)]
    Path("votes.csv").write_text("\n".join(["path,cat,dog", *votes]))


def test_the_guide_to_own_data_is_followed(guide, capsys):
    """Each command that looks, and what it prints."""
    text = (NOTEBOOKS / "guides" / "own_data.md").read_text("utf-8")
    commands = [line for line in text.splitlines() if line.startswith("genscl check")]
    printed = {}
    for line in commands:
        assert main(shlex.split(line)[1:] + ["--image-size", "16"]) == 0, line
        printed[line.removeprefix("genscl check ")] = capsys.readouterr().out
    assert len(printed) == 5 and Path("look.png").stat().st_size > 1000
    plain, found, asked, csv, votes = printed.values()
    assert "nothing odd" in plain and "pixels   uint8 in 20 files, 0 to 255" in plain
    assert "pixels   uint16 in 20 files, 0 to " in found and "0 black, 32767 white" in found
    assert "20 files have more than 8 bits" in found and "19 files use a small part" in found
    assert "1 files have values outside intensity=0,4095, which are cut off" in asked
    assert "0 black, 4095 white" in asked and "small part" not in asked
    assert "groups   4 to train with, 1 to test with" in csv and "a: 8, b: 8" in csv
    assert "labels   counts of votes of 20 images, sums 4 to 24" in votes
    assert "test     4 images of 2 classes: cat: 2, dog: 2" in votes


@pytest.mark.parametrize("words, message", [
    (["-p", "labels=none.csv"], "labels: none.csv is no file"),
    (["-p", "intensity=4095"], "intensity: expected the values of black and white"),
    (["-p", "distributions=labels.csv"], "distributions: is called labels now"),
    (["-p", "label=labels.csv"], "label: unknown parameter (did you mean 'labels'?)"),
    (["-p", "labels"], "parameter: expected NAME=VALUE, got 'labels'"),
    (["-p", "pages=all"], "pages: 'all' is unknown"),
    (["-p", "on_small_class=skip"], "on_small_class: 'skip' is unknown"),
])  # fmt: skip
def test_wrong_parameters_are_one_line(guide, words, message, capsys):
    assert main(["check", "photos", *words]) == 1
    printed = capsys.readouterr().out
    assert printed.startswith(f"problem  {message}") and printed.count("\n") == 1
