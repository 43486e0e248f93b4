import os
import shutil
from functools import partial

import numpy as np
import pytest
import torch
from PIL.Image import fromarray as image_of
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from genscl_lite.datasets import first_look as first_look_file
from genscl_lite.datasets import folder as image_folder
from genscl_lite.datasets import load_data
from genscl_lite.datasets.check import odd_things
from genscl_lite.datasets.decode import center_crop, read_rgb
from genscl_lite.datasets.first_look import first_look
from genscl_lite.datasets.folder import load_folder
from genscl_lite.datasets.images import ImageFiles
from genscl_lite.datasets.listing import list_folder
from genscl_lite.datasets.splits import paths, split_files
from genscl_lite.train.loop import pretrain
from tests import folders
from tests.folders import CORRUPT, add_corrupt, digit_image, make_digit_folder, scan_folder

SPLITS = {"train": 0.75, "val": 0.25}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_digit_folder(tmp_path_factory.mktemp("digits"), per_class=20, splits=SPLITS)


@pytest.fixture
def small(tmp_path):
    """ROOT/CLASS/* with 5 images of three classes."""
    return make_digit_folder(tmp_path / "small", per_class=5, classes=3)


of_folder = partial(folders.of_folder, image_size=16)


def copies(root, split, per_class):
    """Copy some images of each class to another split."""
    for source in sorted(
        path for path in root.iterdir() if path.name not in ("train", "val", "test")
    ):
        shutil.copytree(source, root / split / source.name)
        for extra in sorted((root / split / source.name).iterdir())[per_class:]:
            extra.unlink()


# What is there


@pytest.mark.parametrize("second", ["val", "test"])
def test_the_scan_is_torchvisions(folder, tmp_path, second):
    root = folder
    if second == "test":
        root = make_digit_folder(
            tmp_path, per_class=4, classes=3, splits={"train": 0.5, "test": 0.5}
        )
    files = scan_folder(root)
    for split, images in (("train", files.train), (second, files.test)):
        theirs = ImageFolder(root / split)
        assert [(str(root / name), label) for name, label in images] == theirs.samples
        assert list(files.class_names) == theirs.classes
    assert len(files.train) == (150 if second == "val" else 6)


def test_a_split_is_made_by_class_and_seed(small):
    split, again, other = (scan_folder(small, val_share=0.4, seed=seed) for seed in (0, 0, 1))
    assert split == again and set(split.test) != set(other.test)
    assert sorted(paths(split.train + split.test)) == [
        f"{p.parent.name}/{p.name}" for p in sorted(small.rglob("*.*g"))
    ]
    for images, each in ((split.train, 3), (split.test, 2)):
        assert torch.tensor([c for _, c in images]).bincount().tolist() == [each] * 3
    for share, train in ((0.01, 4), (0.99, 1)):  # one image at least on either side
        assert (
            torch.tensor([c for _, c in scan_folder(small, val_share=share).train])
            .bincount()
            .tolist()
            == [train] * 3
        )
    assert all(split.class_names[label] == file.split("/")[0] for file, label in split.test)


def only_some_class(root):
    copies(root, "train", 3)
    copies(root, "val", 1)
    shutil.rmtree(root / "train" / "one")
    shutil.rmtree(root / "val" / "two")


def empty_class(root):
    (root / "four").mkdir()
    (root / "four" / "notes.txt").write_text("none yet")


def single_image(root):
    for file in sorted((root / "two").iterdir())[1:]:
        file.unlink()


def one_class(root):
    shutil.rmtree(root / "one")
    shutil.rmtree(root / "two")


@pytest.mark.parametrize("change, arguments, message", [
    (shutil.rmtree, {}, "root: .*small is no folder"),
    (one_class, {}, "root: expected a folder for each of two or more classes in .*small, got zero"),
    (only_some_class, {}, "root: .*classes without images to train and to test with; none to train with: one; none to test with: two; add "),
    (lambda root: copies(root, "train", 3), {}, "root: .*small holds train but neither val nor test; add one, or give .*train"),
    (empty_class, {}, "root: .*small: classes without images .*; none to train with: four; none to test with: four; add some, or"),
    (single_image, {}, "root: .*small: classes without images .*; none to test with: two; add some, or"),
    (None, {"val_share": 0.0}, "val_share: expected a share between 0 and 1, got 0.0"),
    (None, {"workers": -1}, "workers: expected a whole number of at least 0, got -1"),
])  # fmt: skip
def test_bad_folders_and_arguments_are_named(small, change, arguments, message):
    if change:
        change(small)
    with pytest.raises(ValueError, match=message):
        load_folder(
            small,
            of_folder(val_share=arguments.get("val_share", 0.2)),
            workers=arguments.get("workers"),
        )


