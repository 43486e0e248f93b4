import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.transforms import v2

from genscl_lite.datasets import images as image_files
from genscl_lite.datasets import workers as worker_file
from genscl_lite.datasets.decode import center_crop, read_rgb
from genscl_lite.datasets.first_look import first_look
from genscl_lite.datasets.images import ImageFiles
from tests.folders import add_corrupt, make_digit_folder
from tests.processes import finish, start_python

INDEX = torch.randperm(24, generator=torch.Generator().manual_seed(0)).reshape(6, 4)
EPOCH = {"seed": 3, "epoch": 2}


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    root = make_digit_folder(tmp_path_factory.mktemp("digits"), per_class=8, classes=3)
    return root, sorted(path.relative_to(root).as_posix() for path in root.rglob("*.*g"))


@pytest.fixture
def images(digits):
    def make(workers=0):
        return ImageFiles(*digits, 20, workers=workers, intensity=(0, 65535))

    return make


@pytest.fixture
def positions(tmp_path):
    """An image 250 x 200 whose red tells where a pixel is from left to right, and green from top to bottom."""
    y, x = np.mgrid[:200, :250]
    Image.fromarray(np.stack([x, y, 0 * x], axis=-1).astype(np.uint8)).save(
        tmp_path / "positions.png"
    )
    return ImageFiles(tmp_path, ["positions.png"], 20, workers=0)


def test_batches_come_in_the_order_of_the_index(tmp_path):
    for number in range(24):
        Image.new("RGB", (30, 20), (10 * number, 0, 255 - number)).save(tmp_path / f"{number}.png")
    images = ImageFiles(tmp_path, [f"{number}.png" for number in range(24)], 16, workers=2)
    batches = list(images.random_crops(INDEX, **EPOCH, views=3))
    assert len(batches) == 6 and all(
        batch.shape == (3, 4, 3, 16, 16) and batch.dtype == torch.uint8 for batch in batches
    )
    for numbers, batch in zip(INDEX, batches, strict=True):
        assert (batch[:, :, 0] == 10 * numbers[None, :, None, None]).all()
        assert (batch[:, :, 2] == 255 - numbers[None, :, None, None]).all()
    uneven = images.random_crops(INDEX.flatten().split(7), **EPOCH, views=1)
    assert [batch.shape[1] for batch in uneven] == [7, 7, 7, 3]


def test_crops_depend_on_seed_epoch_and_step_alone(images):
    whole = list(images().random_crops(INDEX, **EPOCH))
    in_processes = images(2)
    for _ in range(2):  # the second time by the processes that are there
        assert all(map(torch.equal, whole, in_processes.random_crops(INDEX, **EPOCH)))
    for workers in (0, 2):
        resumed = list(images(workers).random_crops(INDEX, **EPOCH, first_step=4))
        assert len(resumed) == 2 and all(map(torch.equal, whole[4:], resumed))
    for other in ({"seed": 3, "epoch": 3}, {"seed": 4, "epoch": 2}, {"seed": 2, "epoch": 3}):
        assert not any(map(torch.equal, whole, images().random_crops(INDEX, **other)))
    same = list(images().random_crops(INDEX[[0, 0]], **EPOCH))
    assert torch.equal(same[0], whole[0]) and not torch.equal(same[0], same[1])
    assert not torch.equal(whole[0][0], whole[0][1])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_part_of_each_batch_is_that_of_the_whole(images, workers):
    """Bit for bit, from any row to any row; so several processes can share a batch."""
    whole, some = list(images().random_crops(INDEX, **EPOCH)), images(workers)
    for rows in (slice(2), slice(2, 4), slice(3, None), slice(-3, -1), slice(0, 4, 2), slice(1, 1)):
        parts = list(some.random_crops(INDEX, **EPOCH, rows=rows))
        assert all(
            torch.equal(part, batch[:, rows]) for part, batch in zip(parts, whole, strict=True)
        )
    [last] = some.random_crops(INDEX, **EPOCH, rows=slice(1, 3), first_step=5)
    assert torch.equal(last, whole[5][:, 1:3])
    uneven = some.random_crops(INDEX.flatten().split(7), **EPOCH, views=1, rows=slice(2, 5))
    assert [batch.shape[1] for batch in uneven] == [3, 3, 3, 1]


def test_the_processes_stay_for_the_next_epoch(images):
    some = images(2)

    def processes():
        list(some.random_crops(INDEX, **EPOCH))
        [loader] = some._idle.values()
        return [process.pid for process in loader._iterator._workers]

    first = processes()
    assert len(first) == 2 and processes() == first
    next(some.random_crops(INDEX, **EPOCH))  # left before its end
    assert not set(processes()) & set(first)


def test_two_epochs_at_once_do_not_meet(images):
    some, alone = images(2), list(images().random_crops(INDEX, **EPOCH))
    list(some.random_crops(INDEX, **EPOCH))
    for a, b, expected in zip(
        some.random_crops(INDEX, **EPOCH), some.random_crops(INDEX, **EPOCH), alone, strict=True
    ):
        assert torch.equal(a, expected) and torch.equal(b, expected)


