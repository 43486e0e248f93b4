"""Kernels of classes: the formula in loops, every backend, and what a matrix S must mean."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from genscl_lite import (
    ClassSimilarity,
    GenSupConLoss,
    LabelledQueue,
    gen_supcon_loss,
    gen_supcon_loss_parts,
    label_similarity,
    label_sums,
    log_partition,
    superclass_similarity,
)
from genscl_lite.similarity import feature_pair
from tests import oracle
from tests.core.largest import LargestTensor
from tests.pairwise import pairwise
from tests.test_properties import FLOATS, SOME, finite_or_refused, floats, labels_of, quick

CHAIN = torch.tensor(
    [[1.0, 0.5, 0.0, 0.0], [0.5, 1.0, 0.5, 0.0], [0.0, 0.5, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
)
GROUPS = superclass_similarity(["a", "a", "b", "b"], within=0.3)
SAID = (
    torch.randn(4, 4, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    .mul(2)
    .softmax(1)
)
SIZES = torch.tensor([1.0, 1e-3, 1e-6, 1e4], dtype=torch.float64)
MATRICES = {
    "chain": CHAIN,
    "groups": GROUPS,
    "confusion": SAID @ SAID.T,
    "float32": (SAID @ SAID.T).float(),
    "sizes": CHAIN * SIZES * SIZES[:, None],
    "whole numbers": (4 * CHAIN).long(),
    "one class": torch.ones(4, 4),
}

TOLERANCE = dict.fromkeys(MATRICES, 1e-10) | {"float32": 1e-6}  # as precise as the matrix


def sample(rows=7, contrasts=5, dim=4, seed=0):
    g = torch.Generator().manual_seed(seed)
    z, c = (torch.randn(n, dim, generator=g, dtype=torch.float64) for n in (rows, contrasts))
    y, yc = (
        torch.softmax(3 * torch.randn(n, 4, generator=g, dtype=torch.float64), dim=1)
        for n in (rows, contrasts)
    )
    return z, y, c, yc


def loops(labels, contrasts, matrix):
    """The oracle's similarities; class numbers as one-hot distributions."""
    rows = [(F.one_hot(y, 4) if y.ndim == 1 else y).double().tolist() for y in (labels, contrasts)]
    return oracle.class_similarities(*rows, matrix.double().tolist())


@pytest.mark.parametrize("name", MATRICES)
@pytest.mark.parametrize("kind", ["distributions", "numbers"])
def test_label_similarity_equals_the_loops(name, kind):
    _, y, _, yc = sample()
    y, yc = (y, yc) if kind == "distributions" else (y.argmax(1), yc.argmax(1))
    for others in (y, yc):
        ours = label_similarity(y, others, MATRICES[name])
        expected = torch.tensor(loops(y, others, MATRICES[name]), dtype=torch.float64)
        assert torch.allclose(
            ours.double(),
            expected,
            rtol=1e-12 if kind == "distributions" and name != "float32" else 1e-6,
            atol=0,
        )
        assert torch.equal(label_similarity(y, others, ClassSimilarity(MATRICES[name])), ours)


@pytest.mark.parametrize(
    "name, kind, queue, backend, weighting",
    pairwise(
        MATRICES,
        ["distributions", "numbers"],
        [False, True],
        ["dense", "streamed"],
        ["normalized", "eq2"],
    ),
)
def test_loss_equals_the_loops(name, kind, queue, backend, weighting):
    z, y, c, yc = sample()
    y, yc = (
        (y, yc)
        if kind == "distributions"
        else (torch.tensor([0, 1, 1, 2, 3, 0, 2]), torch.tensor([0, 1, 2, 3, 3]))
    )
    contrast = {"contrast_latents": c, "contrast_labels": yc} if queue else {}
    parts = gen_supcon_loss_parts(
        z,
        y,
        similarity=MATRICES[name],
        backend=backend,
        weighting=weighting,
        **contrast,
    )
    s = loops(y, yc if queue else y, MATRICES[name])
    loss, entropy, _, skipped = oracle.gen_supcon(
        z.tolist(), s, 0.1, c.tolist() if queue else None, weighting
    )
    assert max(abs(parts.loss.item() - loss), abs(parts.entropy.item() - entropy)) < TOLERANCE[name]
    assert parts.skipped == skipped


