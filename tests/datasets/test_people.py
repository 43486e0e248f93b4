"""CIFAR-10H, with a CIFAR-10 of 30 images and invented votes in place of the published."""

import hashlib
import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import one_hot

from genscl_lite.datasets import builtin, few_labels, load_dataset, people
from genscl_lite.datasets.people import download_counts, read_counts
from tests.datasets.test_builtin import Server, tiny_cifar  # noqa: F401, a fixture

COUNTS = np.eye(5, 10, dtype=np.int64) * 40 + np.eye(5, 10, k=1, dtype=np.int64) * 10


def published(monkeypatch, counts):
    """Take these counts for the published ones."""
    monkeypatch.setattr(people, "SHAPE", counts.shape)
    monkeypatch.setattr(
        people, "SHA256", hashlib.sha256(counts.astype("<i8").tobytes()).hexdigest()
    )


def as_npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.fixture
def root(tiny_cifar, tmp_path, monkeypatch):  # noqa: F811
    """A folder with CIFAR-10; of its five test images two are held out, of its 25 to train with ten are tested on."""
    published(monkeypatch, COUNTS)
    monkeypatch.setattr(people, "HELD_OUT", 2)
    monkeypatch.setattr(people, "TESTED", 10)
    return builtin.download_cifar("cifar10", tmp_path / "root", (Server(tiny_cifar[0]).url,)).parent


def test_people_teach_with_what_cifar_tests_with(root):
    np.save(root / "cifar10h-counts.npy", COUNTS)
    cifar = load_dataset("cifar10", root)
    soft, hard = (load_dataset(name, root) for name in ("cifar10h", "cifar10h_labels"))
    for images in (soft, hard):
        assert torch.equal(images.train_images, cifar.test_images[:3])
        assert torch.equal(images.train_labels, cifar.test_labels[:3])
        assert torch.equal(images.test_images, cifar.train_images[:10])
        assert torch.equal(images.test_labels, cifar.train_labels[:10])
        assert torch.equal(images.held_out_images, cifar.test_images[3:])
        assert images.held_out_distributions[0].tolist() == pytest.approx(
            [0, 0, 0, 0.8, 0.2] + 5 * [0]
        )
        assert abs(images.normalize(images.train_images / 255).mean()) < 1e-3
    assert soft.train_distributions.tolist()[2] == pytest.approx([0, 0, 0.8, 0.2] + 6 * [0])
    assert hard.train_distributions is None and (soft.name, hard.name) == (
        "cifar10h",
        "cifar10h_labels",
    )


@pytest.mark.parametrize("seed", [0, 1])
def test_fewer_images_of_each_published_class_keep_their_distributions(seed):
    digits = load_dataset("digits")
    soft = 0.9 * one_hot(digits.train_labels, 10).float() + 0.01
    people = {"held_out_images": digits.test_images[:20], "held_out_distributions": soft[:20]}
    few = few_labels(replace(digits, train_distributions=soft, **people), 2, seed)
    assert few.train_distributions.argmax(dim=1).tolist() == few.train_labels.tolist()
    assert few.train_labels.bincount().tolist() == [2] * 10 and len(few.held_out_images) == 20


@pytest.mark.parametrize(
    "counts",
    [COUNTS.astype(np.uint8), np.asfortranarray(COUNTS), COUNTS.astype(">i4"), COUNTS * 1.0],
)
def test_the_hash_is_of_the_values_whatever_holds_them(counts, tmp_path, monkeypatch):
    published(monkeypatch, COUNTS)
    np.save(tmp_path / "a.npy", counts)
    np.savez_compressed(tmp_path / "b.npz", probs=counts / 50, counts=counts)
    for name in ("a.npy", "b.npz"):
        read = read_counts(tmp_path / name)
        assert read.dtype == np.int64 and np.array_equal(read, COUNTS)


NOBODY = COUNTS.copy()
NOBODY[3] = 0


@pytest.mark.parametrize("counts, message", [
    (COUNTS[:4], r"expected counts of shape \(5, 10\), got int64 of \(4, 10\)"),
    (COUNTS > 0, r"expected counts of shape \(5, 10\), got bool"),
    (NOBODY, "nobody chose a class of image 3"),
    (COUNTS[::-1], r"other values \(sha256 \w{64}, expected \w{64}\)$"),
    (COUNTS / 50, "other values .*; these are probabilities, the file of counts is asked for"),
    (np.array([{}]), "holds no counts .*pickle"),
])  # fmt: skip
def test_wrong_counts_are_named_in_one_line(counts, message, tmp_path, monkeypatch):
    published(monkeypatch, COUNTS)
    np.save(tmp_path / "cifar10h-counts.npy", counts)
    with pytest.raises(ValueError, match=f"^cifar10h: .*cifar10h-counts.npy: {message}") as error:
        read_counts(tmp_path / "cifar10h-counts.npy")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "content", [b"", b"<html>not found</html>", b"PK\x03\x04", as_npy(COUNTS)[:300]]
)
def test_what_is_no_array_is_named(content, tmp_path):
    (tmp_path / "counts.npy").write_bytes(content)
    with pytest.raises(ValueError, match="^cifar10h: .*counts.npy: holds no counts [^\n]*$"):
        read_counts(tmp_path / "counts.npy")


def test_an_archive_without_counts_is_named(tmp_path):
    np.savez(tmp_path / "cifar10h.npz", probs=COUNTS / 50)
    with pytest.raises(ValueError, match="holds no counts .*counts is not a file in the archive"):
        read_counts(tmp_path / "cifar10h.npz")


def test_a_missing_file_says_what_to_do(root):
    message = r"^cifar10h: .*cifar10h-counts.npy is missing; run `genscl data cifar10h --root .*`, or put it or cifar10h.npz"
    with pytest.raises(FileNotFoundError, match=message):
        load_dataset("cifar10h", root)


def test_the_download_is_checked_and_kept(tmp_path, monkeypatch, capsys):
    published(monkeypatch, COUNTS)
    wrong, page, right = Server(as_npy(COUNTS + 1)), Server(b"<html>"), Server(as_npy(COUNTS))
    with pytest.raises(
        ConnectionError,
        match="(?s)^cifar10h: no mirror gave cifar10h-counts.npy.*other values.*holds no",
    ):
        download_counts(tmp_path, (wrong.url, page.url))
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    np.save(tmp_path / "cifar10h-counts.npy", COUNTS[:2])  # a wrong one there is replaced
    monkeypatch.setattr(people, "URLS", (wrong.url, right.url))
    assert builtin.main(["cifar10h", "--root", str(tmp_path)]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "cifar10h-counts.npy")
    right.answers = 0
    assert builtin.main(["cifar10h", "--root", str(tmp_path)]) == 0 and not right.answers
