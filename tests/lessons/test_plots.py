import io
import warnings
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from PIL import Image

from genscl_lessons.bookkeeping import Book
from genscl_lessons.figures.curves import plot_gains, plot_varied
from genscl_lessons.figures.digits import show_label_bars
from genscl_lessons.figures.reproduction import (
    BOOK_STYLES,
    plot_answer,
    plot_costs,
    plot_differences,
    plot_table,
)
from genscl_lessons.figures.see_the_space import show_neighbors
from genscl_lessons.hover_map import interactive_embedding
from genscl_lessons.plots import (
    CLASS_COLORS,
    class_colors,
    label_caption,
    plot_curves,
    plot_embedding,
    show_images,
    small_png,
)
from genscl_lite.runs.claims import make_ledger
from genscl_lite.runs.paths import PUBLISHED
from genscl_lite.runs.statistics import t_interval
from genscl_lite.runs.tables import make_table


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


def test_a_class_has_its_color_whatever_their_number():
    assert class_colors(3) == CLASS_COLORS[:3] and len(class_colors(100)) == 100


def test_gains_are_taken_seed_by_seed():
    runs = pd.DataFrame(
        [
            {
                "method": method,
                "epochs": epochs,
                "seed": seed,
                "accuracy_last": 0.5 + 0.1 * seed + gain * (epochs - 30) / 1000,
            }
            for method, gain in (("ce", 0), ("ce_mix", 1))
            for epochs in (20, 40)
            for seed in (0, 1)
        ]
    )
    runs = pd.concat(
        [runs, pd.DataFrame([{"method": "ce", "epochs": 80, "seed": 0, "accuracy_last": 0.6}])]
    )  # has no partner
    _, axis = plt.subplots()
    plot_gains(runs, (("ce_mix", "ce"),), axis)
    points, zero = axis.lines[0], axis.lines[-1]
    assert points.get_xdata().tolist() == pytest.approx([20, 40], rel=0.03)  # beside each other
    assert points.get_ydata().tolist() == pytest.approx([-1, 1])
    assert set(zero.get_ydata()) == {0} and [
        tick.get_text() for tick in axis.get_xticklabels()
    ] == ["20", "40", "80"]
    assert half_of_bar(axis) == pytest.approx(0, abs=1e-9)
    plt.close()


ROWS = {
    "ce": 0.94,
    "ce_mix": 0.96,
    "ce_mix_kd": 0.97,
    "simclr": 0.8,
    "supcon": 0.94,
    "genscl_mix": 0.965,
    "genscl_mix_kd": 0.97,
}


def made_up(**more):
    rows = [{"method": method, "seed": seed, "dataset": "digits", "arch": "small", "epochs": 10, "seconds": 5.0 + k,
             "accuracy_last": accuracy + 0.004 * seed, "accuracy_blur": accuracy - 0.02 * seed, "accuracy_noise": accuracy - 0.1,
             "calibration_error": 0.03} | more for k, (method, accuracy) in enumerate(ROWS.items()) for seed in range(3)]  # fmt: skip
    return pd.DataFrame(rows)


def half_of_bar(axis, place=0):
    """Half the length of the first error bar of the place-th drawn."""
    [bars] = [c for c in axis.containers if len(c.lines[2])][place].lines[2]
    low, high = bars.get_segments()[0]
    return (high - low).max() / 2


def test_bars_are_95_percent_intervals_of_the_mean_and_nothing_else():
    runs = made_up()
    half = 100 * (t_interval([0, 0.004, 0.008]).high - 0.004)
    table = make_table(
        runs,
        pd.DataFrame({name: [] for name in ("dataset", "arch", "method", "published", "source")}),
    )
    _, axes = plt.subplots(1, 4)
    plot_table(runs, table, axes[0])
    assert half_of_bar(axes[0], 3) == pytest.approx(half)
    plot_differences({"a": (np.array([1.0, 2.0]), (1.5, -1.0, 4.0))}, axes[2])
    assert half_of_bar(axes[2]) == pytest.approx(2.5)
    runs = pd.concat([runs, runs.assign(epochs=20)])
    plot_varied(runs, "epochs", axes[3])
    lines = [c.lines[2][0].get_segments() for c in axes[3].containers]
    assert {round(float(np.ptp(part[:, 1])) / 2, 6) for line in lines for part in line} == {
        round(half, 6)
    }
    plt.close()