@pytest.mark.parametrize(
    "name, kind, contrasts", pairwise(MATRICES, ["distributions", "numbers"], [0, 19])
)
def test_streamed_is_the_explicit_matrix(name, kind, contrasts, monkeypatch):
    """In many blocks, against the (M, K) similarities given as ``weights``; the gradients too."""
    monkeypatch.setitem(log_partition.TILE, "cpu", 5)
    monkeypatch.setattr(label_sums, "BLOCK_ELEMENTS", 64)
    z, y, c, yc = sample(rows=71, contrasts=19)
    y, yc = (y, yc) if kind == "distributions" else (y.argmax(1), yc.argmax(1))
    leaves = [t.requires_grad_() for t in ((z, c) if contrasts else (z,))]
    latents = dict(zip(("latents", "contrast_latents"), leaves, strict=False))
    weights = torch.tensor(loops(y, yc if contrasts else y, MATRICES[name]), dtype=torch.float64)
    labels = {"labels": y} | ({"contrast_labels": yc} if contrasts else {})
    results = []
    for backend, arguments in (
        ("dense", {"pair_similarity": weights}),
        ("streamed", labels | {"similarity": MATRICES[name]}),
    ):
        parts = gen_supcon_loss_parts(**latents, **arguments, backend=backend)
        results.append([*parts[:3], *torch.autograd.grad(parts.loss, leaves)])
    for ours, expected in zip(*results, strict=True):
        assert torch.allclose(ours, expected, rtol=10 * TOLERANCE[name], atol=TOLERANCE[name] / 100)


def test_keys_of_a_queue():
    z, y, c, yc = sample(contrasts=8)
    queue = LabelledQueue(6, 4, 4)
    queue.enqueue(c[:4], yc[:4])
    queue.enqueue(c[4:], yc[4:])
    keys, labels = queue.contents()
    ours = gen_supcon_loss(
        z, y.float(), contrast_latents=keys, contrast_labels=labels, similarity=CHAIN
    )
    s = torch.tensor(loops(y, labels, CHAIN))
    assert torch.isclose(
        ours, gen_supcon_loss(z, pair_similarity=s, contrast_latents=keys), rtol=1e-6
    )


@pytest.mark.parametrize("dtype, rtol", [(torch.float64, 1e-14), (torch.float32, 1e-6)])
def test_the_identity_is_the_cosine(dtype, rtol):
    z, y, c, yc = sample(rows=40, contrasts=30)
    y, yc, numbers = y.to(dtype), yc.to(dtype), y.argmax(1)
    assert torch.allclose(
        label_similarity(y, yc, torch.eye(4)), label_similarity(y, yc), rtol=rtol, atol=0
    )
    assert torch.equal(
        label_similarity(numbers, similarity=torch.eye(4)), label_similarity(numbers)
    )
    for labels in (y, numbers):
        for backend in ("dense", "streamed"):
            ours, cosine = (
                gen_supcon_loss(z.to(dtype), labels, similarity=s, backend=backend)
                for s in (torch.eye(4), "cosine")
            )
            assert torch.isclose(ours, cosine, rtol=rtol, atol=0)


@pytest.mark.parametrize("factor", [1e-300, 1e-30, 3.0, 1e30, 1e300])
def test_only_the_proportions_count(factor):
    _, y, *_ = sample()
    assert torch.allclose(
        label_similarity(y, similarity=CHAIN.double() * factor),
        label_similarity(y, similarity=CHAIN),
        rtol=1e-13,
    )


