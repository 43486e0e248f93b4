"""Bad inputs akin to those that people reported: each is one line that says what was wrong, before work starts."""

import dataclasses
import os
import sys
import types

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from genscl_lite.datasets import load_data
from genscl_lite.datasets.folder import find_files
from genscl_lite.train.augment import build_augment
from genscl_lite.train.config import TrainConfig
from genscl_lite.train.loop import pretrain
from genscl_lite.train.state import new_model, new_run
from tests.folders import draw, of_folder

RANDOM = np.random.default_rng(0)


def refused(message):
    return pytest.raises(ValueError, match=f"^[^\n]*{message}[^\n]*$")


# A CSV of labels

ROWS = [f"{k}.png,{('cat', 'dog')[k % 2]}" for k in range(10)]


@pytest.fixture
def flat(tmp_path):
    """Ten images in one folder, cats and dogs in turn."""
    for k in range(10):
        draw(tmp_path / "flat" / f"{k}.png")
    return tmp_path / "flat"


def asking(tmp_path, content, **changes):
    (tmp_path / "a.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    return of_folder(labels=str(tmp_path / "a.csv"), **changes)


def table(*more, head="path,label", rows=ROWS):
    return "\n".join([head, *rows, *more])


def soft(row):
    return table(head="path,a,b", rows=[f"{k}.png,{row}" for k in range(10)])


@pytest.mark.parametrize("content, message", [
    (table("../flat/0.png,cat"), "line 12: expected a path below the folder of the images, got '../flat/0.png'"),
    (table("x/../../1.png,cat"), "line 12: expected a path below the folder"),
    (table("/etc/1.png,cat"), "line 12: expected a path below the folder of the images, got '/etc/1.png'"),
    (table("..,cat"), "line 12: expected a path below the folder"),
    (table("./3.png,dog"), "line 12: 3.png had a row already, line 5"),
    (table("x/..//3.png,cat"), "line 12: 3.png had a row already, line 5"),
    (table('"3\n.png",cat'), r"line 12: expected a path below the folder of the images, got '3\\n.png'"),
    (table("1\0.png,cat"), r"line 12: expected a path below the folder of the images, got '1\\x00.png'"),
    (bytes(300), "a.csv: .*, one of them path, got "),
    (b"\x89PNG\r\n\x1a\n\0\0", "is not UTF-8"),
    (table('"3.png,cat'), "a.csv: unexpected end of data"),
    (table("3.png,cat,1"), "a.csv: .*Expected 2 fields in line 12, saw 3"),
    ("\n".join(ROWS), "one of them path, got 0.png, cat"),
    (table(head="Path,Label"), "one of them path, got Path, Label"),
    (table(head="path label"), "line 2, 0.png,cat: no label"),
    (table(head="path;label"), "line 2, 0.png,cat: no label"),
    ("\n\n\n", "a.csv: Could not determine delimiter"),
    ('[{"path": "0.png", "label": 1}]', "one of them path, got "),
    (table(rows=[f"x\\{row}" for row in ROWS]), r"none of its files is in .*; write / for \\"),
    (soft("inf,0"), "line 2, 0.png: expected 2 finite .* got sum inf"),
    (soft("NaN,1"), "line 2, 0.png: expected 2 finite .* got NaN for a"),
    (soft(",1"), "line 2, 0.png: expected 2 finite .* got nan for a"),
    (soft("-1.2,3.4"), "line 2, 0.png: expected 2 finite .* smallest -1.2"),
    (soft("1e308,1e308"), "line 2, 0.png: expected 2 finite .* got sum inf"),
    (soft("1e-320,0"), "line 2, 0.png: expected 2 finite .* got sum "),
    (soft("half,half"), "line 2, 0.png: expected 2 finite .* got half for a"),
    (table(head="path,label,split", rows=[f"{row},trian" for row in ROWS]), "line 2: expected train, val or test as split, got 'trian'"),
    (table(head="path,label,split", rows=[f"{row},val" for row in ROWS]), "none to train with: cat, dog"),
    (table("9.png,dog,", head="path,label,group", rows=[f"{row},p{k}" for k, row in enumerate(ROWS[:9])]), "line 11, 9.png: no group"),
])  # fmt: skip
def test_a_csv_that_makes_no_sense(flat, tmp_path, content, message):
    with refused(message):
        find_files(flat, asking(tmp_path, content))


@pytest.mark.parametrize("change", [
    lambda text: "\ufeff" + text.replace("\n", "\r\n"),
    lambda text: text.replace("\n", "\r"),
    lambda text: text.replace("0.png", "./0.png"),
    lambda text: text.replace(",", ";"),
    lambda text: text.replace("0.png,cat", '"0.png", "cat"'),
    lambda text: text + "\n\n",
])  # fmt: skip
def test_a_csv_that_programs_write_otherwise_is_the_same(flat, tmp_path, change):
    """By Windows, an old Mac, with dots, quotes and blank lines."""
    expected = find_files(flat, asking(tmp_path, table()))
    assert find_files(flat, asking(tmp_path, change(table()))) == expected


def test_a_comma_in_a_name_is_quoted(flat, tmp_path):
    draw(flat / "a,b.png")
    files = find_files(flat, asking(tmp_path, table('"a,b.png",dog')))
    assert ("a,b.png", 1) in files.train + files.test and len(files) == 11


def test_a_folder_that_a_csv_names_is_no_image(flat, tmp_path):
    (flat / "more.png").mkdir()
    with refused("1 of 11 images in .* cannot be read: more.png .*directory"):
        load_data(asking(tmp_path, table("more.png,dog")), flat)


# Folders and pixels


@pytest.fixture
def animals(tmp_path):
    for k in range(10):
        draw(tmp_path / "animals" / ("cat", "dog")[k % 2] / f"{k}.png")
    return tmp_path / "animals"


@pytest.mark.parametrize("name, content, message", [
    ("cat/z.png", b"", r"1 of 11 images in .* cannot be read: cat/z.png \(no image of a known format"),
    ("cat/a\nb.png", b"x", r"cannot be read: cat/a\\nb.png \(no image of a known format"),
    ("cat/a.ppm", b"P6\n0 0\n255\n", r"cannot be read: cat/a.ppm \(no image of a known format"),
    ("cat/a.jpg", b"<html>404", r"cannot be read: cat/a.jpg \(no image of a known format"),
    ("eel/notes.txt", b"x", "none to train with: eel; none to test with: eel"),
])  # fmt: skip
@pytest.mark.filterwarnings("ignore:root. passed over")
def test_a_folder_with_something_wrong(animals, name, content, message):
    (animals / name).parent.mkdir(exist_ok=True)
    (animals / name).write_bytes(content)
    with refused(message):
        load_data(of_folder(), animals)


def test_infinity_among_pixels_and_a_range_for_nothing(animals):
    with refused("intensity: 0,100 is about files with more than 8 bits, and there are none"):
        load_data(of_folder(intensity="0,100"), animals)
    values = RANDOM.random((8, 8), dtype="float32")
    values[3] = np.inf
    Image.fromarray(values).save(animals / "cat" / "a.tif")
    with refused(r"cannot be read: cat/a.tif \(NaN or infinity among its pixels\)"):
        load_data(of_folder(), animals)


def test_crops_that_no_memory_holds(animals, monkeypatch):
    def fail(*asked):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] can't allocate memory: 3e10 bytes")

    monkeypatch.setattr("genscl_lite.datasets.first_look.look_at", fail)
    with refused("image_size: crops of 8 x 8 pixels need more memory than there is"):
        load_data(of_folder(), animals)