def test_a_class_may_be_called_train(small):
    (small / "two").rename(small / "train")
    assert scan_folder(small).class_names == ("one", "train", "zero")


@pytest.mark.parametrize("names", [
    "Train Test", "TRAIN VAL", "training testing", "train valid", "Training Validation", "train val test", "train Valid TEST",
])  # fmt: skip
def test_splits_are_known_by_their_usual_names(tmp_path, names):
    """In any case; val goes before test."""
    for name in names.split():
        make_digit_folder(tmp_path, per_class=2, classes=2, splits={name: 1.0})
    files, (first, second, *_) = scan_folder(tmp_path), names.split()
    assert files.class_names == ("one", "zero") and len(files) == 8
    assert {file.split("/")[0] for file in paths(files.train)} == {first}
    assert {file.split("/")[0] for file in paths(files.test)} == {second}


@pytest.mark.parametrize("folders", [
    "valid/a valid/b test/a test/b", "test/a test/b", "val test", "val test cat", "train training val/a",
    "train/a val/a validation/a", "train_set test_set", "trainset valset", "train_images/a test-images/a",
    "cat/train cat/test dog/train dog/test", "cat/TRAINING cat/valid dog",
])  # fmt: skip
def test_splits_that_cannot_be_told_are_refused(tmp_path, folders):
    for folder in folders.split():
        for image in range(2):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            digit_image(0, image, np.random.default_rng(image)).save(
                tmp_path / folder / f"{image}.png"
            )
    found = {folder.split("/")[0] for folder in folders.split()} - {"cat", "dog"}
    with pytest.raises(
        ValueError,
        match="^root: .* holds .*, and which of them are splits is not clear; expected [^\n]*$",
    ) as refused:
        scan_folder(tmp_path)
    assert all(name in str(refused.value) for name in found)


@pytest.mark.parametrize(
    "names", ["test_1 test_2", "train truck", "validity value", "latest trainer"]
)
def test_classes_may_sound_like_splits(tmp_path, names):
    make_digit_folder(tmp_path, per_class=2, classes=2)
    for old, new in zip(("one", "zero"), names.split(), strict=True):
        (tmp_path / old).rename(tmp_path / new)
    assert scan_folder(tmp_path).class_names == tuple(names.split())


HIDDEN = (".ipynb_checkpoints", ".Trash", "__MACOSX", "@eaDir")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("splits", [None, SPLITS])
def test_what_is_hidden_is_not_looked_at(tmp_path, splits):
    root = make_digit_folder(tmp_path, per_class=8, classes=2, splits=splits)
    before, some = scan_folder(root), sorted(root.rglob("*.jpg"))[0]
    for inside in {
        root,
        *(path.parent for path in root.rglob("*.jpg")),
        *(path.parents[1] for path in root.rglob("*.jpg")),
    }:
        for name in HIDDEN:
            (inside / name).mkdir()
            shutil.copy(some, inside / name / "copy.jpg")
        for name in ("._1.jpg", ".DS_Store", "Thumbs.db", "desktop.ini"):
            shutil.copy(some, inside / name)
    assert scan_folder(root) == before


def test_links_that_lead_round_in_a_circle_are_followed_once(small):
    (small / "one" / "again").symlink_to(small / "one", target_is_directory=True)
    assert len(scan_folder(small)) == 15


def test_what_pil_reads_is_an_image_and_other_files_are_counted(tmp_path):
    endings = ("png", "JPG", "jfif", "gif", "webp", "bmp", "tif", "ppm", "jp2")
    for name in ("cat", "dog"):
        for ending in endings:
            make = digit_image(0, 0, np.random.default_rng(0))
            (tmp_path / name / "deeper").mkdir(parents=True, exist_ok=True)
            make.save(tmp_path / name / "deeper" / f"a.{ending}")
        for other in ("1.heic", "2.HEIC", "3.txt", "data.h5", "4"):
            (tmp_path / name / other).write_text("no image")
    make.save(tmp_path / "stray.png")
    (tmp_path / "labels.csv").write_text("not counted, as it is no image")
    with pytest.warns(UserWarning) as warned:
        files = scan_folder(tmp_path)
    assert len(files) == 2 * len(endings)
    assert [str(w.message) for w in warned] == [
        f"root: passed over in {tmp_path}, as no image that PIL reads or of no class: 4 .heic, 2 .txt, 2 without ending, 2 .h5, "
        "1 in no class (stray.png)"
    ]
    data = load_folder(tmp_path, of_folder(), workers=0)
    assert len(data.train_labels) + len(data.test_labels) == len(files)


