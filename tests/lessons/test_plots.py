import io
import warnings
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from PIL import Image

from genscl_lite.lessons.figures.digits import show_label_bars
from genscl_lite.lessons.figures.reproduction import plot_ledger, plot_lengths
from genscl_lite.lessons.figures.see_the_space import show_neighbours
from genscl_lite.lessons.hover_map import interactive_embedding
from genscl_lite.lessons.plots import (
    CLASS_COLOURS,
    class_colours,
    label_caption,
    plot_curves,
    plot_embedding,
    show_images,
    small_png,
)


@pytest.mark.parametrize("knn", [[None, None], [None, 0.8]])
def test_curves_warn_of_nothing_before_the_first_accuracy(knn):
    losses = {"epoch": [1, 2], "label_entropy": [3.0, 3.0], "kl": [1.0, 0.5]}
    log = pd.DataFrame(losses | {"knn_accuracy": knn, "accuracy": [None, None]})
    _, axes = plt.subplots(1, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plot_curves(log, axes)
    assert (axes[1].get_legend() is not None) == (knn[1] is not None)
    plt.close()


def test_a_class_has_its_colour_whatever_their_number():
    assert class_colours(3) == CLASS_COLOURS[:3] and len(class_colours(100)) == 100


def test_the_ledger_shows_each_claim_in_the_colour_of_its_verdict():
    row = {"published": 0.02, "difference": 0.01, "low": 0.005, "high": 0.015}
    nothing = dict.fromkeys(row)
    ledger = pd.DataFrame([
        {"claim": "up", "verdict": "supported"} | row,
        {"claim": "one seed", "verdict": "undecided"} | row | {"low": None, "high": None},
        {"claim": "no run", "verdict": "untested"} | nothing,
    ]).astype({name: float for name in row})
    _, axis = plt.subplots()
    plot_ledger(ledger, axis)
    assert [label.get_text() for label in axis.get_yticklabels()] == ["up", "one seed", "no run"]
    assert [text.get_text() for text in axis.texts] == ["untested"]
    [bar] = [line for container in axis.containers for line in container.lines[2] if len(line.get_segments())]
    assert bar.get_segments()[0][:, 0].tolist() == pytest.approx([0.5, 1.5])
    plt.close()


def test_lengths_are_lines_over_epochs_and_over_seconds():
    runs = pd.DataFrame([
        {"method": method, "epochs": epochs, "seed": seed, "seconds": 6.0 * epochs, "accuracy_last": 0.5 + epochs / 1000}
        for method in ("ce", "genscl_mix") for epochs in (20, 40) for seed in (0, 1)])
    _, axes = plt.subplots(1, 2)
    plot_lengths(runs, axes)
    lines = [line for line in axes[1].lines if line.get_linestyle() != "None"]
    assert [line.get_xdata().tolist() for line in lines] == [[120, 240]] * 2
    assert lines[0].get_ydata().tolist() == pytest.approx([52, 54])
    assert [text.get_text() for text in axes[0].get_legend().get_texts()] == ["CE", "GenSCL + MixUp-CutMix"]
    assert lines[0].get_color() != lines[1].get_color() and lines[1].get_linestyle() == "-"
    plt.close()


NAMES = ("$\\bad{$", "<script>alert(1)</script>\n", '" onmouseover="x')


def test_names_of_classes_are_text_not_mathematics(tmp_path):
    figure = show_images(np.zeros((3, 1, 8, 8)), NAMES)
    axis = figure.axes[0]
    plot_embedding(np.random.default_rng(0).random((3, 2)), np.eye(3), NAMES, "title", axis)
    show_neighbours(np.zeros((3, 1, 8, 8)), np.arange(3), {"space": np.array([[1], [2], [0]])}, np.arange(3), NAMES)
    show_label_bars(np.zeros((2, 1, 8, 8)), {"label": np.eye(3)[:2]}, [label_caption(label, NAMES) for label in np.eye(3)[:2]])
    for number in plt.get_fignums():
        plt.figure(number).savefig(tmp_path / f"{number}.png")  # here matplotlib would read mathematics
    plt.close("all")


def test_names_of_classes_are_text_in_the_page_that_one_hovers_over():
    """Of a page with hostile names, a parser finds the same elements, with the names as their values."""
    labels, found = np.r_[np.eye(3), [[0, 0.5, 0.5]]], []

    class Parser(HTMLParser):
        def handle_starttag(self, tag, attributes):
            found.append((tag, *(name for name, _ in attributes)))
            texts.extend(value for name, value in attributes if name == "data-t")

    texts = []
    Parser().feed(interactive_embedding(np.random.default_rng(0).random((4, 2)), np.zeros((4, 1, 8, 8)), labels, NAMES).data)
    assert found == [("style",), ("div", "class"), *[("i", "style", "data-t")] * 4, *[("b", "style", "data-t")] * 3]
    assert texts == [*NAMES, f"50% {NAMES[1]} + 50% {NAMES[2]}", *NAMES]


def test_a_small_png_keeps_the_colours_of_a_few_pixels():
    figure, axis = plt.subplots()
    axis.imshow(np.random.default_rng(0).random((40, 40)), cmap="magma")  # takes most of the 256 colours
    axis.set_title("x", color="#ece133")
    axis.plot([], [])
    figure.text(0.02, 0.02, "■", color="#56b4e9", fontsize=4)
    pixels = np.asarray(Image.open(io.BytesIO(small_png(figure))).convert("RGB"), dtype=int)
    plt.close()
    assert np.abs(pixels - (0xEC, 0xE1, 0x33)).max(axis=2).min() <= 8
    assert np.abs(pixels - (0x56, 0xB4, 0xE9)).max(axis=2).min() <= 8