def test_names_that_are_not_printable_stay_on_one_line(tmp_path):
    draw(tmp_path / "ca\nt" / "1.png")
    with refused(r"expected a folder for each of two or more classes in .*, got ca\\nt"):
        find_files(tmp_path, of_folder())


# Parameters


@pytest.mark.parametrize("changes, message", [
    ({"seed": 2**70}, "seed: expected a number below 9223372036854775808, got 1180591620717411303424"),
    ({"views": 10**11}, "views: expected a number below 1000, got 100000000000"),
    ({"val_share": float("nan")}, "val_share: expected a number of at least 0, got nan"),
    ({"learning_rate": float("inf")}, "learning_rate: expected a number above 0, got inf"),
    ({"epochs": True}, "epochs: expected int, got True"),
    ({"epochs": 1.0}, "epochs: expected int, got 1.0"),
    ({"temperature": "0.1"}, "temperature: expected float, got '0.1'"),
    ({"arch": None}, "arch: expected str, got None"),
    ({"balanced": "yes"}, "balanced: expected bool, got 'yes'"),
    ({"mix_probability": 1.5}, "mix_probability: expected a number from 0 to 1, got 1.5"),
])  # fmt: skip
def test_parameters_of_another_type_or_size(changes, message):
    with refused(message):
        TrainConfig(**changes)


@pytest.mark.parametrize("changes", [{"latent_dim": 10**12}, {"queue_size": 10**15}])
def test_networks_and_queues_that_no_memory_holds(quick, digits, changes):
    with pytest.raises(MemoryError, match="^out of memory on cpu: resnet_small with latent_dim"):
        pretrain(quick("genscl_mix_queue", **changes), digits)


# Weights


@pytest.mark.parametrize("ending", ["pt", "pth", "bin", "ckpt", "pkl"])
def test_pickles_are_refused(quick, digits, tmp_path, ending):
    path = tmp_path / f"m.{ending}"
    torch.save({}, path)
    with refused(
        rf"weights: .*m.{ending} is a pickle, which may run code .* expected a .safetensors"
    ):
        new_run(quick(weights=str(path)), digits, None, torch.device("cpu"))


