"""Which files there are, of which class and in which split: links, a CSV of labels, groups, small classes."""

import os
import shutil
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from genscl_lite.datasets import few_labels, load_data
from genscl_lite.datasets.check import odd_things
from genscl_lite.datasets.folder import find_files
from genscl_lite.datasets.listing import list_folder
from genscl_lite.datasets.splits import paths
from tests.folders import draw, of_folder, scan_folder


@pytest.fixture
def animals(tmp_path):
    """ROOT/cat and ROOT/dog, five images each."""
    for k in range(10):
        draw(tmp_path / "animals" / ("cat", "dog")[k % 2] / f"{k}.png")
    return tmp_path / "animals"


@pytest.fixture
def flat(tmp_path):
    """20 images in one folder: 0.png is a cat, 1.png a dog, 2.png a cat ..."""
    for k in range(20):
        draw(tmp_path / "flat" / f"{k}.png")
    return tmp_path / "flat"


def write(path, lines):
    path.write_text("\n".join(lines))
    return str(path)


def classes_of(listing):
    return {
        path: listing.class_names[c]
        for path, c in zip(listing.table.path, listing.table.label, strict=True)
    }


# F2. Links


@pytest.mark.parametrize("link, to, counted", [
    ("cat/loop", "..", 1),
    ("cat/loop", ".", 1),
    ("cat/up", "../..", 1),
    ("cat/others", "../dog", 1),
    ("dog/0.png", "../cat/0.png", 1),
    ("zebra", "cat", 1),
    ("cat/deep/er", "../..", 1),
])  # fmt: skip
@pytest.mark.filterwarnings("ignore:root. .*left out")
def test_a_link_to_what_is_there_is_passed_over_and_counted(animals, link, to, counted):
    before = classes_of(list_folder(animals))
    (animals / link).parent.mkdir(parents=True, exist_ok=True)
    (animals / link).symlink_to(to)
    with pytest.warns(UserWarning, match=f": {counted} links to what is there"):
        assert classes_of(list_folder(animals)) == before


def test_links_to_elsewhere_are_followed_once(animals, tmp_path):
    """A folder and a file outside; the folder holds a link back, and one to itself."""
    for k in range(3):
        draw(tmp_path / "store" / f"s{k}.png")
    (tmp_path / "store" / "back").symlink_to(animals)
    (tmp_path / "store" / "self").symlink_to(tmp_path / "store")
    draw(tmp_path / "one.png")
    (animals / "cat" / "more").symlink_to(tmp_path / "store")
    (animals / "dog" / "one.png").symlink_to(tmp_path / "one.png")
    (animals / "dog" / "two.png").symlink_to(tmp_path / "one.png")
    with pytest.warns(UserWarning, match=": 3 links to what is there"):
        found = classes_of(list_folder(animals))
    extra = {f"cat/more/s{k}.png": "cat" for k in range(3)} | {"dog/one.png": "dog"}
    assert len(found) == 14 and extra.items() <= found.items()


@pytest.mark.filterwarnings("error")
def test_a_farm_of_links_is_a_data_set(animals, tmp_path):
    """Classes that are links themselves, and splits whose files lie in a store of the same folder."""
    (tmp_path / "linked").mkdir()
    for name in ("cat", "dog"):
        (tmp_path / "linked" / name).symlink_to(animals / name)
    assert classes_of(list_folder(tmp_path / "linked")) == classes_of(list_folder(animals))
    for k in range(10):
        draw(tmp_path / "farm" / "images" / f"{k}.png")
        link = tmp_path / "farm" / ("train", "val")[k > 5] / ("cat", "dog")[k % 2] / f"{k}.png"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(tmp_path / "farm" / "images" / f"{k}.png")
    files = scan_folder(tmp_path / "farm")
    assert len(files.train) == 6 and len(files.test) == 4


def test_one_file_is_never_on_both_sides_of_a_split(animals, tmp_path):
    for name in ("cat", "dog"):
        shutil.copytree(animals / name, tmp_path / "split" / "train" / name)
        (tmp_path / "split" / "val" / name).mkdir(parents=True)
        for file in sorted((animals / name).iterdir())[:2]:
            draw(tmp_path / "split" / "val" / name / f"own{file.name}")
            leak = tmp_path / "split" / "train" / name / file.name
            (tmp_path / "split" / "val" / name / file.name).symlink_to(leak)
    with pytest.warns(UserWarning, match="4 links to what is there"):
        files = scan_folder(tmp_path / "split")
    assert len(files.train) == 10 and all("own" in path for path in paths(files.test))