@pytest.mark.parametrize("workers", [0, 2])
def test_torchs_random_state_is_left_alone(images, workers):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    list(images(workers).random_crops(INDEX, **EPOCH))
    list(images(workers).split(10))
    assert torch.equal(torch.get_rng_state(), before)


def test_crops_are_distributed_as_torchvisions(positions):
    [batch] = positions.random_crops(
        [torch.zeros(600, dtype=torch.long)], **EPOCH, views=1, scale=(0.2, 0.9), ratio=(0.5, 1.5)
    )
    x, y = batch[0, :, 0].float(), batch[0, :, 1].float()
    width, height = (
        (values.amax(dim=(1, 2)) - values.amin(dim=(1, 2))) * 20 / 19 for values in (x, y)
    )
    torch.manual_seed(0)
    theirs = v2.RandomResizedCrop(20, (0.2, 0.9), (0.5, 1.5))
    drawn = [theirs.make_params([torch.zeros(3, 200, 250)]) for _ in range(4000)]
    columns = {name: torch.tensor([draw[name] for draw in drawn]).float() for name in drawn[0]}
    for ours, expected in ((width, columns["width"]), (height, columns["height"]),
                           (x.mean(dim=(1, 2)), columns["left"] + columns["width"] / 2),
                           (y.mean(dim=(1, 2)), columns["top"] + columns["height"] / 2)):  # fmt: skip
        assert abs(ours.mean() - expected.mean()) < 5 and abs(ours.std() - expected.std()) < 4
    area, ratio = width * height / 50000, width / height
    assert (
        0.18 < area.min() < 0.23
        and 0.8 < area.max() < 0.93
        and 0.48 < ratio.min() < 0.6
        and 1.3 < ratio.max() < 1.56
    )


def test_a_crop_of_everything_is_the_resized_image(positions):
    [batch] = positions.random_crops(
        [torch.zeros(1, dtype=torch.long)], **EPOCH, scale=(1, 1), ratio=(1.25, 1.25)
    )
    assert torch.equal(
        batch[0, 0], v2.functional.resize(read_rgb(positions.root / "positions.png"), [20, 20])
    )


def test_parts_and_devices(images, digits):
    some = images(2)
    everything = first_look(*digits, 20, workers=0, keep=True, intensity=(0, 65535)).images
    assert [len(part) for part in some.split(10)] == [10, 10, 4] and torch.equal(
        torch.cat(list(some.split(10))), everything
    )
    for index in (slice(3, 9), [5, 1], torch.tensor([7, 0, 7]), torch.arange(24) > 20):
        part = some[index]
        assert part.shape == everything[index].shape and torch.equal(
            torch.cat(list(part.split(100))), everything[index]
        )
    there = images().to("meta")
    assert there.device.type == "meta" and next(there.split(5)).device.type == "meta"
    assert next(there.random_crops(INDEX, **EPOCH)).device.type == "meta"


class Largest(TorchDispatchMode):
    """Remembers the largest tensor that an operation makes, in numbers."""

    size = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **kwargs or {})
        self.size = max(self.size, result.numel() if isinstance(result, torch.Tensor) else 0)
        return result


@pytest.mark.parametrize("height, width", [(2, 20000), (20000, 2)])
def test_a_long_thin_image_costs_no_more_than_its_pixels_and_the_result(tmp_path, height, width):
    Image.fromarray(
        np.arange(height * width * 3, dtype=np.uint64).reshape(height, width, 3).astype(np.uint8)
    ).save(tmp_path / "a.png")
    images = ImageFiles(tmp_path, ["a.png"], 64, workers=0)
    with Largest() as largest:
        [center] = images.split(1)
        list(images.random_crops([torch.tensor([0])], **EPOCH))
    assert largest.size <= 3 * height * width
    image = read_rgb(tmp_path / "a.png")
    middle = image[:, :, 9999:10001] if width > height else image[:, 9999:10001]
    assert torch.equal(center[0], v2.functional.resize(middle, [64, 64], antialias=True))


