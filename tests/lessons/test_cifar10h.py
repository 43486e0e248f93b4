"""CIFAR-10H, with a CIFAR-10 of 30 images and invented votes in place of the published."""

import hashlib

import numpy as np
import pytest
import torch
from genscl_lite.runs.seeds import run_seeds
from scipy.stats import spearmanr
from torch.nn.functional import one_hot

from genscl_lessons import cifar10h
from genscl_lessons.cifar10h import compare_all, main, read_counts, similarity_correlations
from genscl_lite.datasets import builtin, files, load_dataset
from genscl_lite.train.config import TrainConfig
from tests.conftest import QUICK
from tests.datasets.test_builtin import Server, tiny_cifar  # noqa: F401, a fixture

COUNTS = np.eye(5, 10, dtype=np.int64) * 40 + np.eye(5, 10, k=1, dtype=np.int64) * 10


@pytest.fixture
def root(tiny_cifar, tmp_path, monkeypatch):  # noqa: F811
    """A folder with CIFAR-10; of its five test images two are held out, of its 25 to train with ten are tested on."""
    hashed = hashlib.sha256(COUNTS.astype("<i8").tobytes()).hexdigest()
    monkeypatch.setattr(cifar10h, "SHA256", hashed)
    monkeypatch.setattr(cifar10h, "HELD_OUT", 2)
    monkeypatch.setattr(cifar10h, "TESTED", 10)
    root = builtin.download_cifar("cifar10", tmp_path / "root", (Server(tiny_cifar[0]).url,)).parent
    np.save(root / cifar10h.FILE, COUNTS)
    return root


def test_people_teach_with_what_cifar_tests_with(root):
    cifar = load_dataset("cifar10", root)
    soft, hard = (
        load_dataset(f"genscl_lessons.cifar10h:{name}", root) for name in ("people", "published")
    )
    for data in (soft, hard):
        assert torch.equal(data.train_images, cifar.test_images[:3])
        assert torch.equal(data.train_labels, cifar.test_labels[:3])
        assert torch.equal(data.test_images, cifar.train_images[:10])
        assert torch.equal(data.test_labels, cifar.train_labels[:10])
        assert abs(data.normalize(data.train_images / 255).mean()) < 1e-3
    assert soft.train_distributions.tolist()[2] == pytest.approx([0, 0, 0.8, 0.2] + 6 * [0])
    assert hard.train_distributions is None


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", COUNTS[::-1]])
def test_other_values_are_refused_in_one_line(content, root):
    if isinstance(content, bytes):
        (root / cifar10h.FILE).write_bytes(content)
    else:
        np.save(root / cifar10h.FILE, content)
    with pytest.raises(ValueError, match="^cifar10h: .*npy holds other values than the published"):
        read_counts(root)
    (root / cifar10h.FILE).unlink()
    with pytest.raises(FileNotFoundError, match="is missing; run `python -m genscl_lessons"):
        read_counts(root)


def test_the_download_is_checked(root, monkeypatch, capsys):
    right = Server((root / cifar10h.FILE).read_bytes())
    (root / cifar10h.FILE).unlink()
    monkeypatch.setattr(cifar10h, "URL", right.url)
    assert main(["download", "--root", str(root)]) == 0 and len(read_counts(root)) == 5
    (root / cifar10h.FILE).unlink()
    monkeypatch.setattr(cifar10h, "URL", Server(b"<html>").url)
    assert main(["download", "--root", str(root)]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: cifar10h: ")


@pytest.mark.parametrize("method", ["supcon", "ce"])
def test_a_finished_run_says_how_it_compares(method, root, tmp_path):
    dataset = {"dataset": "genscl_lessons.cifar10h:people", "labels_per_class": 0}
    config = TrainConfig(**QUICK | dataset | {"method": method, "arch": "convnet_small"})
    list(run_seeds([config], tmp_path / "runs" / method, data_root=root))
    assert compare_all(tmp_path / "runs", root) == 1
    found = files.read_json(tmp_path / "runs" / method / "seed0" / "summary.json")["people"]
    assert found["images"] == 2 and found["entropy"] == pytest.approx(0.5004, abs=1e-3)
    assert found["cross_entropy"] > found["entropy"]
    assert (
        found["features"].keys() == found["outputs"].keys() == {"all", "between", "between_pearson"}
    )


def test_latents_that_are_the_labels_agree_wholly():
    soft = torch.rand(50, 4, generator=torch.Generator().manual_seed(0)).softmax(dim=1)
    assert similarity_correlations(3 * soft, soft) == {"all": 1, "between": 1, "between_pearson": 1}


def test_all_pairs_and_those_between_classes():
    """Two rows of one class and two of another: of six pairs, four lie between."""
    soft = torch.tensor([[1.0, 0, 0], [0.7, 0.3, 0], [0.1, 0.9, 0], [0, 0.8, 0.2]])
    latents = torch.randn(4, 6, generator=torch.Generator().manual_seed(1))
    pairs = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    latent, label = (
        [float(torch.cosine_similarity(x[i], x[j], dim=0)) for i, j in pairs]
        for x in (latents, soft)
    )
    found = similarity_correlations(latents, soft)
    assert found["all"] == pytest.approx(spearmanr(latent, label).statistic, abs=1e-4)
    assert found["between"] == pytest.approx(spearmanr(latent[1:5], label[1:5]).statistic, abs=1e-4)
    pearson = torch.corrcoef(torch.tensor([latent[1:5], label[1:5]]))[0, 1]
    assert found["between_pearson"] == pytest.approx(float(pearson), abs=1e-4)


def test_classes_told_apart_say_nothing_between():
    soft = torch.tensor([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8], [0.1, 0.9], [0.3, 0.7]])
    found = similarity_correlations(one_hot(soft.argmax(dim=1), 2).float(), soft)
    assert found["all"] > 0.8 and found["between"] is found["between_pearson"] is None