def test_a_row_with_a_teacher_pays_for_it_too():
    axis = plot_costs(made_up(), plt.subplots()[1])
    own, teacher = 5.0 + list(ROWS).index("genscl_mix_kd"), 5.0 + list(ROWS).index("ce_mix")
    assert max(bar.get_x() + bar.get_width() for bar in axis.patches) == own + teacher
    plt.close()


def test_the_answer_is_drawn_with_the_verdicts_and_the_paper_beside_it():
    runs = made_up(labels_per_class=10, read_out="converged")
    several, one = (Book(part, make_ledger(part)) for part in (runs, runs[runs.seed == 0]))
    claims, rows = plot_answer([several, one], pd.read_csv(PUBLISHED))
    assert [tick.get_text() for tick in claims.get_yticklabels()] == [
        "minus SupCon",
        "minus SupCon\n+ MixUp-CutMix, larger label",
        "minus CE\n+ MixUp-CutMix",
    ]
    assert several.claim("genscl_mix", "supcon").verdict == "supported"
    bars = [line for line in claims.lines if len(line.get_xdata()) == 2]
    assert {bar.get_color() for bar in bars} == {BOOK_STYLES[0][0], "black"}  # and the zero
    assert np.mean(bars[0].get_xdata()) == pytest.approx(2.5)
    said = [(text.get_text(), text.get_color()) for text in claims.texts]
    assert said[0] == ("supported", BOOK_STYLES[0][0])
    assert said[-1] == ("undecided", BOOK_STYLES[1][0])
    names = [tick.get_text().replace("\n", " ") for tick in rows.get_yticklabels()]
    paper = next(line for line in rows.lines if line.get_label() == "paper, CIFAR-10")
    assert paper.get_xdata()[names.index("GenSCL + MixUp-CutMix")] == pytest.approx(1.3)
    plt.close()


NAMES = ("$\\bad{$", "<script>alert(1)</script>\n", '" onmouseover="x')


def test_names_of_classes_are_text_not_mathematics(tmp_path):
    figure = show_images(np.zeros((3, 1, 8, 8)), NAMES)
    axis = figure.axes[0]
    plot_embedding(
        np.random.default_rng(0).random((3, 2)),
        np.eye(3),
        NAMES,
        "title",
        axis,
        np.array([0, 0.3, 0.6]),
    )
    show_neighbors(
        np.zeros((3, 1, 8, 8)),
        np.arange(3),
        {"space": np.array([[1], [2], [0]])},
        np.arange(3),
        NAMES,
    )
    show_label_bars(
        np.zeros((2, 1, 8, 8)),
        {"label": np.eye(3)[:2]},
        [label_caption(label, NAMES) for label in np.eye(3)[:2]],
    )
    for number in plt.get_fignums():
        plt.figure(number).savefig(
            tmp_path / f"{number}.png"
        )  # here matplotlib would read mathematics
    plt.close("all")


def test_names_of_classes_are_text_in_the_page_that_one_hovers_over():
    """Of a page with hostile names, a parser finds the same elements, with the names as their values."""
    labels, found = np.r_[np.eye(3), [[0, 0.5, 0.5]]], []

    class Parser(HTMLParser):
        def handle_starttag(self, tag, attributes):
            found.append((tag, *(name for name, _ in attributes)))
            texts.extend(value for name, value in attributes if name == "data-t")

    texts = []
    Parser().feed(
        interactive_embedding(
            np.random.default_rng(0).random((4, 2)), np.zeros((4, 1, 8, 8)), labels, NAMES
        ).data
    )
    assert found == [
        ("style",),
        ("div", "class"),
        *[("i", "style", "data-t")] * 4,
        *[("b", "style", "data-t")] * 3,
    ]
    assert texts == [*NAMES, f"50% {NAMES[1]} + 50% {NAMES[2]}", *NAMES]


def test_a_small_png_keeps_the_colors_of_a_few_pixels():
    figure, axis = plt.subplots()
    axis.imshow(
        np.random.default_rng(0).random((40, 40)), cmap="magma"
    )  # takes most of the 256 colors
    axis.set_title("x", color="#ece133")
    axis.plot([], [])
    figure.text(0.02, 0.02, "■", color="#56b4e9", fontsize=4)
    pixels = np.asarray(Image.open(io.BytesIO(small_png(figure))).convert("RGB"), dtype=int)
    plt.close()
    assert np.abs(pixels - (0xEC, 0xE1, 0x33)).max(axis=2).min() <= 8
    assert np.abs(pixels - (0x56, 0xB4, 0xE9)).max(axis=2).min() <= 8