def test_a_square_image_is_resized_alone_and_a_middle_square_is_cut_out_of_others():
    square = torch.randint(
        256, (3, 40, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    assert torch.equal(center_crop(square, 16), v2.functional.resize(square, [16], antialias=True))
    for pad in ((7, 7, 0, 0), (0, 0, 9, 9)):
        assert torch.equal(center_crop(F.pad(square, pad), 16), center_crop(square, 16))


def test_an_image_of_very_many_pixels_is_named_with_what_allows_it(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    Image.new("RGB", (40, 30), "red").save(tmp_path / "vast.png")
    for limit, message in (
        (
            None,
            "exceeds limit of 1000 pixels; if you trust it, set GENSCL_MAX_PIXELS .environment.",
        ),
        ("1e9", "GENSCL_MAX_PIXELS: expected a whole number, got '1e9'"),
    ):
        monkeypatch.setenv("GENSCL_MAX_PIXELS", limit) if limit else monkeypatch.delenv(
            "GENSCL_MAX_PIXELS", raising=False
        )
        with pytest.raises(ValueError, match=rf"^[^\n]*vast.png: cannot be read: [^\n]*{message}$"):
            read_rgb(tmp_path / "vast.png")
    monkeypatch.setenv("GENSCL_MAX_PIXELS", "1200")
    assert read_rgb(tmp_path / "vast.png").shape == (3, 30, 40)


SCRIPT = """
import multiprocessing, pathlib, sys
from genscl_lite.datasets.first_look import first_look
multiprocessing.set_start_method("forkserver", force=True)
print(len(first_look(pathlib.Path(sys.argv[1]), [f"{k}.png" for k in range(200)], 16, workers=2, keep=True).images))
"""


@pytest.mark.slow
@pytest.mark.skipif(
    sys.platform != "linux",
    reason="elsewhere processes are not forked, and a script needs its guard",
)
def test_a_script_needs_no_guard_where_processes_are_forked(tmp_path):
    Image.new("RGB", (20, 20), "red").save(tmp_path / "0.png")
    for k in range(1, 200):
        (tmp_path / f"{k}.png").hardlink_to(tmp_path / "0.png")
    (tmp_path / "script.py").write_text(SCRIPT)
    printed = tmp_path / "printed"
    process = start_python(tmp_path / "script.py", tmp_path, printed=printed)
    assert finish(process, printed) == "200\n"


@pytest.mark.skipif(
    sys.platform != "linux", reason="only forked processes have what is changed here"
)
def test_a_process_that_ends_is_one_line(images, monkeypatch):
    """As where there is no fork and a script lacks its guard, or where memory is short."""
    monkeypatch.setattr(image_files, "read_rgb", lambda path, intensity: os._exit(1))
    for ask in (
        lambda some: next(some.split(5)),
        lambda some: next(some.random_crops(INDEX, **EPOCH)),
    ):
        with pytest.raises(
            ValueError,
            match=r"^workers: a process that decodes images has ended .DataLoader worker [^\n]*; memory is "
            r'short, or a script lacks `if __name__ == "__main__":`; workers=0 needs no processes$',
        ):
            ask(images(1))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux hands over tensors by /dev/shm")
def test_small_shared_memory_is_done_without(images, digits, monkeypatch):
    """As in a container that has 64 MB of it: pixels go through pipes, and are the same."""
    whole = list(images(2).random_crops(INDEX, **EPOCH))
    asked = []
    usage = shutil.disk_usage("/dev/shm")
    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: asked.append(path) or usage._replace(free=2**15)
    )
    by_pipe = worker_file.ByPipe.__call__
    monkeypatch.setattr(
        worker_file.ByPipe,
        "__call__",
        lambda *args: Path(digits[0] / "by_pipe.txt").touch() or by_pipe(*args),
    )
    some = images(2)
    assert all(map(torch.equal, whole, some.random_crops(INDEX, **EPOCH)))
    assert asked and (digits[0] / "by_pipe.txt").exists()
    (digits[0] / "by_pipe.txt").unlink()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux hands over tensors by /dev/shm")
def test_full_shared_memory_is_named(images, monkeypatch):
    def fail(path, intensity):
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space")

    monkeypatch.setattr(image_files, "read_rgb", fail)
    with pytest.raises(
        ValueError,
        match=r"^workers: /dev/shm is full \(.*unable to allocate[^\n]*\); make it larger [^\n]*$",
    ):
        next(images(1).split(5))


@pytest.mark.parametrize("arguments, message", [
    ({"views": 0}, "views: expected a whole number of at least 1, got 0"),
    ({"seed": -1}, "seed: expected a whole number of at least 0, got -1"),
    ({"first_step": 0.5}, "first_step: .* got 0.5"),
    ({"scale": (0.5, 1.5)}, "scale: expected two numbers above 0 of at most 1, the smaller first, got .0.5, 1.5."),
    ({"ratio": (2, 1)}, "ratio: expected two numbers above 0, the smaller first, got .2, 1."),
    ({"index": torch.tensor([[0, 24]])}, "index: expected numbers from 0 to 23, got 0 to 24"),
    ({"index": torch.tensor([[-1, 2]])}, "index: expected numbers from 0 to 23, got -1 to 2"),
])  # fmt: skip
def test_bad_arguments_are_named(images, arguments, message):
    with pytest.raises(ValueError, match=message):
        images().random_crops(**{"index": INDEX, **EPOCH} | arguments)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_file_that_breaks_later_is_named(tmp_path, workers):
    add_corrupt(tmp_path)
    images = ImageFiles(tmp_path, ["cut.png"], 16, workers=workers)
    with pytest.raises(
        ValueError, match="^[^\n]*cut.png: cannot be read: image file is truncated$"
    ):
        list(images.random_crops([torch.tensor([0])], **EPOCH))
    with pytest.raises(
        ValueError, match="^[^\n]*cut.png: cannot be read: image file is truncated$"
    ):
        list(images.split(3))