def test_classes_of_one_group_are_one_class_where_within_is_1():
    z, y, *_ = sample(rows=20)
    matrix, numbers = superclass_similarity([7, 7, 3, 9], within=1), y.argmax(1)
    group = torch.tensor([0, 0, 1, 2])
    sums = torch.stack([y[:, 0] + y[:, 1], y[:, 2], y[:, 3]], dim=1)
    assert torch.allclose(
        gen_supcon_loss(z, y, similarity=matrix), gen_supcon_loss(z, sums), rtol=1e-12
    )
    assert torch.allclose(
        gen_supcon_loss(z, numbers, similarity=matrix),
        gen_supcon_loss(z, group[numbers]),
        rtol=1e-12,
    )
    assert torch.isclose(label_similarity(torch.eye(4), similarity=matrix)[0, 1], torch.tensor(1.0))


def test_a_class_counts_by_its_size_in_a_mixture():
    """y^T S y weighs a class by S_cc: half a class of size 2 is two thirds of the direction (2, 1)."""
    matrix, y = torch.diag(torch.tensor([4.0, 1.0])), torch.tensor([[0.5, 0.5], [1.0, 0.0]])
    assert torch.isclose(label_similarity(y, similarity=matrix)[0, 1], torch.tensor(2 / 5**0.5))


@pytest.mark.parametrize("backend", ["dense", "streamed"])
@pytest.mark.parametrize("kind", ["distributions", "numbers"])
def test_classes_with_nothing_in_common_keep_exactly_zero(backend, kind):
    """0 and 2 each resemble 1, yet not each other: products of rows of L would leave rounding, of both signs."""
    matrix = torch.tensor([[1.0, 0.3, 0.0], [0.3, 1.0, 0.6], [0.0, 0.6, 1.0]])
    y, z = torch.tensor([0, 2]), torch.randn(2, 4, requires_grad=True)
    y = F.one_hot(y, 3).float() if kind == "distributions" else y
    assert torch.equal(label_similarity(y, similarity=matrix).fill_diagonal_(0), torch.zeros(2, 2))
    parts = gen_supcon_loss_parts(z, y, similarity=matrix, backend=backend)
    parts.loss.backward()
    assert parts.skipped == 2 and parts.loss == parts.entropy == 0 and (z.grad == 0).all()


@pytest.mark.parametrize("backend", ["dense", "streamed"])
@pytest.mark.parametrize("queue", [False, True])
def test_gradients_by_differences(backend, queue):
    """By latents and by labels."""
    z, y, c, yc = sample()

    def loss(z, logits, c):
        contrast = {"contrast_latents": c, "contrast_labels": yc} if queue else {}
        return gen_supcon_loss(z, logits.softmax(1), similarity=CHAIN, backend=backend, **contrast)

    assert torch.autograd.gradcheck(
        loss, (z.requires_grad_(), y.log().requires_grad_(), c.requires_grad_(queue))
    )


@pytest.mark.parametrize("dtype", FLOATS)
def test_similarities_have_the_type_of_the_labels(dtype):
    _, y, _, yc = sample()
    for matrix in (CHAIN, MATRICES["sizes"], GROUPS.to(dtype)):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            ours = label_similarity(y.to(dtype), yc.to(dtype), matrix)
        exact = label_similarity(
            *(t.to(dtype).double() / t.to(dtype).double().sum(1, True) for t in (y, yc)),
            similarity=matrix,
        )
        eps = torch.finfo(dtype).eps
        assert ours.dtype == dtype and torch.allclose(
            ours.double(), exact, rtol=8 * eps, atol=8 * eps
        )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_float32_under_autocast_and_for_half_latents(dtype):
    z, y, *_ = sample(rows=16)
    z, y = z.to(dtype), y.float()
    for labels in (y, y.argmax(1)):
        expected = gen_supcon_loss(z.float(), labels, similarity=CHAIN)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = gen_supcon_loss(z, labels, similarity=CHAIN)
        assert loss.dtype == torch.float32 and torch.equal(loss, expected)


