import numpy as np

from genscl_lessons.people import teacher_says


def test_the_committed_answers_are_distributions():
    said = teacher_says()
    assert said.shape == (5, 10) and np.allclose(said.sum(axis=1), 1, atol=0.01)