# Pixels


def test_images_are_those_of_a_plain_loop(folder):
    files = scan_folder(folder)
    look = first_look(folder, paths(files.train), 32, workers=2, keep=True, intensity=(0, 65535))
    images, bad = look.images, look.bad
    to_32 = v2.Compose([v2.PILToTensor(), v2.Resize(32)])
    squares = (
        (v2.CenterCrop(min(image.size)), image) for image, _ in ImageFolder(folder / "train")
    )
    expected = torch.stack([to_32(square(image)) for square, image in squares])
    same = [
        i
        for i, file in enumerate(paths(files.train))
        if not any(kind in file for kind in ("rgba", "deep"))
    ]
    assert (
        bad == {}
        and images.dtype == torch.uint8
        and images.shape == (150, 3, 32, 32)
        and 90 < len(same) < 150
    )
    assert torch.equal(images[same], expected[same])


def test_transparency_is_white_and_16_bits_become_8(folder):
    image = read_rgb(folder / "train" / "zero" / "004_rgba.png")
    quarter = image.shape[2] // 4
    assert (image[:, :, :quarter] == 255).all() and (image[:, :, quarter:] < 255).all()
    deep = read_rgb(folder / "train" / "zero" / "006_deep.png", (0, 65535))
    assert torch.equal(deep[0], deep[1]) and 100 < deep.max() < 255 and deep.unique().numel() > 50


def test_photos_stand_upright(tmp_path):
    image = digit_image(1, 0, np.random.default_rng(0))
    exif = image.getexif()
    exif[0x0112] = 6  # the camera was turned by 90 degrees
    image.save(tmp_path / "turned.png", exif=exif)
    image.save(tmp_path / "plain.png")
    assert torch.equal(
        read_rgb(tmp_path / "turned.png"), read_rgb(tmp_path / "plain.png").rot90(-1, dims=(1, 2))
    )


def test_mean_and_std_are_the_training_images(folder):
    data = load_folder(folder, of_folder())
    pixels = data.train_images.double() / 255
    assert data.mean == pytest.approx(pixels.mean(dim=(0, 2, 3)).tolist(), abs=6e-5)
    assert data.std == pytest.approx(pixels.std(dim=(0, 2, 3)).tolist(), abs=6e-5)
    assert (
        len(set(data.mean)) == 3
        and data.name == "folder"
        and data.image_shape == (3, 16, 16)
        and data.num_classes == 10
    )
    streamed = load_folder(folder, of_folder(resident="never"))
    assert (streamed.mean, streamed.std, streamed.image_shape) == (
        data.mean,
        data.std,
        data.image_shape,
    )
    assert torch.equal(streamed.train_labels, data.train_labels) and torch.equal(
        streamed.test_labels, data.test_labels
    )
    assert torch.equal(torch.cat(list(streamed.test_images.split(7))), data.test_images)


@pytest.mark.parametrize("resident", ["always", "never"])
def test_a_constant_channel_can_be_divided_by(tmp_path, resident):
    """Blue-only microscopy; its data set says so, and what an earlier version has stored is read."""
    random = np.random.default_rng(0)
    for k in range(8):
        folder = tmp_path / "photos" / ("a", "b")[k % 2]
        folder.mkdir(parents=True, exist_ok=True)
        image_of((random.integers(0, 256, (20, 20, 3)) * (0, 0, 1)).astype(np.uint8)).save(
            folder / f"{k}.png"
        )
    asked = of_folder(resident=resident, val_share=0.25)
    for _ in range(2):
        data = load_data(asked, tmp_path / "photos", tmp_path / "check.json")
        assert (
            data.std[:2] == (1.0, 1.0) and 0.1 < data.std[2] < 0.4 and data.mean[:2] == (0.0, 0.0)
        )
        assert "channel 0, 1: the same value in all images to train with" in odd_things(data)


