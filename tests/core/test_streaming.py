"""Every backend, on every kind of input, gives the dense loss and its gradients."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention.flex_attention import AuxRequest, flex_attention

from genscl_lite import label_sums, log_partition
from genscl_lite.losses import GenSupConLoss, gen_supcon_loss, gen_supcon_loss_parts
from genscl_lite.similarity import label_features
from tests.pairwise import pairwise


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks of five rows, FlexAttention as written, not compiled: small batches go through all the code."""
    monkeypatch.setitem(log_partition.TILE, "cpu", 5)
    monkeypatch.setattr(label_sums, "BLOCK_ELEMENTS", 64)
    monkeypatch.setattr(
        log_partition, "_flex_attention", lambda: (flex_attention, AuxRequest(lse=True))
    )
    warnings.filterwarnings("ignore", message="flex_attention called without torch.compile")


def case(
    kind="distributions",
    rows=71,
    contrasts=0,
    dim=6,
    classes=4,
    seed=0,
    dtype=torch.float64,
    **options,
):
    """Return arguments of ``gen_supcon_loss``; latents require gradients."""
    g = torch.Generator().manual_seed(seed)

    def latents(n):
        return (3 * torch.randn(n, dim, generator=g, dtype=dtype)).requires_grad_()

    def labels(n):
        if kind == "numbers":
            return torch.randint(3 * classes, (n,), generator=g)
        return torch.softmax(4 * torch.randn(n, classes, generator=g, dtype=torch.float64), dim=1)

    arguments = {"latents": latents(rows), **options}
    if contrasts:
        arguments["contrast_latents"] = latents(contrasts)
    if kind == "weights":
        arguments["pair_similarity"] = torch.rand(
            rows, contrasts or rows, generator=g, dtype=torch.float64
        )
    else:
        arguments["labels"] = labels(rows)
        if contrasts:
            arguments["contrast_labels"] = labels(contrasts)
    if kind == "function":
        arguments["similarity"] = lambda y, others: 1 / (1 + torch.cdist(y, others))
    return arguments


def loss_and_gradients(backend, **arguments):
    """Return loss, entropy and KL, and the gradients of the loss."""
    latents = {
        name: v.detach().requires_grad_() for name, v in arguments.items() if "latents" in name
    }
    parts = gen_supcon_loss_parts(backend=backend, **arguments | latents)
    parts.loss.backward()
    return [part.double() for part in parts], [z.grad for z in latents.values()]


def assert_same(backend, rtol, **arguments):
    values, gradients = loss_and_gradients("dense", **arguments)
    ours, our_gradients = loss_and_gradients(backend, **arguments)
    for a, b in zip(ours + our_gradients, values + gradients, strict=True):
        assert torch.allclose(a, b, rtol=rtol, atol=rtol * (1 + float(b.detach().abs().max())))


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["distributions", "numbers", "weights", "function"]),
    rows=st.integers(2, 80),
    contrasts=st.sampled_from([0, 0, 1, 7, 33]),
    dim=st.integers(1, 20),
    classes=st.integers(1, 6),
    seed=st.integers(0, 1000),
    temperature=st.sampled_from([0.002, 0.01, 0.1, 1.0]),
    weighting=st.sampled_from(["normalized", "eq2"]),
    masked=st.booleans(),
    base_temperature=st.sampled_from([None, 0.07]),
)
def test_streamed_is_dense(kind, rows, contrasts, dim, classes, seed, masked, **options):
    if masked:
        options["anchor_weight"] = (
            torch.rand(rows, generator=torch.Generator().manual_seed(seed)) < 0.5
        )
    assert_same("streamed", 1e-10, **case(kind, rows, contrasts, dim, classes, seed, **options))


