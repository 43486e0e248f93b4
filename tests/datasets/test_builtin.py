import hashlib
import http.server
import io
import os
import pickle
import socket
import tarfile
import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchvision
from sklearn.datasets import load_digits

from genscl_lite.datasets import builtin, load_data, load_dataset
from genscl_lite.datasets.builtin import data_root, download_cifar
from genscl_lite.datasets.registry import wrong_labels


def test_digits_are_scikit_learns(digits):
    whole = load_dataset("digits")
    assert len(whole.train_labels) == 1000 and len(whole.test_labels) == 797
    assert (
        whole.train_images.dtype == torch.uint8
        and whole.image_shape == (1, 8, 8)
        and whole.num_classes == 10
    )
    everything = torch.cat([whole.train_images, whole.test_images]).flatten(1).sort(dim=0).values
    expected = torch.from_numpy(np.round(load_digits().data * 255 / 16)).sort(dim=0).values
    assert torch.equal(everything, expected.to(torch.uint8))


def test_few_labels_by_seed_and_a_fixed_test_split():
    sets = [load_dataset("digits", labels_per_class=7, seed=s) for s in (0, 0, 1)]
    for images in sets:
        assert (images.train_labels.bincount() == 7).all()
        assert torch.equal(images.test_images, sets[0].test_images)
    assert torch.equal(sets[0].train_images, sets[1].train_images)
    assert not torch.equal(sets[0].train_images, sets[2].train_images)


def test_a_share_of_the_training_labels_is_made_wrong_by_seed():
    about = {"dataset": "digits", "labels_per_class": 20}
    clean, wrong, again, other = (
        load_data(SimpleNamespace(**about, seed=0, label_noise=noise), None)
        for noise in (0.0, 0.4, 0.4, 0.2)
    )
    assert torch.equal(clean.train_images, wrong.train_images) and torch.equal(
        clean.test_labels, wrong.test_labels
    )
    assert torch.equal(wrong.train_labels, again.train_labels)
    for noisy, count in ((wrong, 80), (other, 40)):
        changed = noisy.train_labels != clean.train_labels
        assert (
            changed.sum() == count and len(clean.train_labels[changed].unique()) == 10
        )  # of all classes
    steps = (wrong.train_labels - clean.train_labels)[wrong.train_labels != clean.train_labels] % 10
    assert set(steps.tolist()) == set(range(1, 10))  # to all other classes


def test_distributions_are_not_made_wrong():
    digits = load_dataset("digits", labels_per_class=2)
    soft = replace(digits, train_distributions=torch.full((20, 10), 0.1))
    with pytest.raises(
        ValueError,
        match="label_noise: needs two classes, and labels that are no distributions, in digits",
    ):
        wrong_labels(soft, 0.2, seed=0)


def test_no_test_image_is_trained_on():
    whole = load_dataset("digits")
    train, test = (
        {image.numpy().tobytes() for image in images}
        for images in (whole.train_images, whole.test_images)
    )
    assert not train & test


def test_normalized_images_have_mean_0_and_deviation_1(digits):
    whole = load_dataset("digits")
    pixels = whole.normalize(whole.train_images / 255)
    assert abs(pixels.mean()) < 1e-3 and abs(pixels.std() - 1) < 1e-3


@pytest.mark.parametrize("request_, message", [
    (dict(name="digit"), "dataset: 'digit' is unknown .did you mean 'digits'"),
    (dict(name="digits", labels_per_class=500), "labels_per_class: expected 1 to 9[0-9] .* got 500"),
    (dict(name="digits", labels_per_class=-1), "labels_per_class: .*got -1"),
])  # fmt: skip
def test_bad_requests_are_named(request_, message):
    with pytest.raises(ValueError, match=message):
        load_dataset(**request_)


def test_the_folder_is_the_parameter_or_the_environments(monkeypatch):
    monkeypatch.delenv("GENSCL_DATA", raising=False)
    assert str(data_root()) == "data"
    monkeypatch.setenv("GENSCL_DATA", "/somewhere")
    assert str(data_root()) == "/somewhere" and str(data_root("/else")) == "/else"


