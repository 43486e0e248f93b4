import dataclasses
import os
import shutil

import numpy as np
import pytest
import torch
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from genscl_lite.datasets import folder as image_folder
from genscl_lite.datasets import images as image_files
from genscl_lite.datasets import load_data
from genscl_lite.datasets.folder import check_files, load_folder, paths, scan_folder
from genscl_lite.datasets.images import ImageFiles, centre_crop, decode_all, read_rgb
from genscl_lite.train.config import TrainConfig
from tests.folders import CORRUPT, add_corrupt, digit_image, make_digit_folder

SPLITS = {"train": 0.75, "val": 0.25}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_digit_folder(tmp_path_factory.mktemp("digits"), per_class=20, splits=SPLITS)


@pytest.fixture
def small(tmp_path):
    """ROOT/CLASS/* with 5 images of three classes."""
    return make_digit_folder(tmp_path / "small", per_class=5, classes=3)


def of_folder(**changes):
    return TrainConfig(**{"dataset": "folder", "image_size": 16, "labels_per_class": 0} | changes)


def copies(root, split, per_class):
    """Copy some images of each class to another split."""
    for source in sorted(path for path in root.iterdir() if path.name not in ("train", "val", "test")):
        shutil.copytree(source, root / split / source.name)
        for extra in sorted((root / split / source.name).iterdir())[per_class:]:
            extra.unlink()


# What is there


@pytest.mark.parametrize("second", ["val", "test"])
def test_the_scan_is_torchvisions(folder, tmp_path, second):
    root = folder
    if second == "test":
        root = make_digit_folder(tmp_path, per_class=4, classes=3, splits={"train": 0.5, "test": 0.5})
    files = scan_folder(root)
    for split, images in (("train", files.train), (second, files.test)):
        theirs = ImageFolder(root / split)
        assert [(str(root / name), label) for name, label in images] == theirs.samples
        assert list(files.class_names) == theirs.classes
    assert len(files.train) == (150 if second == "val" else 6)


def test_a_split_is_made_by_class_and_seed(small):
    split, again, other = (scan_folder(small, val_share=0.4, seed=seed) for seed in (0, 0, 1))
    assert split == again and set(split.test) != set(other.test)
    assert sorted(paths(split.train + split.test)) == [f"{p.parent.name}/{p.name}" for p in sorted(small.rglob("*.*g"))]
    for images, each in ((split.train, 3), (split.test, 2)):
        assert torch.tensor([c for _, c in images]).bincount().tolist() == [each] * 3
    for share, train in ((0.01, 4), (0.99, 1)):  # one image at least on either side
        assert torch.tensor([c for _, c in scan_folder(small, val_share=share).train]).bincount().tolist() == [train] * 3
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
    (only_some_class, {}, "root: .*train and val must hold the same classes; only in train: two; only in val: one"),
    (lambda root: copies(root, "train", 3), {}, "root: .*small holds train but neither val nor test; add one, or give .*train"),
    (empty_class, {}, r"root: no image \(.jpg .*\) in .*small of four"),
    (single_image, {}, "root: class two has a single image, two/000_rgb.jpg; a split needs two or more"),
    (None, {"val_share": 0.0}, "val_share: expected a share between 0 and 1, got 0.0"),
    (None, {"workers": -1}, "workers: expected a whole number of at least 0, got -1"),
])  # fmt: skip
def test_bad_folders_and_arguments_are_named(small, change, arguments, message):
    if change:
        change(small)
    with pytest.raises(ValueError, match=message):
        load_folder(small, of_folder(val_share=arguments.get("val_share", 0.2)), workers=arguments.get("workers"))


def test_a_class_may_be_called_train(small):
    (small / "two").rename(small / "train")
    assert scan_folder(small).class_names == ("one", "train", "zero")


# Pixels


def test_images_are_those_of_a_plain_loop(folder):
    files = scan_folder(folder)
    images, counts, bad = decode_all(folder, paths(files.train), 32, workers=2, keep=True)
    plain = v2.Compose([v2.PILToTensor(), v2.Resize(32), v2.CenterCrop(32)])
    expected = torch.stack([plain(image) for image, _ in ImageFolder(folder / "train")])
    same = [i for i, file in enumerate(paths(files.train)) if not any(kind in file for kind in ("rgba", "deep"))]
    assert bad == {} and images.dtype == torch.uint8 and images.shape == (150, 3, 32, 32) and 90 < len(same) < 150
    assert torch.equal(images[same], expected[same])