@pytest.mark.parametrize("change, message", [
    (lambda state: {k: t * np.nan if t.is_floating_point() else t for k, t in state.items()}, "NaN or infinity in "),
    (lambda state: {f"module.{k}": t for k, t in state.items()}, "of another model .* on one side only, and .* more"),
    (lambda state: {k: t for k, t in state.items() if "stem" not in k}, "of another model .* on one side only, and .* more"),
    (lambda state: {k: t[:1] if t.ndim else t for k, t in state.items()}, "damaged, or of another model .*size mismatch"),
    (lambda state: {}, "of another model .* on one side only, and .* more"),
])  # fmt: skip
def test_weights_that_do_not_fit(quick, digits, tmp_path, change, message):
    state = {k: t.clone() for k, t in new_model(quick(), digits).encoder.state_dict().items()}
    save_file({k: t.contiguous() for k, t in change(state).items()}, tmp_path / "x.safetensors")
    with refused(f"weights: .*x.safetensors: {message}"):
        new_run(quick(weights=str(tmp_path / "x.safetensors")), digits, None, torch.device("cpu"))


# Functions of one's own


@pytest.fixture
def own(monkeypatch):
    """Put functions into a module ``own`` that configurations can name."""

    def put(**functions):
        monkeypatch.setitem(sys.modules, "own", types.SimpleNamespace(**functions))

    return put


@pytest.mark.parametrize("transform, message", [
    (lambda x: x[:, :4], r"expected a view of shape \(1, 8, 8\) of such an image, got \(1, 4, 8\)"),
    (lambda x: x[None], r"expected a view of shape \(1, 8, 8\) .* got \(1, 1, 8, 8\)"),
    (lambda x: x.numpy(), r"expected a view of shape \(1, 8, 8\)"),
    (lambda x: None, r"expected a view of shape .* got NoneType"),
    (lambda x: (255 * x).to(torch.uint8), "expected a floating point view, got torch.uint8"),
    (lambda x: x > 0.5, "expected a floating point view, got torch.bool"),
    (lambda x: x * torch.nan, r"values in \[0, 1\], got nan to nan"),
    (lambda x: x / 0, r"values in \[0, 1\], got "),
    (lambda x: 255 * x, r"values in \[0, 1\], got 0 to 255"),
    (lambda x: (x - 0.5) / 0.1, r"got -5 to 5; leave out normalization, which the run adds"),
    (lambda x: 1 / 0, "the transform fails: ZeroDivisionError: division by zero"),
])  # fmt: skip
def test_transforms_that_return_something_else(own, transform, message):
    own(make=lambda: transform)
    augment = build_augment("own:make")
    images = torch.tensor([0, 255], dtype=torch.uint8).repeat(2, 1, 8, 4)
    with refused(f"augmentation: .*{message}"):
        augment.apply(images, augment.draw(2))


def test_functions_that_fail_are_named(own):
    own(none=lambda: None, fails=lambda: {}["a"], needs=lambda image: image, number=3)
    for name, message in (
        ("none", "own:none should return a transform, got None"),
        ("fails", r"own:fails\(\) fails: KeyError: 'a'"),
        ("needs", r"own:needs\(\) fails: TypeError: .*missing 1 required"),
        ("number", "module 'own' has no function 'number'"),
        ("gone", "module 'own' has no function 'gone'"),
    ):
        with refused(f"augmentation: .*{message}"):
            build_augment(f"own:{name}")


def test_data_sets_that_fail_are_named(own):
    own(
        none=lambda root, config: None,
        few=lambda: 1,
        fails=lambda root, config: {}["x\ny"],
        two=lambda root, config: (torch.zeros(3), torch.zeros(3)),
        says=lambda root, config: int("z"),
    )
    for name, message in (
        ("none", "own:none returned NoneType, expected a Dataset"),
        ("few", "own:few fails: TypeError: .* positional arguments but 2 were given"),
        ("fails", r"own:fails fails: KeyError: 'x\\ny'"),
        ("two", "own:two returned tuple, expected a Dataset"),
        ("says", "invalid literal"),  # its own words
    ):
        with refused(message):
            load_data(TrainConfig(dataset=f"own:{name}", labels_per_class=0))


def test_a_data_set_of_one_image_is_too_small_for_its_classes(own, digits):
    one = dataclasses.replace(
        digits, train_images=digits.train_images[:0], train_labels=digits.train_labels[:0]
    )
    own(load=lambda root, config: one)
    with refused("train_images: expected one or more"):
        load_data(TrainConfig(dataset="own:load", labels_per_class=0))


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="nothing is closed to root")
def test_a_file_that_may_not_be_read(animals):
    (animals / "cat" / "0.png").chmod(0)
    with refused("cannot be read: cat/0.png .*Permission denied"):
        load_data(of_folder(), animals)
