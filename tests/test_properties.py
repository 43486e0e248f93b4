"""What every public function keeps to for any input: a finite result, or one line that names the argument."""

import math
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from genscl_lite import (
    LabelledQueue,
    MomentumEncoder,
    Teacher,
    cutmix,
    gen_supcon_loss,
    label_similarity,
    mixup,
    mixup_or_cutmix,
)
from genscl_lite.similarity import SIMILARITIES
from genscl_lite.train.evaluate import expected_calibration_error, knn_accuracy

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
SOME = st.sampled_from([5, 3, 8, 2, 4, 13, 6, 9, 7, 10, 11, 12, 1, 0])
quick = settings(max_examples=30, derandomize=True, deadline=None)


def finite_or_refused(function, *arguments, **options):
    """Return the result, all of it finite; or None where a ValueError of ours, one line, names an argument."""
    try:
        result = function(*arguments, **options)
    except ValueError as error:
        assert re.match(r"[a-z_]+: .*(expected|hold)[^\n]*$", str(error)), error
        return None
    for tensor in result if isinstance(result, tuple) else (result,):
        assert torch.isfinite(torch.as_tensor(tensor)).all()
    return result


@st.composite
def floats(draw, *shape, dtype=None):
    """Numbers of any type, from 1e-30 to 1e30: all of one scale, or each row of its own; some rows are zero."""
    g, dtype = (
        torch.Generator().manual_seed(draw(st.integers(0, 999))),
        dtype or draw(st.sampled_from(FLOATS)),
    )
    each = (*shape[:1], *[1] * (len(shape) - 1))
    exponent = 30 * (
        2 * torch.rand(each if draw(st.booleans()) else (), generator=g, dtype=torch.float64) - 1
    )
    exponent = exponent.clamp(-8, 4) if dtype == torch.float16 else exponent
    rows = torch.rand(each, generator=g) < draw(st.sampled_from([1.0, 0.7]))
    return (rows * 10**exponent * torch.randn(shape, generator=g, dtype=torch.float64)).to(dtype)


@st.composite
def labels_of(draw, rows, kind=None):
    """Distributions or class numbers of any type; now and then what is neither."""
    g, kinds = (
        torch.Generator().manual_seed(draw(st.integers(0, 999))),
        ("distributions", "numbers"),
    )
    classes, kind = (
        draw(SOME),
        kind or draw(st.sampled_from([*kinds * 5, "multi-hot", "floats", "column"])),
    )
    integers = draw(st.sampled_from([torch.int64, torch.int32, torch.uint8, torch.uint16]))
    numbers = torch.randint(classes + 1, (rows,), generator=g)
    distributions = (
        draw(st.sampled_from([0.0, 1.0, 30.0])) * torch.randn(rows, classes, generator=g)
    ).softmax(1)
    return {
        "distributions": distributions.to(draw(st.sampled_from(FLOATS))),
        "numbers": numbers.to(integers),
        "multi-hot": (distributions > 0.2).to(integers),
        "floats": numbers.float(),
        "column": numbers[:, None],
    }[kind]


@quick
@given(st.data(), SOME, SOME, st.sampled_from([None, 0, 1, 5]), st.sampled_from([0.01, 0.1, 10.0]))
def test_the_loss_and_its_gradients_are_bounded(data, rows, dim, contrasts, temperature):
    """A row's gradient, times its length, is at most 2 / temperature; that of all rows together 4 / temperature.

    Of unit latents u, weights w and softmax p, with a_i = 1/M: dL/du_k is a_k/tau sum_j (p_kj - w_kj) u_j, of
    at most 2 a_k/tau, and 1/tau sum_i a_i (p_ik - w_ik) u_i, of at most 1/tau as no |p_ik - w_ik| exceeds 1.
    Summed over k, sum_k |p_ik - w_ik| <= 2: each of both terms gives 2/tau.
    """
    z, y = data.draw(floats(rows, dim)), data.draw(labels_of(rows))
    latents, options = {"latents": z.requires_grad_()}, {"labels": y}
    if contrasts is not None:
        latents["contrast_latents"] = data.draw(floats(contrasts, dim)).requires_grad_()
        options["contrast_labels"] = y[torch.arange(contrasts) % max(1, rows)] if rows else y
    options |= {
        "backend": data.draw(st.sampled_from(["dense", "streamed"])),
        "weighting": data.draw(st.sampled_from(["normalized", "eq2"])),
        "temperature": temperature,
    }
    if y.ndim == 2 and data.draw(st.booleans()):
        options["similarity"] = data.draw(st.sampled_from(SIMILARITIES))
    loss = finite_or_refused(gen_supcon_loss, **latents, **options)
    if loss is None:
        return
    loss.backward()
    pulls = []
    for tensor in latents.values():
        length = tensor.detach().double().norm(dim=1)
        storable = (
            2 / temperature / length.clamp(min=1e-12) < torch.finfo(tensor.dtype).max
        )  # float16 ends early
        assert torch.isfinite(tensor.grad[storable]).all()
        assert (tensor.grad[length < 1e-13] == 0).all()
        pulls.append(tensor.grad[storable].double().norm(dim=1) * length[storable])
    assert torch.cat(pulls).max() <= 2.01 / temperature if len(torch.cat(pulls)) else True
    assert torch.cat(pulls).sum() <= 4.02 / temperature


