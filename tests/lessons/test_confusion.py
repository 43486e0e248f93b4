"""The picture of confusions says what the counts say, for few classes and for many."""

import numpy as np
import pytest
from matplotlib import pyplot as plt

from genscl_lessons.figures.confusion import MOST_IN_MATRIX, PAIRS, most_confused, plot_confusion


@pytest.fixture
def axis():
    yield plt.figure(figsize=(6, 5)).subplots()
    plt.close("all")


def test_few_classes_are_a_matrix_of_percentages(axis):
    counts = np.diag(np.arange(10, 20)) + 5 * np.eye(10, k=1, dtype=int)
    counts[3] = 0  # a class without test images
    names = [f"class {c}" for c in range(9)] + ["$5"]
    plot_confusion(counts, names, axis)
    cells = np.array([text.get_text() for text in axis.texts]).reshape(10, 10)
    assert cells[0, 0] == "67" and cells[0, 1] == "33" and cells[0, 2] == ""
    assert (cells[3] == "").all() and cells[9, 9] == "100"
    shown = [tick.get_text() for tick in axis.get_yticklabels()]
    assert shown == [*names[:9], r"\$5"]
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("said to be", "true class")
    axis.figure.canvas.draw()
    boxes = [tick.get_window_extent() for tick in axis.get_xticklabels()]
    assert not any(a.overlaps(b) for a, b in zip(boxes, boxes[1:], strict=False))


def test_many_classes_are_the_pairs_most_often_confused(axis):
    counts = 50 * np.eye(100, dtype=int)
    counts[7, 9], counts[9, 7] = 30, 10
    counts[20, np.arange(30, 60)] = 1
    names = [f"c{c}" for c in range(100)]
    plot_confusion(counts, names, axis)
    shown = [tick.get_text() for tick in axis.get_yticklabels()]
    assert shown[:3] == ["c7 → c9", "c9 → c7", "c20 → c30"] and len(shown) == PAIRS
    assert [text.get_text() for text in axis.texts[:2]] == ["38", "17"]  # 30 of 80, 10 of 60
    lengths = [bar.get_width() for bar in axis.patches]
    assert lengths == sorted(lengths, reverse=True) and lengths[0] == pytest.approx(37.5)


def test_nothing_confused_leaves_no_pairs_and_wrong_shapes_are_named(axis):
    assert most_confused(np.eye(MOST_IN_MATRIX + 1)) == []
    plot_confusion(np.eye(MOST_IN_MATRIX + 1), [str(c) for c in range(MOST_IN_MATRIX + 1)], axis)
    with pytest.raises(ValueError, match=r"counts: expected shape \(2, 2\), got \(3, 3\)"):
        plot_confusion(np.eye(3), ["a", "b"], axis)