@pytest.fixture
def tiny_cifar(tmp_path, monkeypatch):
    """A CIFAR-10 of 30 images in torchvision's format: its archive, and "cifar10" pointing at it."""
    random = np.random.default_rng(0)
    contents = {
        f"data_batch_{i}": {
            "data": random.integers(0, 256, (5, 3072), dtype=np.uint8),
            "labels": list(range(5)),
        }
        for i in range(1, 6)
    }
    contents["test_batch"] = {
        "data": random.integers(0, 256, (5, 3072), dtype=np.uint8),
        "labels": list(range(5)),
    }
    contents["batches.meta"] = {"label_names": [f"class {i}" for i in range(10)]}
    files = {name: pickle.dumps(content) for name, content in contents.items()}
    md5 = {name: hashlib.md5(content).hexdigest() for name, content in files.items()}
    archive = tmp_path / "served" / "cifar-10-python.tar.gz"
    archive.parent.mkdir()
    with tarfile.open(archive, "w:gz") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))

    class TinyCIFAR10(torchvision.datasets.CIFAR10):
        train_list = [[f"data_batch_{i}", md5[f"data_batch_{i}"]] for i in range(1, 6)]
        test_list = [["test_batch", md5["test_batch"]]]
        meta = {"filename": "batches.meta", "key": "label_names", "md5": md5["batches.meta"]}
        url, tgz_md5 = (
            "http://127.0.0.1:9/university",
            hashlib.md5(archive.read_bytes()).hexdigest(),
        )

    monkeypatch.setitem(builtin.ARCHIVES, "cifar10", TinyCIFAR10)
    return archive.read_bytes(), contents


class Server(http.server.ThreadingHTTPServer):
    """Serves one body at any address; ``breaks_after`` ends each answer early."""

    def __init__(self, body, breaks_after=None):
        self.body, self.breaks_after, self.answers = body, breaks_after, 0
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/file"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.answers += 1
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body[: self.server.breaks_after])

    def log_message(self, *_):
        pass


def test_what_is_downloaded_is_what_is_loaded(tiny_cifar, tmp_path):
    archive, contents = tiny_cifar
    server, root = Server(archive), tmp_path / "root"
    assert download_cifar("cifar10", root, (server.url,)) == root / "cifar-10-batches-py"
    server.answers = 0
    assert download_cifar("cifar10", root, (server.url,)) == root / "cifar-10-batches-py"
    assert server.answers == 0  # it is there already
    images = load_dataset("cifar10", root)
    assert images.train_images.shape == (25, 3, 32, 32) and images.class_names[3] == "class 3"
    assert np.array_equal(images.test_images.numpy().reshape(5, -1), contents["test_batch"]["data"])


def test_a_mirror_with_another_file_a_part_or_none_is_passed_over(tiny_cifar, tmp_path):
    archive, _ = tiny_cifar
    wrong, cut, right = (
        Server(archive[:-1] + b"x"),
        Server(archive, breaks_after=1000),
        Server(archive),
    )
    dead = "http://127.0.0.1:9/file"
    download_cifar("cifar10", tmp_path / "root", (dead, wrong.url, cut.url, right.url))
    assert wrong.answers == cut.answers == right.answers > 0
    with pytest.raises(ConnectionError, match="(?s)no mirror gave.*127.0.0.1:9.*corrupted"):
        download_cifar("cifar10", tmp_path / "other", (dead, wrong.url))
    assert [path.name for path in (tmp_path / "other").iterdir()] == [".lock"]