@quick
@given(st.data(), SOME, SOME, st.sampled_from(SIMILARITIES))
def test_label_similarities_are_shares(data, rows, contrasts, similarity):
    first, second = data.draw(labels_of(rows)), data.draw(labels_of(contrasts))
    for pair in ((first, second), (first, None)):
        s = finite_or_refused(label_similarity, *pair, similarity=similarity)
        assert s is None or (s >= 0).all() and (s <= 1.02).all()


@quick
@given(
    st.data(),
    SOME,
    st.integers(0, 3),
    SOME,
    SOME,
    st.booleans(),
    st.sampled_from([1e-30, 0.2, 1.0, 1e30]),
)
def test_mixtures_lie_between_their_images(data, rows, channels, height, width, per_image, alpha):
    images, labels = (
        data.draw(floats(rows, channels, height, width)),
        data.draw(labels_of(rows, "distributions")),
    )
    for function in (mixup, cutmix, mixup_or_cutmix):
        mixed = finite_or_refused(function, images, labels, alpha=alpha, per_image=per_image)
        if mixed is not None:
            assert [(t.shape, t.dtype) for t in mixed] == [
                (t.shape, t.dtype) for t in (images, labels)
            ]
            largest = images.double().abs().amax() if images.numel() else 0
            assert (mixed[0].double().abs() <= 1.02 * largest).all()
            assert (
                torch.allclose(mixed[1].double().sum(1), torch.ones(rows).double(), atol=0.05)
                or not labels.shape[1]
            )


@quick
@given(st.data(), SOME, SOME, st.sampled_from([1e-30, 1e-3, 1.0, 1e30]))
def test_teachers_give_distributions(data, rows, classes, temperature):
    logits = data.draw(floats(rows, classes, dtype=data.draw(st.sampled_from(FLOATS[:2]))))
    said = finite_or_refused(Teacher(nn.Identity(), temperature), logits)
    assert said is None or torch.allclose(said.sum(1), torch.ones(rows), atol=1e-5)


@quick
@given(st.data(), st.integers(-1, 5), SOME, SOME, SOME)
def test_queues_keep_the_latest_rows(data, size, rows, dim, classes):
    if min(size, dim, classes) < 1:
        with pytest.raises(ValueError, match="queue: expected sizes above 0, got "):
            LabelledQueue(size, dim, classes)
        return
    queue = LabelledQueue(size, dim, classes)
    latents, labels = data.draw(floats(rows, dim)), data.draw(labels_of(rows))
    try:
        queue.enqueue(latents, labels)
    except ValueError as error:
        assert re.match("queue(_size)?: expected", str(error))
    else:
        assert torch.equal(queue.contents()[0], latents.float()) and rows <= size


@quick
@given(st.data(), SOME, st.sampled_from([0, 0.5, 0.999, 1, -0.1, math.nan, "0.9", None]))
def test_averages_lie_between_both_encoders(data, rows, momentum):
    query = nn.Linear(3, 2)
    with torch.no_grad():
        query.weight.copy_(data.draw(floats(2, 3, dtype=torch.float32)))
    try:
        key = MomentumEncoder(query, momentum)
    except ValueError as error:
        assert str(error).startswith("momentum: expected a number in [0, 1), got ")
        return
    before, step = query.weight.detach().clone(), data.draw(floats(2, 3, dtype=torch.float32))
    query.weight.data += step
    key.update(query)
    low, high = torch.minimum(before, query.weight), torch.maximum(before, query.weight)
    slack = 1e-5 * (high - low)
    assert ((key.encoder.weight >= low - slack) & (key.encoder.weight <= high + slack)).all()
    assert key(torch.zeros(rows, 3)).shape == (rows, 2)


@quick
@given(st.data(), SOME, SOME, SOME, st.integers(0, 9), st.sampled_from([1e-30, 0.07, 1e30]))
def test_accuracies_of_neighbors_are_shares(data, rows, others, dim, neighbors, temperature):
    train, test = data.draw(floats(rows, dim)), data.draw(floats(others, dim))
    labels, truth = (data.draw(labels_of(count, "numbers")) for count in (rows, others))
    share = finite_or_refused(knn_accuracy, train, labels, test, truth, neighbors, temperature)
    assert share is None or 0 <= share <= 1


@quick
@given(st.data(), SOME, st.integers(0, 20))
def test_calibration_errors_are_shares(data, rows, bins):
    probabilities, labels = (
        data.draw(labels_of(rows, "distributions")),
        data.draw(labels_of(rows, "numbers")),
    )
    error = finite_or_refused(expected_calibration_error, probabilities, labels, bins)
    assert error is None or 0 <= error <= 1.02


@pytest.mark.parametrize("wrong", [None, 1, "text", [[1.0]], (), object()])
def test_what_is_no_tensor_is_named(wrong):
    z, y, n = torch.randn(4, 3), torch.eye(4), torch.arange(4)
    calls = [
        (gen_supcon_loss, wrong, y),
        (label_similarity, wrong),
        (mixup, wrong, y),
        (cutmix, y, wrong),
        (knn_accuracy, wrong, n, z, n),
        (knn_accuracy, z, n, z, wrong),
        (Teacher, wrong),
        (MomentumEncoder, wrong),
        (expected_calibration_error, wrong, n),
        (expected_calibration_error, y, wrong),
        (LabelledQueue(4, 3, 4).enqueue, z, wrong),
        (gen_supcon_loss, z, wrong),
    ]
    for function, *arguments in calls:
        assert finite_or_refused(function, *arguments) is None, function