@pytest.mark.parametrize("resident", ["always", "never"])
def test_images_that_are_in_both_splits_are_counted_and_named(tmp_path, resident, quick):
    """By their content, whatever they are called; said once, before the first step."""
    root = make_digit_folder(tmp_path, per_class=8, classes=2, splits={"train": 0.5, "val": 0.5})
    for k, name in enumerate(("000_rgb.jpg", "001_rgb.png")):
        shutil.copy(root / "train" / "one" / name, root / "val" / "zero" / f"x{k}{name[-4:]}")
    image_of(np.full((30, 20, 3), 7, dtype=np.uint8)).save(root / "val" / "zero" / "plain.png")
    config = quick(
        "ce",
        dataset="folder",
        image_size=16,
        labels_per_class=0,
        resident=resident,
        epochs=1,
        warmup_epochs=0,
    )
    with pytest.warns(UserWarning) as warned:
        pretrain(config, load_data(config, root))
    [said] = [str(w.message) for w in warned if "shrinks" not in str(w.message)]
    for text in (
        "2 of 11 images to test with are among those to train with",
        "val/zero/x0.jpg = train/one/000_rgb.jpg",
        "val/zero/x1.png = train/one/001_rgb.png",
        "1 images are of a single color: val/zero/plain.png",
    ):
        assert text in said


def test_auto_keeps_in_memory_what_fits(small, monkeypatch):
    needed = 15 * 3 * 16 * 16
    for limit, resident in ((needed, True), (needed - 1, False)):
        monkeypatch.setattr(image_folder, "RESIDENT_BYTES", limit)
        assert (
            isinstance(load_folder(small, of_folder(), workers=0).train_images, torch.Tensor)
            == resident
        )


# Files that cannot be read


@pytest.mark.parametrize("resident", ["always", "never"])
def test_bad_files_stop_or_are_left_out(small, resident):
    copies(small, "train", 4)
    copies(small, "val", 2)
    add_corrupt(small / "train" / "one")
    with pytest.raises(
        ValueError,
        match=r"root: 3 of 21 images in .* cannot be read: train/one/cut.jpg \(image file is trunc",
    ):
        load_folder(small, of_folder(resident=resident), workers=2)
    with pytest.warns(
        UserWarning, match="left out: 3 of 21 .*text.jpg .no image of a known format."
    ) as warned:
        data = load_folder(small, of_folder(resident=resident, on_bad_image="skip"), workers=2)
    assert len([w for w in warned if "left out" in str(w.message)]) == 1
    bad = [f"train/one/{name}" for name in CORRUPT]
    assert not {*bad} & {*data.train_files, *data.test_files}
    assert len(data.train_files) + len(data.test_files) == 21 - len(bad)
    assert data.train_labels.bincount().tolist() == [4, 4, 4] and len(data.train_images) == 12
    images = (
        data.train_images if resident == "always" else torch.cat(list(data.train_images.split(5)))
    )
    files = paths(split_files(list_folder(small).without(bad)).train)
    assert torch.equal(
        images, torch.stack([center_crop(read_rgb(small / file), 16) for file in files])
    )


def test_a_class_without_a_readable_image_is_named(small):
    copies(small, "train", 4)
    copies(small, "val", 2)
    for file in (small / "val" / "two").iterdir():
        file.write_text("no image")
    with (
        pytest.warns(UserWarning),
        pytest.raises(ValueError, match="classes without images .*none to test with: two;"),
    ):
        load_folder(small, of_folder(on_bad_image="skip"), workers=0)


def test_a_link_that_leads_nowhere_is_a_bad_file(small):
    (small / "one" / "gone.jpg").symlink_to(small / "nothing.jpg")
    with pytest.raises(ValueError, match="one/gone.jpg .*No such file"):
        load_folder(small, of_folder(resident="never"), workers=0)


def test_the_check_is_kept_until_a_file_changes(small, tmp_path, monkeypatch):
    decoded, look_at = [], first_look_file.look_at
    monkeypatch.setattr(
        first_look_file, "look_at", lambda *asked: decoded.append(asked) or look_at(*asked)
    )

    def check(**changes):
        decoded.clear()
        config = of_folder(resident="never", **changes)
        return load_folder(small, config, tmp_path / "check.json", workers=0)

    first = check()
    assert len(decoded) == 15
    again = check()
    assert not decoded and all(
        getattr(again, name) == getattr(first, name)
        for name in ("mean", "std", "odd", "found", "intensity")
    )
    check(pages="stop")
    assert len(decoded) == 15
    check(image_size=24)
    assert len(decoded) == 15
    check()
    file = small / "one" / "000_rgb.jpg"
    os.utime(file, ns=(0, 12345))
    assert check().mean == first.mean and len(decoded) == 15
    file.unlink()
    check()
    assert len(decoded) == 14