@pytest.mark.parametrize(
    "kind, contrasts, temperature, dtype",
    pairwise(
        ["distributions", "numbers", "weights", "function"],
        [0, 19],
        [0.01, 0.1],
        [torch.float32, torch.bfloat16],
    ),
)
def test_streamed_in_low_precision(kind, contrasts, temperature, dtype):
    rtol = {torch.float32: 1e-5, torch.bfloat16: 1e-2}[dtype]
    inputs = case(kind, contrasts=contrasts, dtype=dtype, temperature=temperature)
    exact = {name: v.double() if "latents" in name else v for name, v in inputs.items()}
    values, gradients = loss_and_gradients("dense", **exact)
    ours, our_gradients = loss_and_gradients("streamed", **inputs)
    for a, b in zip(ours[:1] + our_gradients, values[:1] + gradients, strict=True):
        assert torch.allclose(a.double(), b, rtol=rtol, atol=rtol * float(b.detach().abs().max()))


@pytest.mark.parametrize(
    "kind, contrasts, dtype",
    pairwise(
        ["distributions", "numbers", "weights", "function"],
        [0, 19],
        [torch.float32, torch.bfloat16],
    ),
)
def test_fused_is_dense(kind, contrasts, dtype, monkeypatch):
    """By FlexAttention's own reference, which runs on a CPU; the benchmark checks the kernels on a GPU."""
    rtol = {torch.float32: 1e-5, torch.bfloat16: 1e-2}[dtype]
    monkeypatch.setattr(
        "torch.nn.attention.flex_attention._validate_device", lambda *_: None, raising=False
    )
    monkeypatch.setattr("genscl_lite.losses.choose_backend", lambda backend, *_: backend)
    inputs = case(kind, contrasts=contrasts, dtype=dtype, dim=16)
    values, gradients = loss_and_gradients("dense", **inputs)
    ours, our_gradients = loss_and_gradients("fused", **inputs)
    for a, b in zip(ours[:1] + our_gradients, values[:1] + gradients, strict=True):
        assert (a - b).norm() < rtol * (b.norm() + 1e-12)


@pytest.mark.parametrize("backend", ["dense", "streamed"])
@pytest.mark.parametrize("contrasts", [0, 9])
@pytest.mark.parametrize("options", [{}, {"weighting": "eq2", "base_temperature": 0.07}])
def test_a_temperature_may_learn(backend, contrasts, options):
    """Its gradient, and the latents', by differences; the value is that of the number."""
    inputs = case(rows=11, contrasts=contrasts, backend=backend, **options)
    tau = torch.tensor(0.2, dtype=torch.float64, requires_grad=True)
    latents = [inputs.pop(name) for name in ("latents", "contrast_latents")[: 1 + bool(contrasts)]]

    def loss(tau, z, *c):
        return gen_supcon_loss(z, contrast_latents=c[0] if c else None, temperature=tau, **inputs)

    assert torch.isclose(loss(tau, *latents), loss(0.2, *latents), rtol=1e-12)
    assert torch.autograd.gradcheck(loss, (tau, *latents))
    latents = [z.detach() for z in latents]  # it alone learns
    assert torch.autograd.gradcheck(lambda tau: loss(tau, *latents), tau)
    assert torch.autograd.gradcheck(
        lambda tau: loss(tau, *latents), tau.detach()[None].requires_grad_()
    )


@pytest.mark.parametrize(
    "kind, contrasts, dtype, backend",
    pairwise(
        ["distributions", "numbers", "weights", "function"],
        [0, 19],
        [torch.float32, torch.bfloat16],
        ["streamed", "fused"],
    ),
)
def test_the_temperature_learns_alike_in_every_backend(
    kind, contrasts, dtype, backend, monkeypatch
):
    rtol = {torch.float32: 1e-4, torch.bfloat16: 2e-2}[dtype]
    monkeypatch.setattr(
        "torch.nn.attention.flex_attention._validate_device", lambda *_: None, raising=False
    )
    monkeypatch.setattr("genscl_lite.losses.choose_backend", lambda backend, *_: backend)
    results = []
    for name in ("dense", backend):
        inputs = case(kind, contrasts=contrasts, dtype=dtype, dim=16)
        latents = [value for key, value in inputs.items() if "latents" in key]
        with torch.no_grad():
            for rows in latents:
                rows[4] = 0  # has no direction
        tau = torch.nn.Parameter(torch.tensor(0.2))
        gen_supcon_loss(backend=name, temperature=tau, **inputs).backward()
        assert all((rows.grad[4] == 0).all() for rows in latents)
        results.append([tau.grad, *(rows.grad for rows in latents)])
    for ours, dense in zip(*results, strict=True):
        assert (ours - dense).norm() < rtol * (dense.norm() + 1e-12)