@pytest.mark.parametrize("kind", ["distributions", "numbers"])
@pytest.mark.parametrize("queue", [False, True])
def test_no_matrix_of_all_pairs_is_formed(kind, queue, monkeypatch):
    monkeypatch.setitem(log_partition.TILE, "cpu", 32)
    z, y, c, yc = sample(rows=1500, contrasts=1600)
    y, yc = (y, yc) if kind == "distributions" else (y.argmax(1), yc.argmax(1))
    contrast = {"contrast_latents": c, "contrast_labels": yc} if queue else {}
    with LargestTensor() as largest:
        gen_supcon_loss(
            z.requires_grad_(), y, similarity=CHAIN, backend="streamed", **contrast
        ).backward()
    assert 1500 * 4 <= largest.numel < 1500 * 100


@pytest.mark.parametrize(
    "similarity, kind", [(CHAIN, "distributions"), (ClassSimilarity(CHAIN), "numbers")]
)
def test_compiles_in_one_graph(similarity, kind):
    z, y, *_ = sample(rows=12)
    options = {"similarity": similarity, "backend": "streamed", "validate": False}
    y = y if kind == "distributions" else y.argmax(1)
    torch.compiler.reset()
    compiled = torch.compile(gen_supcon_loss, fullgraph=True, backend="eager")
    assert torch.isclose(compiled(z, y, **options), gen_supcon_loss(z, y, **options), rtol=1e-12)


def test_a_module_and_a_kernel_are_checked_once(monkeypatch):
    z, y, *_ = sample()
    counted, eigenvalues = [], torch.linalg.eigvalsh
    monkeypatch.setattr(
        torch.linalg, "eigvalsh", lambda s: counted.append(len(s)) or eigenvalues(s)
    )
    module, kernel = GenSupConLoss(similarity=CHAIN), ClassSimilarity(CHAIN)
    assert counted == [4, 4] and "ClassSimilarity(4 classes)" in repr(module)
    expected = gen_supcon_loss(z, y, similarity=CHAIN, validate=False)
    for _ in range(3):
        assert torch.equal(module(z, y), expected) and torch.equal(
            gen_supcon_loss(z, y, similarity=kernel), expected
        )
    assert counted == [4, 4]
    gen_supcon_loss(z, y, similarity=CHAIN)
    assert counted == [4, 4, 4]  # a bare matrix, each time


def test_a_kernel_is_a_copy():
    matrix = CHAIN.double()
    kernel, (_, y, *_) = ClassSimilarity(matrix), sample()
    before = label_similarity(y, similarity=kernel)
    matrix.fill_(1)
    assert torch.equal(label_similarity(y, similarity=kernel), before)


def test_several_targets_share_a_kernel():
    z, y, *_ = sample()
    parts = gen_supcon_loss_parts(
        z, [(1.0, y), (0.5, y.flip(0))], similarity=ClassSimilarity(CHAIN)
    )
    one, other = (gen_supcon_loss(z, t, similarity=CHAIN) for t in (y, y.flip(0)))
    assert torch.isclose(parts.loss, one + 0.5 * other, rtol=1e-12)


def test_views_share_labels():
    z, y, *_ = sample(rows=12)
    views = z.reshape(6, 2, 4)
    for labels in (y[:6], y[:6].argmax(1)):
        ours = gen_supcon_loss(views, labels, similarity=CHAIN)
        rows = torch.cat(views.unbind(1))
        assert torch.equal(
            ours, gen_supcon_loss(rows, torch.cat([labels, labels]), similarity=CHAIN)
        )