# Label distributions


def test_distributions_go_with_the_images_that_are_left(small, tmp_path):
    add_corrupt(small / "one")
    files = scan_folder(small)
    rows = [
        f"{file},{0.5 + label / 10},{0.5 - label / 10},0"
        for file, label in files.train + files.test
    ]
    (tmp_path / "soft.csv").write_text("\n".join(["path,one,zero,two", *rows]))
    with pytest.warns(UserWarning, match="left out: 3"):
        data = load_folder(
            small,
            of_folder(labels=str(tmp_path / "soft.csv"), on_bad_image="skip"),
            workers=0,
        )
    label = data.train_labels / 10
    assert (
        torch.allclose(
            data.train_distributions, torch.stack([0.5 + label, label * 0, 0.5 - label], dim=1)
        )
        and len(label) > 10
    )
    assert data.to("meta").train_distributions.device.type == "meta"


# By a configuration


def test_a_folder_is_loaded_by_its_name(small):
    data = load_data(of_folder(val_share=0.4), small)
    assert (
        data.name == "folder"
        and data.image_shape == (3, 16, 16)
        and data.class_names == ("one", "two", "zero")
    )
    assert len(data.train_labels) == 9


@pytest.mark.parametrize("root", [None, ""])
def test_a_folder_must_be_given(root):
    with pytest.raises(
        ValueError, match="^data_root: dataset folder needs the folder of the images$"
    ):
        load_data(of_folder(), root)


@pytest.mark.parametrize("resident, limit, in_memory", [
    ("always", 0, True), ("never", 10**9, False), ("auto", 0, False), ("auto", 10**9, True),
])  # fmt: skip
def test_images_are_kept_in_memory_as_the_configuration_says(
    resident, limit, in_memory, small, monkeypatch
):
    monkeypatch.setattr(image_folder, "RESIDENT_BYTES", limit)
    images = load_data(of_folder(resident=resident), small).train_images
    assert isinstance(images, torch.Tensor if in_memory else ImageFiles)


def test_bad_files_and_the_check_are_as_the_configuration_says(small, tmp_path):
    add_corrupt(small / "one")
    with pytest.raises(ValueError, match="3 of 18 images .* cannot be read"):
        load_data(of_folder(), small)
    with pytest.warns(UserWarning, match="left out: 3 of 18"):
        data = load_data(
            of_folder(on_bad_image="skip", resident="never"), small, tmp_path / "check.json"
        )
    assert len(data.train_files) + len(data.test_files) == 15
    assert (tmp_path / "check.json").exists()


@pytest.mark.parametrize("resident", ["always", "never"])
def test_few_labels_keep_all_that_belongs_to_an_image(resident, small, tmp_path):
    """Its pixels, label, distribution and file; which images are kept depends on the seed, what is tested with does not."""
    files = scan_folder(small)
    said = dict(zip(paths(files.train), torch.rand(12, 3).softmax(dim=1), strict=True))
    rows = [",".join([file, *(f"{x:.9f}" for x in row.tolist())]) for file, row in said.items()]
    (tmp_path / "soft.csv").write_text("\n".join([",".join(["path", *files.class_names]), *rows]))
    asked = {
        "resident": resident,
        "labels": str(tmp_path / "soft.csv"),
        "labels_per_class": 2,
    }
    few, again, other = (load_data(of_folder(seed=seed, **asked), small) for seed in (5, 5, 6))
    assert few.train_labels.bincount().tolist() == [2, 2, 2]
    images = (
        few.train_images if resident == "always" else torch.cat(list(few.train_images.split(4)))
    )
    assert torch.equal(
        images, torch.stack([center_crop(read_rgb(small / file), 16) for file in few.train_files])
    )
    assert [few.class_names[label] for label in few.train_labels] == [
        file.split("/")[0] for file in few.train_files
    ]
    assert torch.allclose(
        few.train_distributions, torch.stack([said[file] for file in few.train_files])
    )
    assert few.train_files == again.train_files and set(few.train_files) != set(other.train_files)
    assert torch.equal(few.test_labels, other.test_labels) and len(few.test_labels) == 3