# Labels in a CSV


def test_a_csv_names_the_classes_of_images_in_one_folder(flat, tmp_path):
    lines = ["path,label", *(f"{k}.png,{('cat', 'dog')[k % 2]}" for k in range(20))]
    data = load_data(of_folder(labels=write(tmp_path / "a.csv", lines)), flat)
    assert data.class_names == ("cat", "dog") and data.train_distributions is None
    for files, labels in (
        (data.train_files, data.train_labels),
        (data.test_files, data.test_labels),
    ):
        assert [int(file[:-4]) % 2 for file in files] == labels.tolist()
    assert len(data.train_labels) == 16 and data.test_labels.bincount().tolist() == [2, 2]


def test_classes_that_are_numbers_are_in_their_order_and_others_are_texts(flat, tmp_path):
    """1, 2, 10 and not 1, 10, 2; 01 is no 1; NA and None are names."""
    for labels, names in (
        (["10", "2", "1"], ("1", "2", "10")),
        (["NA", "None", "nan"], ("NA", "None", "nan")),
        (["1.0", "1", "x"], ("1", "1.0", "x")),
        ([" cat", "cat ", "dog"], ("cat", "dog")),
    ):
        lines = ["path,label", *(f"{k}.png,{labels[k % 3]}" for k in range(20))]
        files = find_files(flat, of_folder(labels=write(tmp_path / "a.csv", lines)))
        assert files.class_names == names


def test_a_column_splits(flat, tmp_path):
    """As folders do: val goes before test, and then test is left alone."""
    parts = ["train"] * 12 + ["Val"] * 4 + ["test"] * 4
    lines = [f"{k}.png,{k % 2},{part}" for k, part in enumerate(parts)]
    labels = write(tmp_path / "a.csv", ["path,label,split", *lines])
    files = find_files(flat, of_folder(labels=labels))
    assert sorted(paths(files.train)) == sorted(f"{k}.png" for k in range(12))
    assert sorted(paths(files.test)) == sorted(f"{k}.png" for k in range(12, 16))


