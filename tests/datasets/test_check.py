"""What a look at a data set finds, for folders and data sets of one's own: before the first step."""

import dataclasses
import time

import pytest
import torch

from genscl_lite.datasets import Dataset
from genscl_lite.datasets.check import check_data, odd_pixels, odd_things
from genscl_lite.datasets.seen import Seen
from genscl_lite.runs.finish import finish_run
from genscl_lite.runs.trained import Encoder
from genscl_lite.train.loop import pretrain


@pytest.fixture
def own():
    """A data set of one's own, of random pixels: 60 images to train with, 20 to test, of three classes."""
    random = torch.Generator().manual_seed(0)
    train, test = (
        torch.randint(256, (n, 3, 8, 8), dtype=torch.uint8, generator=random) for n in (60, 20)
    )
    labels = torch.arange(60) % 3
    return Dataset(
        "custom", train, labels, test, labels[:20], ("a", "b", "c"), (0.5,) * 3, (0.3,) * 3
    )


def with_one(labels, value):
    return torch.cat([torch.tensor([value]), labels[1:]])


LABELS = torch.arange(60) % 3
WRONG = [
    (dict(train_labels=with_one(LABELS, -1)), r"train_labels: expected class numbers from 0 to 2, got -1 \(1 of 60 are outside\); "
     "leave unlabeled images out, or train the row simclr"),
    (dict(test_labels=with_one(LABELS[:20], -1)), r"test_labels: expected class numbers from 0 to 2, got -1 \(1 of 20"),
    (dict(train_labels=LABELS + 1), r"train_labels: expected class numbers from 0 to 2, got 3 \(20 of 60 are outside\); subtract 1"),
    (dict(train_labels=with_one(LABELS, 7)), r"train_labels: expected class numbers from 0 to 2, got 7 \(1 of 60 are outside\)"),
    (dict(train_labels=LABELS[:, None]), r"train_labels: expected a tensor of integers of shape \(60,\), .* got torch.int64 of shape \(60, 1\)"),
    (dict(train_labels=LABELS[:50]), r"train_labels: expected a tensor of integers of shape \(60,\), .* got torch.int64 of shape \(50,\)"),
    (dict(train_labels=LABELS.float()), r"train_labels: expected a tensor of integers .* got torch.float32 of shape \(60,\)"),
    (dict(train_labels=LABELS > 0), "train_labels: expected a tensor of integers .* got torch.bool"),
    (dict(train_labels=torch.eye(3)[LABELS]), r"train_labels: expected .* got torch.float32 of shape \(60, 3\)"),
    (dict(train_labels=LABELS.numpy()), "train_labels: expected a tensor of integers .* got ndarray"),
    (dict(test_labels=LABELS[:20].tolist()), "test_labels: expected a tensor of integers .* got list"),
    (dict(class_names=("a",)), "class_names: expected two or more, got 1"),
    (dict(class_names=("a", "b", "a")), "class_names: expected each once, got a, b, a"),
    (dict(train_images=torch.zeros(60, 3, 8, 8, dtype=torch.int64)), "train_images: expected uint8, or floating point, of shape .*, got torch.int64"),
    (dict(train_images=torch.full((60, 3, 8, 8), 255.0)), "train_images: expected uint8, or floating point from 0 to 1, got 255 to 255"),
    (dict(train_images=torch.full((60, 3, 8, 8), torch.nan)), "train_images: .* got nan to nan"),
    (dict(train_images=torch.zeros(60, 8, 8, dtype=torch.uint8)), r"train_images: expected uint8, or .* of shape .* got torch.uint8 of shape \(60, 8, 8\)"),
    (dict(test_images=torch.zeros(20, 3, 9, 8, dtype=torch.uint8)), r"test_images: expected one or more of shape \(3, 8, 8\), got \(20, 3, 9, 8\)"),
    (dict(test_images=torch.zeros(0, 3, 8, 8, dtype=torch.uint8)), "test_images: expected one or more"),
    (dict(train_images=LABELS.numpy()), "train_images: expected a tensor, got ndarray"),
    (dict(std=(0.3, 0.0, 0.3)), r"std: expected numbers above 0 \(for a constant channel 1\), got \[0.3, 0.0, 0.3\]"),
    (dict(mean=(0.3, float("nan"), 0.3)), "mean: expected a number for each of 3 channels, got"),
    (dict(std=(0.3, 0.3)), "std: expected a number for each of 3 channels"),
    (dict(train_distributions=torch.full((60, 2), 0.5)), r"train_distributions: expected shape \(60, 3\), got \(60, 2\)"),
    (dict(train_distributions=torch.full((60, 3), 0.5)), "train_distributions: .* sums to 1.5"),
]  # fmt: skip