@pytest.mark.parametrize("left", ["cifar-10-python.tar.gz", ".cifar-10-python.tar.gz.1.tmp.gz"])
def test_what_a_killed_download_left_is_replaced(left, tiny_cifar, tmp_path):
    """Torchvision's own leaves a part under the archive's name."""
    root, server = tmp_path / "root", Server(tiny_cifar[0])
    root.mkdir()
    (root / left).write_bytes(b"x")
    os.utime(root / left, (0, 0))
    download_cifar("cifar10", root, (server.url,))
    assert server.answers and {path.name for path in root.iterdir()} == {
        ".lock",
        "cifar-10-python.tar.gz",
        "cifar-10-batches-py",
    }
    assert (root / "cifar-10-python.tar.gz").read_bytes() == tiny_cifar[0]


def test_a_host_that_says_nothing_is_given_up(tiny_cifar, tmp_path, monkeypatch):
    waited, before = [], socket.getdefaulttimeout()

    def silent(*_):
        waited.append(socket.getdefaulttimeout())
        raise TimeoutError("timed out")

    monkeypatch.setattr(builtin, "download_url", silent)
    with pytest.raises(ConnectionError, match="no mirror gave(?s:.*)university: timed out"):
        download_cifar("cifar10", tmp_path)
    assert waited == [60] * 3 and socket.getdefaulttimeout() == before


def test_missing_and_damaged_files_are_named(tiny_cifar, tmp_path, monkeypatch):
    missing = r"data_batch_1 is missing \(md5 \w{32}\); run `genscl data cifar10"
    with pytest.raises(FileNotFoundError, match=missing):
        load_dataset("cifar10", tmp_path)
    root = download_cifar("cifar10", tmp_path, (Server(tiny_cifar[0]).url,)).parent
    path = root / "cifar-10-batches-py" / "data_batch_3"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(
        FileNotFoundError, match=r"data_batch_3 is damaged \(md5 \w{32}, expected \w{32}\)"
    ):
        load_dataset("cifar10", root)


def test_the_command_line(tiny_cifar, tmp_path, monkeypatch, capsys):
    server = Server(tiny_cifar[0])
    monkeypatch.setitem(builtin.MIRRORS, "cifar10", (server.url,))
    assert builtin.main(["cifar10", "--root", str(tmp_path)]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "cifar-10-batches-py")
    server.shutdown()
    server.server_close()
    assert builtin.main(["cifar10", "--root", str(tmp_path / "else")]) == 1
    assert "error: cifar10: no mirror gave" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["../outside", "/{tmp}/outside", "link/outside"])
def test_an_archive_with_paths_outside_is_refused(name, tiny_cifar, tmp_path, monkeypatch, capsys):
    """Even if its md5 were right. A path from the root is taken for one from the archive's folder."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
        for entry in ([link] if name.startswith("link") else []) + [
            tarfile.TarInfo(name.format(tmp=tmp_path))
        ]:
            tar.addfile(entry, io.BytesIO())
    monkeypatch.setattr(
        builtin.ARCHIVES["cifar10"], "tgz_md5", hashlib.md5(archive.getvalue()).hexdigest()
    )
    monkeypatch.setitem(builtin.MIRRORS, "cifar10", (Server(archive.getvalue()).url,))
    status = builtin.main(["cifar10", "--root", str(tmp_path / "in" / "root")])
    errors = capsys.readouterr().err.strip().split("\n")  # the first is the bar of the download
    assert (
        status == 0
        if name.startswith("/")
        else status == 1 and len(errors) == 2 and errors[1].startswith("error: ")
    )
    assert not (tmp_path / "outside").exists() and not (tmp_path / "in" / "outside").exists()


def test_a_pickle_in_place_of_cifars_is_not_read(tiny_cifar, tmp_path):
    class Attack:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "attacked"),)

    root = download_cifar("cifar10", tmp_path, (Server(tiny_cifar[0]).url,)).parent
    for name in ("data_batch_2", "batches.meta"):
        (root / "cifar-10-batches-py" / name).write_bytes(pickle.dumps(Attack()))
        with pytest.raises(FileNotFoundError, match="is damaged .md5"):
            load_dataset("cifar10", root)
    assert not (tmp_path / "attacked").exists()