@pytest.mark.parametrize("val_share", [0.1, 0.2, 0.5, 0.8])
def test_a_group_is_on_one_side_of_the_split(flat, tmp_path, val_share):
    """Five patients with four images each, of both classes."""
    lines = [f"{k}.png,{k % 2},patient {k // 4}" for k in range(20)]
    labels = write(tmp_path / "a.csv", ["path,label,group", *lines])
    files = find_files(flat, of_folder(labels=labels, val_share=val_share))
    sides = [{int(path[:-4]) // 4 for path in paths(s)} for s in (files.train, files.test)]
    assert not sides[0] & sides[1] and len(files) == 20
    assert abs(len(files.test) / 20 - val_share) <= 0.2
    again = find_files(flat, of_folder(labels=labels, val_share=val_share))
    assert again == files


def test_groups_that_straddle_a_given_split_are_named(flat, tmp_path):
    lines = [f"{k}.png,{k % 2},p{k // 4},{('train', 'val')[k > 13]}" for k in range(20)]
    labels = write(tmp_path / "a.csv", ["path,label,group,split", *lines])
    data = load_data(of_folder(labels=labels), flat)
    assert odd_things(data) == ["1 groups are on both sides of the split: p3"]
    assert data.found[1] == "groups   4 to train with, 2 to test with"


def test_a_column_for_each_class_gives_distributions_and_classes(flat, tmp_path):
    """Without folders of these names the most probable class counts; others may have no image of their own."""
    lines = [f"{k}.png,{0.6 - k % 2 / 2},{0.3 + k % 2 / 2},0.1" for k in range(20)]
    labels = write(tmp_path / "a.csv", ["path,cat,dog,eel", *lines])
    data = load_data(of_folder(labels=labels), flat)
    assert data.class_names == ("cat", "dog", "eel")
    odd = torch.tensor([int(file[:-4]) % 2 for file in data.train_files])
    assert torch.equal(data.train_labels, odd)
    expected = torch.stack(
        [0.6 - odd / 2, 0.3 + odd / 2, torch.full_like(odd, 0.1, dtype=torch.float)], 1
    )
    assert torch.allclose(data.train_distributions, expected)


def test_distributions_of_images_in_a_third_split_are_passed_over(flat, tmp_path):
    split = ["train"] * 10 + ["val"] * 5 + ["test"] * 5
    lines = [f"{k}.png,{0.9 - k % 2 * 0.8},{0.1 + k % 2 * 0.8},{split[k]}" for k in range(20)]
    data = load_data(
        of_folder(labels=write(tmp_path / "a.csv", ["path,cat,dog,split", *lines])), flat
    )
    assert data.train_distributions.shape == (10, 2) and len(data.test_labels) == 5


def test_a_label_stands_beside_its_distribution(flat, tmp_path):
    """The published class for tests, what people see for the loss; other columns are passed over and named."""
    lines = [f"{k}.png,{('cat', 'dog')[k % 2]},0.4,0.6" for k in range(20)]
    labels = write(tmp_path / "a.csv", ["path,label,cat,dog", *lines])
    data = load_data(of_folder(labels=labels), flat)
    assert data.train_labels.bincount().tolist() == [8, 8]
    assert (data.train_distributions == torch.tensor([0.4, 0.6])).all()
    labels = write(tmp_path / "a.csv", ["path,label,age,place", *lines])
    with pytest.warns(UserWarning, match="a.csv: columns passed over: age, place"):
        data = load_data(of_folder(labels=labels), flat)
    assert data.train_distributions is None


def test_columns_that_are_the_folders_names_leave_classes_and_splits_to_the_folders(
    animals, tmp_path
):
    lines = [f"{path},0.3,0.7" for path in list_folder(animals).table.path]
    labels = write(tmp_path / "a.csv", ["path,cat,dog", *lines])
    data = load_data(of_folder(labels=labels), animals)
    assert [data.class_names[c] for c in data.train_labels] == [f[:3] for f in data.train_files]


GOOD = ["path,label", *(f"{k}.png,{k % 2}" for k in range(20))]


@pytest.mark.parametrize("lines, message", [
    (["path,label", "a.png,cat"], "expected two or more classes, .* got cat"),
    (["path", "a.png"], "expected columns parted by commas, semicolons or tabs, one of them path"),
    (["path,label"], "holds no rows"),
    (["path,label", *GOOD[1:], "7.png,1"], "line 22: 7.png had a row already, line 9"),
    (["path,label", *GOOD[1:], "20.png,"], "line 22, 20.png: no label"),
    (["path,label", *GOOD[1:], ",1"], "line 22: no path"),
    (["image,label", *GOOD[1:]], "one of them path, got image, label"),
    (["path,label,label", "0.png,1,1"], "columns that are there twice: label"),
    (["path,label", *(f"{k},{k % 2}" for k in range(20))], "none of its files is in .*; write names with their ending, 0.png"),
    (["path,label", *(f"flat/{k}.png,{k % 2}" for k in range(20))], r"none of its files is in .*flat, the first is .*flat/flat/0.png$"),
    (["path,label,split", "0.png,a,train", "1.png,b,dev"], "line 3: expected train, val or test as split, got 'dev'"),
    (["path,label,split", "0.png,a,", "1.png,b,train"], "line 2: expected train, val or test as split, got ''"),
    (["path,label,group", "0.png,a,p", "1.png,b,"], "line 3, 1.png: no group"),
    (["path,label,group", *(f"{k}.png,{k % 2},p" for k in range(20))], "group: a split needs two or more groups, got 1"),
    (["path,label,group", *(f"{k}.png,{k % 2},{k % 2}" for k in range(20))], "classes without images .*; none to test with: "),
    (["path,label,split", *(f"{k}.png,{k % 2},train" for k in range(20))], "classes without images .*none to test with: 0, 1"),
    (["path,cat,dog", *(f"{k}.png,0.5,0.6" for k in range(20))], "line 2, 0.png: expected 2 finite numbers .* got sum 1.1"),
    (["path,cat,dog", *(f"{k}.png,33.5,66.5" for k in range(20))], "got sum 100, smallest 33.5; divide percent by 100"),
])  # fmt: skip
def test_what_is_wrong_with_a_csv_is_one_line(flat, tmp_path, lines, message):
    with pytest.raises(ValueError, match=f"^[^\n]*{message}[^\n]*$"):
        find_files(flat, of_folder(labels=write(tmp_path / "a.csv", lines)))


def test_files_that_a_csv_names_and_are_not_there_cannot_be_read(flat, tmp_path):
    labels = write(tmp_path / "a.csv", [*GOOD, "gone.png,1"])
    with pytest.raises(ValueError, match="1 of 21 images in .* gone.png .*No such file"):
        load_data(of_folder(labels=labels), flat)
    with pytest.warns(UserWarning, match="left out: 1 of 21"):
        assert len(load_data(of_folder(labels=labels, on_bad_image="skip"), flat).train_files) == 16


# E. Files that cannot be read


@pytest.mark.parametrize("resident", ["always", "never"])
def test_the_split_is_made_of_files_that_can_be_read(animals, resident):
    """Whichever file is broken, each class keeps two of its four others to test with."""
    config = of_folder(val_share=0.4, on_bad_image="skip", resident=resident)
    for broken in sorted((animals / "cat").iterdir()):
        content = broken.read_bytes()
        broken.write_text("no image")
        with pytest.warns(UserWarning, match="left out: 1 of 10"):
            data = load_data(config, animals)
        broken.write_bytes(content)
        assert data.test_labels.bincount().tolist() == [2, 2]
        assert data.train_labels.bincount().tolist() == [2, 3]
        images = torch.cat(list(data.train_images.split(100)))
        assert data.mean == pytest.approx((images / 255).mean(dim=(0, 2, 3)).tolist(), abs=6e-5)
        for image, file in zip(images, data.train_files, strict=True):
            assert torch.equal(
                image.permute(1, 2, 0), torch.from_numpy(np.array(Image.open(animals / file)))
            )


# M. Small classes


def test_small_classes_are_taken_as_they_are_or_left_out(animals):
    for number in (0, 2, 4):  # two cats are left
        os.remove(animals / "cat" / f"{number}.png")
    draw(animals / "eel" / "0.png")
    (animals / "fox").mkdir()
    with pytest.raises(
        ValueError,
        match='none to train with: fox; none to test with: eel, fox; .*on_small_class="take"',
    ):
        load_data(of_folder(), animals)
    with pytest.warns(UserWarning, match="left out 2 classes without images .* eel, fox"):
        data = load_data(of_folder(on_small_class="take", labels_per_class=3), animals)
    assert data.class_names == ("cat", "dog")
    assert data.train_labels.bincount().tolist() == [1, 3]
    assert [data.class_names[c] for c in data.train_labels] == [f[:3] for f in data.train_files]


def test_a_class_in_one_split_alone_is_left_out(animals, tmp_path):
    for split in ("train", "val"):
        shutil.copytree(animals, tmp_path / "split" / split)
    draw(tmp_path / "split" / "train" / "bat" / "0.png")
    with pytest.warns(UserWarning, match="left out 1 classes .*; none to test with: bat"):
        files = find_files(tmp_path / "split", of_folder(on_small_class="take"))
    assert files.class_names == ("cat", "dog") and {c for _, c in files.train} == {0, 1}


def test_fewer_labels_than_asked_for_are_an_error_or_all_that_there_are(digits):
    few = few_labels(digits, 2, seed=0)
    with pytest.raises(ValueError, match='expected 1 to 2 .* got 5 .0: 2, .*on_small_class="take"'):
        few_labels(few, 5, seed=0)
    assert few_labels(few, 5, 0, "take").train_labels.bincount().tolist() == [2] * 10
    with pytest.raises(ValueError, match="labels_per_class: expected 1 to"):
        few_labels(few, 0, 0, "take")


def test_two_classes_must_be_left(animals):
    for number in (0, 2, 4, 6):
        os.remove(animals / "cat" / f"{number}.png")
    with (
        warnings.catch_warnings(),
        pytest.raises(ValueError, match="fewer than two classes are left"),
    ):
        find_files(animals, of_folder(on_small_class="take"))