@st.composite
def kernels_of(draw, classes):
    """Positive semidefinite matrices >= 0 of any rank and scale, of any type; now and then what is none."""
    g, rank = torch.Generator().manual_seed(draw(st.integers(0, 999))), draw(st.integers(1, 5))
    root = torch.rand(classes, rank, generator=g, dtype=torch.float64)
    root *= 10 ** (
        draw(st.sampled_from([0, 0, 3])) * torch.randn(classes, 1, generator=g, dtype=torch.float64)
    )
    root = root + torch.eye(classes, rank, dtype=torch.float64) * draw(st.sampled_from([0.0, 1.0]))
    s = root @ root.T * draw(st.sampled_from([1.0, 1e-3, 1e3]))
    wrong = draw(st.sampled_from([None] * 5 + ["negative", "lopsided", "indefinite"]))
    if wrong and classes > 1:
        s[0, 1] = {
            "negative": -s[0, 1],
            "lopsided": 2 * s[0, 1] + s[0, 0],
            "indefinite": 3 * s.max(),
        }[wrong]
        s[1, 0] = s[1, 0] if wrong == "lopsided" else s[0, 1]
    return s.to(
        draw(st.sampled_from([torch.float64, torch.float32]))
    ), wrong if classes > 1 else None


@quick
@given(st.data(), SOME, SOME, SOME)
def test_label_similarities_are_shares_or_refused(data, rows, contrasts, classes):
    matrix, wrong = data.draw(kernels_of(classes))
    first, second = data.draw(labels_of(rows)), data.draw(labels_of(contrasts))
    for pair in ((first, second), (first, None)):
        s = finite_or_refused(label_similarity, *pair, similarity=matrix)
        assert s is None or not wrong and (s >= 0).all() and (s <= 1.02).all()


@quick
@given(st.data(), st.integers(1, 9), st.sampled_from([torch.float64, torch.float32]))
def test_similarities_are_those_of_a_kernel(data, classes, dtype):
    """Symmetric, 1 of a label to itself, positive semidefinite; as of any product of roots, without their noise."""
    matrix, wrong = data.draw(kernels_of(classes))
    y = data.draw(labels_of(8, "distributions"))
    y = torch.cat([y.double()[:, :classes] + 1e-3, torch.rand(8, classes).double()], dim=1)[
        :, -classes:
    ]
    y = (y / y.sum(1, keepdim=True)).to(dtype)
    s = finite_or_refused(label_similarity, y, similarity=matrix)
    if wrong:
        assert s is None
        return
    eps = 100 * max(torch.finfo(dtype).eps, torch.finfo(matrix.dtype).eps)
    exact = torch.tensor(
        oracle.class_similarities(y.tolist(), y.tolist(), matrix.tolist()), dtype=torch.float64
    )
    assert torch.allclose(s.double(), exact, rtol=eps, atol=0)
    assert torch.allclose(s.diagonal(), torch.ones_like(s[0]), atol=eps) and torch.allclose(
        s, s.T, atol=eps
    )
    assert torch.linalg.eigvalsh(s.double()).min() > -8 * eps


@quick
@given(
    st.data(),
    SOME,
    st.integers(1, 6),
    SOME,
    st.sampled_from([None, 1, 5]),
    st.sampled_from([0.01, 0.1, 10.0]),
)
def test_the_loss_is_finite_and_alike_in_both_backends(
    data, rows, classes, dim, contrasts, temperature
):
    z, numbers = data.draw(floats(rows, dim)), torch.arange(rows) % classes
    y = data.draw(
        st.sampled_from(
            [numbers, F.one_hot(numbers, classes).double(), torch.rand(rows, classes).softmax(1)]
        )
    )
    latents, options = {"latents": z.requires_grad_()}, {"labels": y, "temperature": temperature}
    if contrasts is not None:
        latents["contrast_latents"] = data.draw(floats(contrasts, dim)).requires_grad_()
        options["contrast_labels"] = y[torch.arange(contrasts) % max(1, rows)] if rows else y
    options["similarity"], wrong = data.draw(kernels_of(classes))
    losses = []
    for backend in ("dense", "streamed"):
        parts = finite_or_refused(gen_supcon_loss_parts, **latents, **options, backend=backend)
        if parts is None:
            return
        parts.loss.backward()
        assert not wrong and parts.kl > -1e-3 * (1 + parts.loss.detach())
        losses.append(parts.loss.detach())
    assert torch.allclose(*losses, rtol=1e-3, atol=1e-3)