def test_a_module_keeps_the_temperature_it_learns():
    module = GenSupConLoss(temperature=torch.nn.Parameter(torch.tensor(0.5)), backend="streamed")
    assert [name for name, _ in module.named_parameters()] == [
        "temperature"
    ] and "temperature=" in repr(module)
    inputs = case(rows=30)
    before = module(inputs["latents"], inputs["labels"])
    before.backward()
    torch.optim.SGD(module.parameters(), lr=0.01).step()
    assert module.temperature != 0.5 and module(inputs["latents"], inputs["labels"]) < before
    module.temperature.data.fill_(-1)
    with pytest.raises(ValueError, match="temperature: expected a number above 0, got -1"):
        module(inputs["latents"], inputs["labels"])


def test_fused_needs_cuda():
    with pytest.raises(
        ValueError, match="backend: 'fused' needs latents on a CUDA device, got cpu"
    ):
        gen_supcon_loss(**case(backend="fused"))
    with pytest.raises(ValueError, match="backend: 'steamed' .*did you mean 'streamed'"):
        GenSupConLoss(backend="steamed")


@pytest.mark.parametrize("contrasts", [0, 9])
@pytest.mark.parametrize("temperature", [0.001, 0.3])
def test_gradients_by_differences(contrasts, temperature):
    inputs = case(
        rows=11, contrasts=contrasts, temperature=max(temperature, 0.05), backend="streamed"
    )
    latents = inputs.pop("latents")
    assert torch.autograd.gradcheck(lambda z: gen_supcon_loss(z, **inputs), latents)


def test_labels_have_gradients_too():
    y = torch.randn(9, 3, dtype=torch.float64, requires_grad=True)
    z = case(rows=9)["latents"].detach()
    for weighting in ("normalized", "eq2"):
        options = {"weighting": weighting, "backend": "streamed"}
        assert torch.autograd.gradcheck(lambda y: gen_supcon_loss(z, y.softmax(1), **options), y)  # noqa: B023


@pytest.mark.parametrize("by", ["latents", "contrast_latents"])
def test_a_second_derivative_is_refused_not_wrong(by):
    inputs = case(contrasts=8, backend="streamed")
    for name in ("latents", "contrast_latents"):
        inputs[name] = inputs[name].detach().requires_grad_(name == by)
    first = torch.autograd.grad(gen_supcon_loss(**inputs), inputs[by], create_graph=True)[0]
    with pytest.raises(RuntimeError, match="first derivative only; take backend='dense'"):
        first.square().sum().backward()


def test_gradients_only_where_wanted():
    inputs = case(contrasts=8, backend="streamed")
    inputs["contrast_latents"] = inputs["contrast_latents"].detach()  # keys of a queue
    gen_supcon_loss(**inputs).backward()
    with torch.no_grad():
        assert torch.isfinite(gen_supcon_loss(**inputs))


@pytest.mark.parametrize(
    "latents, labels, dtype",
    pairwise(
        ["equal", "opposite", "zero"],
        ["one class", "lonely", "distributions"],
        [torch.float32, torch.bfloat16],
    ),
)
def test_no_nan_at_the_edges(latents, labels, dtype):
    z = (
        {
            "equal": torch.ones(12, 4),
            "opposite": torch.ones(12, 4) * (-1) ** torch.arange(12)[:, None],
            "zero": torch.zeros(12, 4),
        }[latents]
        .to(dtype)
        .requires_grad_()
    )
    y = {
        "one class": torch.zeros(12, dtype=torch.int64),
        "lonely": torch.arange(12),
        "distributions": torch.eye(12),
    }[labels]
    for temperature in (0.01, 0.03, 0.1):
        for backend in ("dense", "streamed"):
            z.grad = None
            loss = gen_supcon_loss(z, y, temperature=temperature, backend=backend)
            loss.backward()
            assert torch.isfinite(loss) and torch.isfinite(z.grad).all()