def test_transparency_is_white_and_16_bits_become_8(folder):
    image = read_rgb(folder / "train" / "zero" / "004_rgba.png")
    quarter = image.shape[2] // 4
    assert (image[:, :, :quarter] == 255).all() and (image[:, :, quarter:] < 255).all()
    deep = read_rgb(folder / "train" / "zero" / "006_deep.png")
    assert torch.equal(deep[0], deep[1]) and 100 < deep.max() < 255 and deep.unique().numel() > 50


def test_photos_stand_upright(tmp_path):
    image = digit_image(1, 0, np.random.default_rng(0))
    exif = image.getexif()
    exif[0x0112] = 6  # the camera was turned by 90 degrees
    image.save(tmp_path / "turned.png", exif=exif)
    image.save(tmp_path / "plain.png")
    assert torch.equal(read_rgb(tmp_path / "turned.png"), read_rgb(tmp_path / "plain.png").rot90(-1, dims=(1, 2)))


def test_mean_and_std_are_the_training_images(folder):
    data = load_folder(folder, of_folder())
    pixels = data.train_images.double() / 255
    assert data.mean == pytest.approx(pixels.mean(dim=(0, 2, 3)).tolist(), abs=6e-5)
    assert data.std == pytest.approx(pixels.std(dim=(0, 2, 3)).tolist(), abs=6e-5)
    assert len(set(data.mean)) == 3 and data.name == "folder" and data.image_shape == (3, 16, 16) and data.num_classes == 10
    streamed = load_folder(folder, of_folder(resident="never"))
    assert (streamed.mean, streamed.std, streamed.image_shape) == (data.mean, data.std, data.image_shape)
    assert torch.equal(streamed.train_labels, data.train_labels) and torch.equal(streamed.test_labels, data.test_labels)
    assert torch.equal(torch.cat(list(streamed.test_images.split(7))), data.test_images)


def test_auto_keeps_in_memory_what_fits(small, monkeypatch):
    needed = 15 * 3 * 16 * 16
    for limit, resident in ((needed, True), (needed - 1, False)):
        monkeypatch.setattr(image_folder, "RESIDENT_BYTES", limit)
        assert isinstance(load_folder(small, of_folder(), workers=0).train_images, torch.Tensor) == resident


# Files that cannot be read


@pytest.mark.parametrize("resident", ["always", "never"])
def test_bad_files_stop_or_are_left_out(small, resident):
    good = load_folder(small, of_folder(resident=resident), workers=0)
    copies(small, "train", 4)
    copies(small, "val", 2)
    add_corrupt(small / "train" / "one")
    with pytest.raises(ValueError, match=r"root: 3 of 21 images in .* cannot be read: train/one/cut.jpg \(image file is trunc"):
        load_folder(small, of_folder(resident=resident), workers=2)
    with pytest.warns(UserWarning, match="left out: 3 of 21 .*text.jpg .no image of a known format.") as warned:
        data = load_folder(small, of_folder(resident=resident, on_bad_image="skip"), workers=2)
    assert len(warned) == 1 and data.skipped == tuple(f"train/one/{name}" for name in CORRUPT) and good.skipped == ()
    assert data.train_labels.bincount().tolist() == [4, 4, 4] and len(data.train_images) == 12
    images = data.train_images if resident == "always" else torch.cat(list(data.train_images.split(5)))
    files = paths(scan_folder(small).without(data.skipped).train)
    assert torch.equal(images, torch.stack([centre_crop(read_rgb(small / file), 16) for file in files]))


def test_a_class_without_a_readable_image_is_named(small):
    copies(small, "train", 4)
    copies(small, "val", 2)
    for file in (small / "val" / "two").iterdir():
        file.write_text("no image")
    with pytest.warns(UserWarning), pytest.raises(ValueError, match="no readable image is left to test with of two"):
        load_folder(small, of_folder(on_bad_image="skip"), workers=0)


def test_a_link_that_leads_nowhere_is_a_bad_file(small):
    (small / "one" / "gone.jpg").symlink_to(small / "nothing.jpg")
    with pytest.raises(ValueError, match="one/gone.jpg .*No such file"):
        load_folder(small, of_folder(resident="never"), workers=0)


def test_floating_point_pixels_are_refused(tmp_path):
    digit_image(1, 0, np.random.default_rng(0)).convert("F").save(tmp_path / "f.tiff")
    with pytest.raises(ValueError, match="f.tiff: cannot be read: floating point pixels"):
        read_rgb(tmp_path / "f.tiff")