@quick
@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=9), st.floats(0, 1))
def test_superclasses_make_a_kernel(groups, within):
    s, places = superclass_similarity(groups, within), range(len(groups))
    expected = [
        [1 if a == b else within if groups[a] == groups[b] else 0 for b in places] for a in places
    ]
    assert torch.allclose(s, torch.tensor(expected, dtype=s.dtype), atol=0)
    assert (
        torch.linalg.eigvalsh(s.double())[0] > -1e-6
        and repr(ClassSimilarity(s)) == f"ClassSimilarity({len(groups)} classes)"
    )
    for alike in (
        tuple(groups),
        torch.tensor([ord(g) for g in groups]),
        torch.tensor([ord(g) for g in groups]).numpy(),
    ):
        assert torch.equal(superclass_similarity(alike, within), s)


def test_superclasses_of_0_are_the_identity():
    assert torch.equal(superclass_similarity([0, 0, 1], 0), torch.eye(3))


@pytest.mark.parametrize(
    "groups, within, message",
    [
        ([], 0.5, r"groups: expected a list, the group of each of C classes, got \[\]"),
        ("ab", 0.5, "groups: expected a list, the group of each of C classes, got 'ab'"),
        (None, 0.5, "groups: expected a list, the group of each of C classes, got None"),
        (torch.tensor(3), 0.5, "groups: expected a list, the group of each of C classes, got 3"),
        ([0, 1], 1.5, r"within: expected a number in \[0, 1\], got 1.5"),
        ([0, 1], -0.1, r"within: expected a number in \[0, 1\], got -0.1"),
        ([0, 1], float("nan"), r"within: expected a number in \[0, 1\], got nan"),
        ([0, 1], "0.5", r"within: expected a number in \[0, 1\], got '0.5'"),
    ],
)
def test_bad_groups_are_named(groups, within, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        superclass_similarity(groups, within)


def with_entry(a, b, value, both=True):
    s = GROUPS.clone()
    s[a, b] = value
    s[b, a] = value if both else s[b, a]
    return s


BAD = {
    r"expected real numbers of shape \(C, C\), got torch.float32 of shape \(4, 3\)": torch.ones(
        4, 3
    ),
    r"expected real numbers of shape \(C, C\), got torch.float32 of shape \(4,\)": torch.ones(4),
    r"expected real numbers of shape \(C, C\), got torch.float32 of shape \(0, 0\)": torch.ones(
        0, 0
    ),
    r"expected real numbers of shape \(C, C\), got torch.float32 of shape \(\)": torch.tensor(1.0),
    r"expected real numbers of shape \(C, C\), got torch.complex64 of shape \(4, 4\)": torch.eye(4)
    * (1 + 0j),
    r"expected finite numbers, but \[1, 2\] is nan": with_entry(1, 2, float("nan")),
    r"expected finite numbers, but \[3, 3\] is inf": with_entry(3, 3, float("inf")),
    r"expected numbers >= 0, but \[0, 2\] is -0.25": with_entry(0, 2, -0.25),
    r"expected numbers >= 0, but \[1, 1\] is -1": with_entry(1, 1, -1.0),
    r"expected each class to resemble itself, but \[2, 2\], that of class 2, is 0": with_entry(
        2, 2, 0.0
    ),
    r"expected each class to resemble itself, but \[2, 2\], that of class 2, is 1e-31": with_entry(
        2, 2, 1e-31
    ),
    r"expected each class to resemble itself, but \[0, 0\], that of class 0, is 0": torch.zeros(
        4, 4
    ),
    r"expected a symmetric matrix, but \[0, 2\] is 0.25 and \[2, 0\] is 0": with_entry(
        0, 2, 0.25, both=False
    ),
    r"expected a positive semidefinite matrix, but scaled to a diagonal of 1 its least eigenvalue is -0.1": with_entry(
        0, 1, 1.1
    ),
    r"expected a positive semidefinite .* eigenvalue is -1e\+09": with_entry(0, 1, 1e30),
    r"expected a matrix for 4 classes, got one of shape \(3, 3\)": torch.eye(3),
    r"expected a name, a \(C, C\) Tensor or a function, got list": torch.eye(4).tolist(),
    r"expected a name, a \(C, C\) Tensor or a function, got ndarray": torch.eye(4).numpy(),
    r"expected a name, a \(C, C\) Tensor or a function, got NoneType": None,
}


@pytest.mark.parametrize("message", BAD)
def test_bad_matrices_are_named(message):
    z, y, *_ = sample()
    with pytest.raises(ValueError, match=f"^similarity: {message}$"):
        gen_supcon_loss(z, y, similarity=BAD[message])
    with pytest.raises(
        ValueError, match=f"^similarity: {message.replace(' or a function', '.*')}$"
    ):
        label_similarity(y, similarity=BAD[message])
    if "for 4 classes" not in message:
        with pytest.raises(ValueError, match=f"^similarity: {message}$"):
            GenSupConLoss(similarity=BAD[message])


def test_bad_uses_are_named():
    z, y, *_ = sample()
    with pytest.raises(
        ValueError,
        match="^similarity: expected class numbers below 4, the rows of the matrix, got 6$",
    ):
        gen_supcon_loss(z, torch.arange(7), similarity=CHAIN)
    with pytest.raises(
        ValueError,
        match="^similarity: expected class numbers below 4, the rows of the matrix, got 4$",
    ):
        label_similarity(torch.tensor([0]), torch.tensor([4]), CHAIN)
    for latents in (z, z[:, None]):
        with pytest.raises(
            ValueError, match="^labels: expected .* got None$"
        ):  # an image is no class
            gen_supcon_loss(latents, similarity=CHAIN)
    with pytest.raises(
        ValueError, match=r"^similarity: expected a name, a \(C, C\) Tensor, got function$"
    ):
        label_similarity(y, similarity=lambda a, b: a @ b.T)
    with pytest.raises(ValueError, match="^similarity: expected a Tensor, got list$"):
        ClassSimilarity([[1.0]])


@pytest.mark.parametrize(
    "matrix",
    [
        SAID.float() @ SAID.float().T,
        torch.ones(50, 50),
        superclass_similarity([0] * 60 + [1] * 40, within=1).bfloat16(),
        torch.tensor([[True, True], [True, True]]),
        (CHAIN + 1e-7 * torch.randn(4, 4).clamp(min=0)),
    ],
    ids=["confusion", "ones", "bfloat16", "bool", "slightly lopsided"],
)
def test_what_rounding_leaves_is_no_error(matrix):
    """Eigenvalues a little below 0, and numbers of a pair that differ in their last digits."""
    s = label_similarity(torch.eye(len(matrix)), similarity=matrix)
    assert torch.allclose(s.diagonal(), torch.ones(len(matrix))) and torch.equal(s, s.T)


def test_unvalidated_numbers_are_taken_as_they_are():
    z, y, *_ = sample()
    assert torch.isfinite(gen_supcon_loss(z, y, similarity=with_entry(0, 1, 1.1), validate=False))
    with pytest.raises(ValueError, match="similarity: expected real numbers of shape"):
        gen_supcon_loss(z, y, similarity=torch.ones(4, 3), validate=False)


def test_features_are_shares():
    """However unlike the sizes of classes are, no feature is above 1."""
    _, y, _, yc = sample()
    for features in feature_pair(y, yc, ClassSimilarity(MATRICES["sizes"]), torch.float64):
        assert (features >= 0).all() and (features <= 1 + 1e-12).all()
