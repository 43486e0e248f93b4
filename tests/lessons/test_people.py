import numpy as np
import pytest
import torch

from genscl_lessons import people
from genscl_lessons.people import ask_people, teacher_says
from genscl_lite.datasets import load_dataset


class Photographs:
    num_classes, class_names = 3, ("cat", "dog", "frog")
    test_labels = torch.zeros(4, dtype=torch.long)
    test_images = torch.arange(4, dtype=torch.uint8)[:, None, None, None].expand(4, 3, 2, 2)


@pytest.fixture
def photographs(monkeypatch):
    counts = np.array([[1, 1, 2], [0, 0, 5], [3, 0, 1], [4, 4, 0]])
    monkeypatch.setattr(people, "load_dataset", lambda name, root: Photographs())
    monkeypatch.setattr(people, "read_counts", lambda root: counts)


def test_without_the_file_or_without_the_photographs_there_is_nothing(
    tmp_path, photographs, monkeypatch
):
    assert ask_people([0], tmp_path) is not None
    monkeypatch.setattr(people, "load_dataset", load_dataset)
    assert ask_people([0], tmp_path) is None


def test_answers_are_shares_of_the_photographs_asked_for(tmp_path, photographs):
    answer = ask_people([2, 0], tmp_path)
    assert answer.said.tolist() == [[0.75, 0, 0.25], [0.25, 0.25, 0.5]]
    assert answer.photographs.shape == (2, 3, 2, 2) and answer.class_names == ("cat", "dog", "frog")


def test_the_committed_answers_are_distributions():
    said = teacher_says()
    assert said.shape == (5, 10) and np.allclose(said.sum(axis=1), 1, atol=0.01)