def test_the_check_is_kept_until_a_file_changes(small, tmp_path, monkeypatch):
    decoded = []
    monkeypatch.setattr(image_files, "read_rgb", lambda path: decoded.append(path) or read_rgb(path))

    def check(size=16):
        decoded.clear()
        return check_files(scan_folder(small), size, workers=0, path=tmp_path / "check.json")

    first = check()
    assert len(decoded) == 15 and check() == first and not decoded
    check(size=24)
    assert len(decoded) == 15
    check()
    file = small / "one" / "000_rgb.jpg"
    os.utime(file, ns=(0, 12345))
    assert dataclasses.replace(check(), fingerprint="") == dataclasses.replace(first, fingerprint="") and len(decoded) == 15
    file.unlink()
    check()
    assert len(decoded) == 14


# Label distributions


def test_distributions_go_with_the_images_that_are_left(small, tmp_path):
    add_corrupt(small / "one")
    files = scan_folder(small)
    rows = [f"{file},{0.5 + label / 10},{0.5 - label / 10},0"
            for file, label in files.train + files.test]
    (tmp_path / "soft.csv").write_text("\n".join(["path,one,zero,two", *rows]))
    with pytest.warns(UserWarning, match="left out: 3"):
        data = load_folder(small, of_folder(distributions=str(tmp_path / "soft.csv"), on_bad_image="skip"), workers=0)
    label = data.train_labels / 10
    assert torch.allclose(data.train_distributions, torch.stack([0.5 + label, label * 0, 0.5 - label], dim=1)) and len(label) > 10
    assert data.to("meta").train_distributions.device.type == "meta"


# By a configuration


def test_a_folder_is_loaded_by_its_name(small):
    data = load_data(of_folder(val_share=0.4), small)
    assert data.name == "folder" and data.image_shape == (3, 16, 16) and data.class_names == ("one", "two", "zero")
    assert len(data.train_labels) == 9


@pytest.mark.parametrize("root", [None, ""])
def test_a_folder_must_be_given(root):
    with pytest.raises(ValueError, match="^data_root: dataset folder needs the folder of the images$"):
        load_data(of_folder(), root)


@pytest.mark.parametrize("resident, limit, in_memory", [
    ("always", 0, True), ("never", 10**9, False), ("auto", 0, False), ("auto", 10**9, True),
])  # fmt: skip
def test_images_are_kept_in_memory_as_the_configuration_says(resident, limit, in_memory, small, monkeypatch):
    monkeypatch.setattr(image_folder, "RESIDENT_BYTES", limit)
    images = load_data(of_folder(resident=resident), small).train_images
    assert isinstance(images, torch.Tensor if in_memory else ImageFiles)


def test_bad_files_and_the_check_are_as_the_configuration_says(small, tmp_path):
    add_corrupt(small / "one")
    with pytest.raises(ValueError, match="3 of 18 images .* cannot be read"):
        load_data(of_folder(), small)
    with pytest.warns(UserWarning, match="left out: 3 of 18"):
        data = load_data(of_folder(on_bad_image="skip", resident="never"), small, tmp_path / "check.json")
    assert len(data.skipped) == 3 and (tmp_path / "check.json").exists()


@pytest.mark.parametrize("resident", ["always", "never"])
def test_few_labels_keep_all_that_belongs_to_an_image(resident, small, tmp_path):
    """Its pixels, label, distribution and file; which images are kept depends on the seed, what is tested with does not."""
    files = scan_folder(small)
    said = dict(zip(paths(files.train), torch.rand(12, 3).softmax(dim=1), strict=True))
    rows = [",".join([file, *(f"{x:.9f}" for x in row.tolist())]) for file, row in said.items()]
    (tmp_path / "soft.csv").write_text("\n".join([",".join(["path", *files.class_names]), *rows]))
    asked = {"resident": resident, "distributions": str(tmp_path / "soft.csv"), "labels_per_class": 2}
    few, again, other = (load_data(of_folder(seed=seed, **asked), small) for seed in (5, 5, 6))
    assert few.train_labels.bincount().tolist() == [2, 2, 2]
    images = few.train_images if resident == "always" else torch.cat(list(few.train_images.split(4)))
    assert torch.equal(images, torch.stack([centre_crop(read_rgb(small / file), 16) for file in few.train_files]))
    assert [few.class_names[label] for label in few.train_labels] == [file.split("/")[0] for file in few.train_files]
    assert torch.allclose(few.train_distributions, torch.stack([said[file] for file in few.train_files]))
    assert few.train_files == again.train_files and set(few.train_files) != set(other.train_files)
    assert torch.equal(few.test_labels, other.test_labels) and len(few.test_labels) == 3