@pytest.mark.parametrize(
    "kind, contrasts, backend",
    [
        ("distributions", 0, "streamed"),
        ("numbers", 0, "dense"),
        ("weights", 0, "streamed"),
        ("distributions", 9, "dense"),
        ("numbers", 9, "streamed"),
        ("weights", 9, "dense"),
    ],
)
def test_compiles_in_one_graph(kind, contrasts, backend):
    """Every kind of label and both backends, with and without contrasts; few rows, but several blocks."""
    inputs = case(kind, rows=12, contrasts=contrasts, backend=backend, validate=False)
    inputs["temperature"] = 0.1 if kind == "numbers" else torch.tensor(0.1, dtype=torch.float64)
    expected = gen_supcon_loss(**inputs)
    torch.compiler.reset()
    compiled = torch.compile(gen_supcon_loss, fullgraph=True, backend="eager")
    z = inputs["latents"]
    ours = compiled(**inputs)
    assert torch.isclose(ours, expected, rtol=1e-12)
    assert torch.allclose(
        torch.autograd.grad(ours, z)[0], torch.autograd.grad(expected, z)[0], rtol=1e-10
    )


@pytest.mark.parametrize("device, dtype, rows, expected", [
    ("cpu", torch.float32, 512, "dense"), ("cpu", torch.float32, 513, "streamed"), ("cpu", torch.bfloat16, 5000, "streamed"),
    ("cuda", torch.float32, 4096, "dense"), ("cuda", torch.float32, 4097, "streamed"),
    ("cuda", torch.bfloat16, 4096, "dense"), ("cuda", torch.bfloat16, 4097, "fused"), ("cuda", torch.float64, 5000, "streamed"),
])  # fmt: skip
def test_auto_takes_what_is_quickest_on_the_device(device, dtype, rows, expected):
    class Latents(list):
        pass

    latents = Latents(range(rows))
    latents.device, latents.dtype = torch.device(device), dtype
    assert log_partition.choose_backend("auto", latents, rows) == expected


def test_auto_is_dense_for_few_scores_and_streamed_for_many():
    few, many = torch.randn(8, 4), torch.randn(2000, 4)
    assert log_partition.choose_backend("auto", few, 8) == "dense"
    assert log_partition.choose_backend("auto", many, 2000) == "streamed"
    assert torch.isclose(
        gen_supcon_loss(many, torch.arange(2000) % 7, validate=False),
        gen_supcon_loss(many, torch.arange(2000) % 7, backend="dense"),
        rtol=1e-5,
    )


def test_no_row_of_its_own_is_subtracted():
    """Leaving out an anchor's own term keeps all digits, in float32, in every block."""
    g = torch.Generator().manual_seed(0)
    noise = 1e-6 * torch.rand(300, 150, generator=g, dtype=torch.float64)
    y = F.one_hot(torch.arange(300) % 150).double() + noise
    y /= y.sum(1, keepdim=True)
    z = torch.randn(300, 8, generator=g, dtype=torch.float64)
    lonely = y[:150]  # what each resembles in the others is a millionth of its own term
    weights = label_features(lonely) @ label_features(lonely).T
    exact = gen_supcon_loss_parts(z[:150], pair_similarity=weights)
    ours = gen_supcon_loss_parts(z[:150].float(), lonely.float())
    assert torch.allclose(ours.loss.double(), exact.loss, rtol=1e-4)
    assert torch.allclose(ours.kl.double(), exact.kl, rtol=1e-3)


def test_accumulated_gradients_are_exact_by_way_of_the_latents():
    """README: latents of all pieces first, the loss's gradient by them, then piece by piece backward."""
    torch.manual_seed(0)
    encoder = torch.nn.Linear(5, 3).double()
    images, labels = torch.randn(12, 5).double(), torch.randn(12, 4).double().softmax(1)
    gen_supcon_loss(encoder(images), labels).backward()
    whole = encoder.weight.grad.clone()

    encoder.zero_grad()
    with torch.no_grad():
        latents = torch.cat([encoder(piece) for piece in images.split(4)])
    latents.requires_grad_()
    gen_supcon_loss(latents, labels).backward()
    for piece, gradient in zip(images.split(4), latents.grad.split(4), strict=True):
        encoder(piece).backward(gradient)
    assert torch.allclose(encoder.weight.grad, whole, rtol=1e-10)