@pytest.mark.parametrize("change, message", WRONG)
def test_what_is_wrong_ends_training_before_the_first_step(own, quick, change, message):
    data = dataclasses.replace(own, **change)
    with pytest.raises(ValueError, match=f"^{message}[^\n]*$"):
        pretrain(
            quick("supcon", dataset="custom", labels_per_class=0),
            data,
            on_epoch=lambda run: pytest.fail("it was trained"),
        )


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32])
def test_class_numbers_may_be_small_integers(own, quick, dtype):
    small = dataclasses.replace(
        own, train_labels=own.train_labels.to(dtype), test_labels=own.test_labels.to(dtype)
    )
    config = quick("ce", dataset="custom", labels_per_class=0)
    runs = [pretrain(config, data) for data in (own, small)]
    assert (
        runs[0].log[-1]["loss"] == runs[1].log[-1]["loss"]
        and runs[0].log[-1]["accuracy"] == runs[1].log[-1]["accuracy"]
    )


def test_statistics_of_numpy_one_for_all_channels_and_numbered_classes_serve(own, quick, tmp_path):
    """From the first step to predictions of the saved model."""
    images = own.train_images.numpy() / 255
    loose = {"mean": (images.mean(),), "std": [images.std()], "class_names": range(3)}
    data = dataclasses.replace(own, **loose)
    run = pretrain(quick("supcon", dataset="custom", labels_per_class=0), data)
    finish_run(run, data, tmp_path)
    assert set(Encoder.load(tmp_path).predict(own.test_images)) <= {"0", "1", "2"}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("floating", [False, True])
def test_nothing_is_said_where_nothing_is_odd(own, digits, floating):
    if floating:
        own = dataclasses.replace(
            own, train_images=own.train_images / 255, test_images=own.test_images / 255
        )
    for data in (own, digits):
        check_data(data)
        assert odd_things(data) == []


def test_what_is_odd_is_counted_and_named_in_one_line(own, quick):
    """Images in both splits, images of one color, a constant channel, classes without images; images need not be contiguous."""
    train, test = own.train_images.clone(), own.test_images.clone()
    train[:, 1] = 9
    test[3], test[5], test[6], test[7] = train[7], train[7], train[8], train[9]
    test[11] = torch.tensor([1, 2, 3], dtype=torch.uint8)[:, None, None]
    train[13] = 0
    train[:, 1] = 9
    test[14, :, 0, 0] = test[14, :, -1, -1] = 5  # not of one color for its corners
    data = dataclasses.replace(
        own,
        train_images=train.to(memory_format=torch.channels_last),
        test_images=test,
        train_labels=own.train_labels % 2,
    )
    with pytest.warns(UserWarning) as warned:
        pretrain(quick("supcon", dataset="custom", labels_per_class=0), data)
    assert str(warned[0].message) == (
        "custom: no image to train with of 1 classes: c; 4 of 20 images to test with are among those to train with: "
        "test 3 = train 7, test 5 = train 7, test 6 = train 8 and 1 more; "
        "3 images have copies of another class: test 3 = train 7, test 5 = train 7, test 7 = train 9; 2 images are of a single color: train 13, test 11; "
        "channel 1: the same value in all images to train with"
    )


def test_a_class_of_one_image_is_named_where_others_have_more(own):
    labels = torch.zeros_like(own.train_labels)
    labels[3], labels[4:9] = 1, 2
    [note] = odd_things(dataclasses.replace(own, train_labels=labels))
    assert note == "one image to train with of 1 classes: b"
    alone = dataclasses.replace(
        own, train_images=own.train_images[:3], train_labels=torch.arange(3)
    )
    assert odd_things(alone) == []


def test_a_look_does_not_depend_on_how_images_come():
    images = torch.randint(
        2, (2500, 1, 2, 2), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    whole, parts = Seen.of(images), [Seen.of(part) for part in images.split(7)]
    assert whole.hashes == [known for part in parts for known in part.hashes]
    assert torch.equal(whole.constant, torch.cat([part.constant for part in parts]))
    assert len(whole.plain) > 200 and whole.constant_channels == []
    names, labels = [str(i) for i in range(2500)], [0] * 2500
    odd = odd_pixels(whole, whole, names, names, labels, labels)
    assert odd[0].startswith("2500 of 2500 images to test with")
    assert odd[1].startswith("2484 images to train with are there twice: ")


def test_sixty_thousand_images_are_looked_at_in_no_time(digits):
    """As large as CIFAR's, it takes half a second; the test allows for slow machines."""
    images = torch.randint(256, (60_000, 3, 32, 32), dtype=torch.uint8)
    labels = torch.arange(60_000) % 10
    data = dataclasses.replace(
        digits,
        train_images=images[:50_000],
        train_labels=labels[:50_000],
        test_images=images[50_000:],
        test_labels=labels[50_000:],
    )
    started = time.process_time()
    assert odd_things(data) == [] and time.process_time() - started < 2
