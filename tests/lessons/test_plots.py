import io
import warnings

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from PIL import Image

from genscl_lite.lessons.plots import CLASS_COLOURS, class_colours, plot_curves, small_png


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
