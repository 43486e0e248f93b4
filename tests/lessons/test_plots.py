import warnings

import pandas as pd
import pytest
from matplotlib import pyplot as plt

from genscl_lite.lessons.plots import CLASS_COLOURS, class_colours, plot_curves


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
