import dataclasses
import functools
import multiprocessing
import os
import signal
import time

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from genscl_lite.datasets import load_dataset
from genscl_lite.datasets.files import RunFolderError
from genscl_lite.distillation import Teacher
from genscl_lite.losses import gen_supcon_loss, gen_supcon_loss_parts
from genscl_lite.mixing import blend, draw_mixture
from genscl_lite.momentum import LabelledQueue, MomentumEncoder
from genscl_lite.runs.finish import finish_run
from genscl_lite.train import batches, loop, methods, objective, run_folder
from genscl_lite.train.batches import draw_epoch, image_batches
from genscl_lite.train.config import TrainConfig
from genscl_lite.train.evaluate import extract
from genscl_lite.train.loop import OutOfTime, learning_rate, pretrain
from genscl_lite.train.methods import METHODS
from genscl_lite.train.objective import Pieces, batch_loss
from genscl_lite.train.run_folder import is_finished
from genscl_lite.train.state import compiled, new_model, new_run, wants_compile
from genscl_lite.train.teachers import load_teacher
from genscl_lite.train.weights import load_weights


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A folder with the finished run of a small teacher."""
    from tests.conftest import QUICK

    folder = tmp_path_factory.mktemp("teacher")
    config = TrainConfig(**QUICK | {"method": "ce_mix"})
    images = load_dataset("digits", labels_per_class=3)
    finish_run(pretrain(config, images, folder / "seed0"), images, folder / "seed0")
    return str(folder)


def weights(run):
    return torch.cat(
        [
            v.flatten().double()
            for part in run.parts.values()
            if isinstance(part, nn.Module)
            for v in part.state_dict().values()
            if isinstance(v, torch.Tensor)
        ]
    )


def interrupt_after(epoch):
    def stop(run):
        if run.epoch == epoch:
            raise KeyboardInterrupt

    return stop


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if not method.expert])
def test_interrupted_and_resumed_equals_uninterrupted(method, quick, digits, teacher, tmp_path):
    config = quick(method, teacher=teacher)
    whole = pretrain(config, digits)
    with pytest.raises(KeyboardInterrupt):
        pretrain(config, digits, tmp_path, on_epoch=interrupt_after(1))
    torch.rand(7)  # other use of torch's global generator does not matter
    resumed = pretrain(config, digits, tmp_path)
    assert torch.equal(weights(whole), weights(resumed))
    assert torch.equal(whole.generator.get_state(), resumed.generator.get_state())
    untimed = [
        [{k: v for k, v in row.items() if "second" not in k} for row in run.log]
        for run in (whole, resumed)
    ]
    assert untimed[0] == untimed[1]
    assert all(torch.isfinite(torch.tensor(row["loss"])) for row in whole.log)
    again = pretrain(
        config, digits, tmp_path, on_epoch=interrupt_after(0)
    )  # finished: returns at once
    assert torch.equal(weights(whole), weights(again))


@pytest.mark.parametrize("method", ["ce", "simclr", "supcon"])
def test_the_first_step_is_the_papers(method, quick, digits):
    """Without augmentation and in one batch, the logged loss is that of the first weights on all images twice."""
    config = quick(method, augmentation="none", batch_size=30, epochs=1, warmup_epochs=0)
    logged = pretrain(config, digits).log[0]["loss"]
    torch.manual_seed(0)
    model = new_model(config, digits).train()
    outputs = model(digits.normalize(digits.train_images / 255).repeat(2, 1, 1, 1))
    expected = {
        "ce": lambda: F.cross_entropy(outputs, digits.train_labels.repeat(2)),
        "simclr": lambda: gen_supcon_loss(torch.stack(outputs.split(30), dim=1)),
        "supcon": lambda: gen_supcon_loss(outputs, digits.train_labels.repeat(2)),
    }[method]()
    assert abs(logged - expected.item()) < 1e-4


def test_a_classifier_beside_the_contrastive_loss(quick, digits):
    """The first step's loss is the contrastive one plus the weighted cross-entropy of logits that only training sees."""
    config = quick(
        "supcon", ce_weight=0.3, augmentation="none", batch_size=30, epochs=1, warmup_epochs=0
    )
    run = pretrain(config, digits)
    torch.manual_seed(0)
    model = new_model(config, digits).train()
    latents, logits = model(digits.normalize(digits.train_images / 255).repeat(2, 1, 1, 1)).split(
        [16, 10], dim=1
    )
    labels = digits.train_labels.repeat(2)
    expected = gen_supcon_loss(latents, labels) + 0.3 * F.cross_entropy(logits, labels)
    assert abs(run.log[0]["loss"] - expected.item()) < 1e-4
    assert not torch.equal(run.model.joint.weight, model.joint.weight)  # it has learned
    assert model.eval()(torch.zeros(2, 1, 8, 8)).shape == (2, 16)
    assert new_model(quick("ce", ce_weight=0.3), digits).joint is None  # a classifier already


def test_mixing_methods_learn_from_mixtures(quick, digits, monkeypatch):
    """Every view is mixed by the configuration, and the labels' entropy rises above the one-hot labels'."""
    calls = []
    monkeypatch.setattr(
        batches,
        "draw_mixture",
        lambda *size, **options: calls.append(options) or draw_mixture(*size, **options),
    )
    plain, mixed = (
        pretrain(quick(method, mixing="mixup", mix_alpha=0.7), digits)
        for method in ("supcon", "genscl_mix")
    )
    assert len(calls) == 2 * 3 * 3  # views, batches, epochs
    assert calls[0].items() >= {"mixing": "mixup", "alpha": 0.7, "per_image": True}.items()
    assert mixed.log[0]["label_entropy"] > plain.log[0]["label_entropy"] + 0.5


def test_queries_meet_keys_and_queue_with_their_own_targets(quick, digits):
    run = new_run(quick("genscl_mix_kd_queue", kd_weight=0.5), digits, None, torch.device("cpu"))
    z, y = torch.randn(14, 16), torch.randn(14, 2, 10).softmax(2)
    run.queue.enqueue(z[8:], y[8:])
    parts = batch_loss(
        run.config, z[:4], y[:4], torch.arange(4), (z[4:8], y[4:8]), run.queue.contents()
    )
    expected = sum(
        weight * gen_supcon_loss(z[:4], y[:4, t], contrast_latents=z[4:], contrast_labels=y[4:, t])
        for t, weight in enumerate([1.0, 0.5])
    )
    assert torch.isclose(parts.loss, expected)


def test_the_teacher_sees_what_the_student_sees_and_speaks_with_its_weight(
    quick, digits, monkeypatch
):
    seen, weights_used = {"teacher": [], "student": []}, []
    classifier = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    classifier.register_forward_pre_hook(lambda module, images: seen["teacher"].append(images[0]))
    student = nn.Flatten()
    student.register_forward_pre_hook(
        lambda module, images: seen["student"].append(images[0]) if module.training else None
    )

    def spy(latents, labels, **options):
        target_weights, (mixed, taught) = zip(*labels, strict=True)
        weights_used.append([*target_weights])
        assert torch.allclose(
            taught, (classifier[1](seen["teacher"][-1].flatten(1)) / 2).softmax(1), atol=1e-5
        )
        assert ((mixed > 0).sum(1) <= 2).all()  # labels of mixtures of two
        return gen_supcon_loss_parts(latents, labels, **options)

    monkeypatch.setattr(methods, "gen_supcon_loss_parts", spy)
    config = quick(
        "genscl_mix_kd", arch="custom", teacher_temperature=2.0, label_weight=0.3, kd_weight=0.7
    )
    pretrain(config, digits, encoder=student, teacher=Teacher(classifier, 2.0))
    assert len(seen["teacher"]) == len(seen["student"]) == 9
    assert all(torch.equal(a, b) for a, b in zip(seen["teacher"], seen["student"], strict=True))
    assert weights_used == [[0.3, 0.7]] * 9


def test_the_loaded_teacher_has_the_configured_temperature(quick, digits, teacher):
    cold, warm = (
        load_teacher(quick("genscl_kd", teacher=teacher, teacher_temperature=t), digits)
        for t in (1.0, 5.0)
    )
    images = digits.normalize(digits.test_images[:9] / 255)
    assert warm(images).max() < cold(images).max()


def test_the_queue_remembers_keys_with_the_keys_own_labels(quick, digits, teacher, monkeypatch):
    """Labels of first and second views differ, as each view is mixed by itself."""
    mixed, queued = [], []

    def spy(*batch):
        result = blend(*batch)
        mixed.append(result[1].chunk(2)[1])  # of second views
        return result

    monkeypatch.setattr(batches, "blend", spy)
    enqueue = LabelledQueue.enqueue
    monkeypatch.setattr(
        LabelledQueue, "enqueue", lambda *a: queued.append(a[2][:, 0]) or enqueue(*a)
    )
    pretrain(quick("genscl_mix_kd_queue", teacher=teacher, epochs=2), digits)
    assert all(torch.equal(labels, second) for labels, second in zip(queued, mixed, strict=True))


def test_optimizer_and_loss_get_what_the_configuration_says(quick, digits, monkeypatch):
    options, rates = [], []
    monkeypatch.setattr(
        methods,
        "gen_supcon_loss_parts",
        lambda *a, **o: options.append(o) or gen_supcon_loss_parts(*a, **o),
    )
    step = torch.optim.SGD.step
    monkeypatch.setattr(
        torch.optim.SGD,
        "step",
        lambda self, *a: rates.append(self.param_groups[0]["lr"]) or step(self, *a),
    )
    asked = {
        "temperature": 0.2,
        "base_temperature": 0.07,
        "similarity": "bhattacharyya",
        "weighting": "eq2",
    }
    config = quick("supcon", sgd_momentum=0.8, weight_decay=0.003, **asked)
    run = pretrain(config, digits)
    assert asked.items() <= options[0].items()
    group = run.optimizer.param_groups[0]
    assert (group["momentum"], group["weight_decay"]) == (0.8, 0.003)
    assert rates == pytest.approx([learning_rate(config, step / 3) for step in range(9)])


def test_the_finished_model_is_in_evaluation_mode(quick, digits, tmp_path):
    assert not any(pretrain(quick(), digits, tmp_path).model.training for _ in range(2))


def test_without_momentum_keys_come_from_the_encoder_itself(quick, digits, teacher):
    run = pretrain(quick("genscl_mix_kd_queue_m0", teacher=teacher, momentum=0.9), digits)
    ours, theirs = run.key_encoder.encoder.state_dict(), run.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_the_key_encoder_follows_slowly_and_its_keys_fill_the_queue(quick, digits, teacher):
    config = quick("genscl_mix_kd_queue", teacher=teacher)
    first = new_model_weights(config, digits)
    run = pretrain(config, digits)
    key, query = run.key_encoder.encoder.head[0].weight, run.model.head[0].weight
    assert 0 < (key - first).norm() < (query - first).norm()
    assert run.queue.filled == 20 and torch.allclose(
        run.queue.labels.sum(-1), torch.ones(20, 2), atol=1e-5
    )


def new_model_weights(config, digits):
    torch.manual_seed(config.seed)
    return new_model(config, digits).head[0].weight.detach().clone()


def test_dropout_resumes_exactly(quick, digits, tmp_path):
    def encoder():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 8))

    config = quick(arch="custom")
    whole = pretrain(config, digits, encoder=encoder())
    with pytest.raises(KeyboardInterrupt):
        pretrain(config, digits, tmp_path, encoder=encoder(), on_epoch=interrupt_after(2))
    assert torch.equal(
        weights(whole), weights(pretrain(config, digits, tmp_path, encoder=encoder()))
    )


@pytest.mark.parametrize("method", ["genscl_mix", "genscl_mix_kd"])  # a teacher is built, too
def test_the_global_random_state_is_left_alone(method, quick, digits, teacher):
    config = quick(method, epochs=2, teacher=teacher if METHODS[method].distils else "")
    before = torch.get_rng_state()
    pretrain(config, digits)
    assert torch.equal(before, torch.get_rng_state())


def test_cudnn_tries_its_kernels_while_training_and_only_then(quick, digits):
    def flags():
        cudnn = torch.backends.cudnn
        return cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32

    before, seen = flags(), []
    pretrain(quick(epochs=2), digits, on_epoch=lambda run: seen.append(flags()))
    assert before[0] and not before[1] and flags() == before
    assert seen == [(True, True, *before[2:])] * 2


def test_torchs_newer_names_of_precision_can_be_set(quick, digits):
    conv = torch.backends.cudnn.conv
    before, conv.fp32_precision = conv.fp32_precision, "ieee"
    try:
        assert pretrain(quick(), digits).epoch == 3
    finally:
        conv.fp32_precision = before


def test_the_loss_is_compiled_for_the_full_queue_alone(quick, digits, monkeypatch):
    """Each filling has a shape of its own, and after eight of them torch compiles no more."""
    shapes = []

    def backend(graph, inputs):
        shapes.append([tuple(t.shape) for t in inputs if isinstance(t, torch.Tensor)])
        return graph.forward

    monkeypatch.setattr(
        objective,
        "compiled",
        lambda f, _: (
            torch.compile(f, backend=backend, dynamic=False) if f is objective.batch_loss else f
        ),
    )
    run = pretrain(quick("genscl_mix_queue"), digits)
    assert run.queue.filled == 20 and (20, 16) in shapes[0]
    assert not any((12, 16) in each and (20, 16) not in each for each in shapes)


def test_training_does_not_depend_on_the_folder_and_seeds_differ(quick, digits, tmp_path):
    runs = [
        pretrain(quick(), digits),
        pretrain(quick(), digits, tmp_path),
        pretrain(quick(seed=1), digits),
    ]
    assert torch.equal(weights(runs[0]), weights(runs[1]))
    assert not torch.equal(weights(runs[0]), weights(runs[2]))


FORK = multiprocessing.get_context("fork")


def train_and_tell(config, images, folder, pipe):
    pretrain(config, images, folder, on_epoch=lambda run: pipe.send(run.epoch))


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on(quick, digits, tmp_path):
    """Kill a training process again and again; what it leaves can always be read, and the end is the same."""
    config = quick(epochs=40)
    whole = pretrain(config, digits)
    for kill in range(3):
        ours, theirs = FORK.Pipe(duplex=False)
        process = FORK.Process(target=train_and_tell, args=(config, digits, tmp_path, theirs))
        process.start()
        epoch = ours.recv()  # the first epoch of this process
        time.sleep(0.013 * kill)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert run_folder.read_checkpoint(tmp_path / "checkpoint.pt")["progress"]["epoch"] >= epoch
        assert len((tmp_path / "log.csv").read_text().splitlines()) >= epoch
    for left_over in tmp_path.glob(".*.tmp*"):
        os.utime(left_over, (0, 0))  # a minute later
    resumed = pretrain(config, digits, tmp_path)
    assert resumed.epoch == 40 and torch.equal(weights(whole), weights(resumed))
    assert not list(tmp_path.glob("*.tmp*"))


def test_kinds_of_precision(quick, digits):
    losses = [
        pretrain(quick(precision=p, epochs=2), digits).log[-1]["loss"]
        for p in ("float32", "bfloat16", "auto")
    ]
    assert losses[0] == losses[2] != losses[1]
    assert abs(losses[0] - losses[1]) < 0.1 * losses[0]


@pytest.mark.parametrize("compile, arch, device, wanted", [
    ("never", "resnet18", "cuda", False), ("always", "convnet_small", "cpu", True), ("auto", "resnet18", "cpu", False),
    ("auto", "resnet18", "cuda", True), ("auto", "convnet_medium", "cuda", False), ("auto", "resnet_small", "cuda", False),
])  # fmt: skip
def test_nothing_is_compiled_unless_it_is_wanted(
    compile, arch, device, wanted, quick, rgb, monkeypatch
):
    """By itself only what trains for long: compiling a small network takes longer than its training."""
    monkeypatch.setattr("genscl_lite.train.state.why_not_compiled", lambda device: "")
    config = quick("ce", compile=compile, arch=arch)
    assert (
        wants_compile(config, new_model(config, rgb), rgb.image_shape, torch.device(device))
        == wanted
    )
    assert (compiled(torch.sin, wanted) is torch.sin) == (not wanted)


def test_compiled_model_learns_the_same(quick, digits, monkeypatch):
    """With a backend that needs no C++ compiler."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    plain, compiled = (pretrain(quick(compile=c, epochs=2), digits) for c in ("never", "always"))
    assert torch.allclose(weights(plain), weights(compiled), atol=1e-5)
    assert plain.model.state_dict().keys() == compiled.model.state_dict().keys()


def test_the_full_scale_recipe_on_small_data(quick, rgb, teacher):
    """CIFAR's augmentation, ResNet-18, bfloat16 and the queue, one epoch."""
    config = quick(
        "genscl_mix_kd_queue",
        arch="resnet18",
        augmentation="crop_jitter",
        precision="bfloat16",
        epochs=1,
        warmup_epochs=0,
        base_temperature=0.07,
        mix_per_image=False,
    )
    run = pretrain(
        config, rgb, teacher=Teacher(nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10)))
    )
    assert run.queue.filled == 20 and 0 < run.log[-1]["loss"] < 50


def test_more_views(quick, digits, teacher):
    for method in ("genscl_mix", "simclr", "ce", "genscl_mix_kd_queue"):
        assert (
            pretrain(quick(method, views=3, teacher=teacher, queue_size=40, epochs=2), digits).epoch
            == 2
        )


def test_the_log_says_what_the_loss_is_made_of(quick, digits, tmp_path):
    run = pretrain(quick(), digits, tmp_path)
    for row in run.log:
        assert abs(row["loss"] - row["label_entropy"] - row["kl"]) < 1e-4
    header, *rows = (tmp_path / "log.csv").read_text().splitlines()
    assert (
        header
        == "epoch,loss,label_entropy,kl,chance,learning_rate,images_per_second,seconds,knn_accuracy,accuracy"
    )
    assert [row.split(",")[0] for row in rows] == ["1", "2", "3"]
    assert [row.split(",")[8] != "" for row in rows] == [False, True, True]


def test_learning_rate_follows_supcontrast(quick):
    config = quick(epochs=500, learning_rate=0.5, warmup_epochs=10)
    low = 0.5 * 1e-3

    def cosine(epoch):
        return (
            low
            + (0.5 - low)
            * (1 + torch.cos(torch.tensor(torch.pi * epoch / 500, dtype=torch.float64)).item())
            / 2
        )

    for epoch in (10, 11.5, 250, 499, 500):
        assert abs(learning_rate(config, epoch) - cosine(epoch)) < 1e-12
    for epoch in (0, 2.5, 9.9):
        assert abs(learning_rate(config, epoch) - (0.01 + (cosine(10) - 0.01) * epoch / 10)) < 1e-12
    assert learning_rate(quick(warmup_epochs=0), 0) == quick().learning_rate


def test_another_configuration_is_refused_and_nothing_overwritten(quick, digits, tmp_path):
    pretrain(quick(), digits, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(
        RunFolderError, match=r"another configuration \(temperature 0.1 there, 0.2 now\)"
    ):
        pretrain(quick(temperature=0.2), digits, tmp_path)
    with pytest.raises(RunFolderError, match="another configuration"):
        is_finished(tmp_path, quick(temperature=0.2))
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


@pytest.mark.parametrize("side", ["train", "test"])
def test_a_run_does_not_go_on_with_other_images(side, quick, digits, tmp_path):
    """A folder that changed meanwhile is split anew, and what was learned would be tested."""

    def stop(run):
        raise InterruptedError

    named = dataclasses.replace(
        digits,
        train_files=tuple(f"{i}.png" for i in range(30)),
        test_files=tuple(f"{i}.png" for i in range(30, 180)),
    )
    changes = {f"{side}_files": getattr(named, f"{side}_files")[1:] + ("new.png",)}
    with pytest.raises(InterruptedError):
        pretrain(quick(), named, tmp_path, on_epoch=stop)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    with pytest.raises(RunFolderError, match=f"began with other images to {side} with"):
        pretrain(quick(), dataclasses.replace(named, **changes), tmp_path)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before
    assert pretrain(quick(), named, tmp_path).epoch == quick().epochs


@pytest.mark.parametrize("keep", [0, 10, 0.3, 0.99])
def test_a_checkpoint_cut_short_is_named(keep, quick, digits, tmp_path):
    pretrain(quick(epochs=2), digits, tmp_path)
    path = tmp_path / "checkpoint.pt"
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if keep < 1 else keep])
    with pytest.raises(RunFolderError, match="checkpoint.pt: damaged"):
        pretrain(quick(epochs=2), digits, tmp_path)


def test_a_checkpoint_that_runs_code_is_refused(quick, digits, tmp_path):
    class Attack:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "attacked"),)

    torch.save({"progress": Attack()}, tmp_path / "checkpoint.pt")
    with pytest.raises(RunFolderError, match="damaged or no checkpoint"):
        pretrain(quick(), digits, tmp_path)
    assert not (tmp_path / "attacked").exists()


def test_a_loss_that_is_no_longer_finite_stops_the_run(quick, digits, tmp_path):
    message = r"loss: not finite in epoch 1, step 2 of 3, at learning rate 9.993e\+29; look at learning_rate"
    with pytest.raises(ValueError, match=message):
        pretrain(quick("ce", learning_rate=1e30, warmup_epochs=0, epochs=20), digits, tmp_path)
    assert not (tmp_path / "checkpoint.pt").exists()


def test_labels_that_are_not_finite_are_told_from_latents(quick, digits):
    classifier = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    nn.init.constant_(classifier[1].bias, float("nan"))
    with pytest.raises(
        ValueError, match="labels: not finite in epoch 1, step 1 of 3; look at the teacher"
    ):
        pretrain(quick("genscl_mix_kd"), digits, teacher=Teacher(classifier))


@pytest.mark.parametrize(
    "method, changes",
    [("genscl_mix_kd_queue", {"ce_weight": 0.5}), ("ce", {"ema": 0.9, "balanced": True})],
)
def test_cut_into_pieces_at_any_step_it_equals_the_whole(
    method, changes, quick, digits, teacher, tmp_path, monkeypatch
):
    """Two steps a piece, epochs of three steps: pieces end within epochs and between them."""
    config = quick(method, teacher=teacher, **changes)
    whole = pretrain(config, digits)
    monkeypatch.setattr(
        loop.time, "monotonic", functools.partial(next, iter(range(100)))
    )  # a second a step
    told = []
    for _ in range(5):
        try:
            run = pretrain(config, digits, tmp_path, deadline=loop.time.monotonic() + 3)
        except OutOfTime as stop:
            told.append(str(stop))
    assert told == [
        f"saved {so_far}; the same command goes on from there"
        for so_far in (
            "0 of 3 epochs and 2 steps",
            "1 of 3 epochs and 1 steps",
            "2 of 3 epochs",
            "2 of 3 epochs and 2 steps",
        )
    ]
    assert torch.equal(weights(whole), weights(run))
    assert [row["loss"] for row in run.log] == [row["loss"] for row in whole.log]


def test_time_can_only_be_over_where_the_run_can_be_saved(quick, digits):
    with pytest.raises(ValueError, match="deadline: needs a folder"):
        pretrain(quick(), digits, deadline=time.monotonic() + 1)


def test_too_little_memory_is_one_clear_line_and_nothing_is_lost(
    quick, digits, tmp_path, monkeypatch
):
    config, steps, make = quick(checkpoint_every=9), [], batches.Views.__call__

    def full_in_the_second_epoch(*batch):
        steps.append(batch)
        if len(steps) == 5:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return make(*batch)

    monkeypatch.setattr(batches.Views, "__call__", full_in_the_second_epoch)
    message = "out of memory on cpu with batch_size 12 and 2 views; try batch_size 6, .*; 1 of 3 epochs and 1 steps are saved"
    with pytest.raises(MemoryError, match=message):
        pretrain(config, digits, tmp_path)
    assert torch.equal(
        weights(pretrain(config, digits, tmp_path)), weights(pretrain(config, digits))
    )


def test_an_average_over_weights_is_the_result(quick, digits, tmp_path):
    plain, averaged = (pretrain(quick("ce", ema=ema), digits) for ema in (0.0, 0.8))
    assert (
        torch.equal(plain.model.head.weight, averaged.model.head.weight)
        and plain.result is plain.model
    )
    followed = MomentumEncoder(new_run(quick("ce"), digits, None, torch.device("cpu")).model, 0.8)
    assert averaged.result.head.weight.shape == followed.encoder.head.weight.shape
    assert not torch.equal(averaged.result.head.weight, averaged.model.head.weight)
    summary = finish_run(averaged, digits, tmp_path)
    logits = extract(averaged.result, digits, digits.test_images)
    assert summary["head_accuracy"] == (logits.argmax(dim=1) == digits.test_labels).double().mean()
    model = new_model(averaged.config, digits)
    load_weights(tmp_path / "model.safetensors", model)
    assert torch.equal(model.head.weight, averaged.result.head.weight)


@pytest.mark.parametrize("method", METHODS)
def test_no_step_waits_for_the_host(method, quick, rgb, teacher):
    """Nothing in an epoch turns a tensor into a number of Python, or makes a tensor whose shape depends on values."""

    class Waits(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, arguments=(), options=None):
            name = function.overloadpacket.__name__
            assert name not in (
                "_local_scalar_dense",
                "nonzero",
                "masked_select",
                "_unique2",
                "equal",
            ), name
            return function(*arguments, **(options or {}))

    config, steps = (
        quick(method, augmentation="crop_jitter", ema=0.9),
        2 if METHODS[method].queues else 1,
    )
    classifier = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10))
    run = new_run(config, rgb, None, torch.device("cpu"))
    pieces = Pieces.of(run, rgb, Teacher(classifier) if METHODS[method].distils else None)
    draws = draw_epoch(config, rgb.train_labels, (32, 32), run.generator)
    images = image_batches(config, rgb, draws.index, 0, 0)
    with Waits():
        for step in range(steps):
            loop.train_step(run, next(images), pieces, draws.step(step), 0.1)
    assert run.step == steps and torch.isfinite(run.totals).all() and run.totals[0] > 0
    assert (run.first_bad == float("inf")).all()


@pytest.mark.parametrize(
    "case, message",
    [
        ("no folder", "teacher: method genscl_kd learns from a teacher"),
        ("missing", "teacher: .*seed0 holds no finished run"),
        ("other labels", "teacher: .*labels_per_class 3, this run needs 4"),
        ("no classifier", "teacher: .*holds supcon, which is no classifier"),
    ],
)
def test_a_teacher_that_does_not_fit_is_named(case, message, quick, digits, teacher, tmp_path):
    if case == "no classifier":
        finish_run(
            pretrain(quick("supcon", epochs=2), digits, tmp_path / "seed0"),
            digits,
            tmp_path / "seed0",
        )
    folder = {"no folder": "", "other labels": teacher}.get(case, str(tmp_path))
    config = quick("genscl_kd", teacher=folder, labels_per_class=4 if case == "other labels" else 3)
    with pytest.raises(ValueError, match=message):
        load_teacher(config, digits)


def test_a_teacher_module_can_be_given(quick, digits):
    classifier = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    assert (
        pretrain(
            quick("genscl_mix_kd", label_weight=0.0, epochs=2), digits, teacher=Teacher(classifier)
        ).epoch
        == 2
    )


def test_a_given_teacher_speaks_instead_of_a_table(quick, digits):
    classifier = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    assert (
        pretrain(
            quick("genscl_kd", teacher="unread.csv", epochs=2), digits, teacher=Teacher(classifier)
        ).epoch
        == 2
    )


def test_what_does_not_fit_the_configuration_is_named(quick, digits):
    with pytest.raises(
        ValueError, match="dataset: the configuration says 'cifar10', the data set is 'digits'"
    ):
        pretrain(quick(dataset="cifar10"), digits)
    with pytest.raises(ValueError, match="teacher: method supcon learns from none"):
        pretrain(quick("supcon"), digits, teacher=Teacher(nn.Flatten()))
    with pytest.raises(
        ValueError, match="teacher_temperature: the configuration says 1.0, the teacher has 3.0"
    ):
        pretrain(quick("genscl_kd"), digits, teacher=Teacher(nn.Flatten(), 3.0))
    with pytest.raises(ValueError, match="teacher: expected 10 classes as in the data, got 64"):
        pretrain(quick("genscl_kd"), digits, teacher=Teacher(nn.Flatten()))
    own = dataclasses.replace(digits, name="custom")
    assert pretrain(quick(dataset="custom", epochs=2), own).epoch == 2


def test_custom_encoder_and_arch_go_together(quick, digits):
    with pytest.raises(ValueError, match='arch: "custom" and an encoder go together'):
        pretrain(quick(), digits, encoder=nn.Flatten())
    with pytest.raises(ValueError, match='arch: "custom" and an encoder go together'):
        pretrain(quick(arch="custom"), digits)


def own_loss(z, y, tau):
    z = F.normalize(z, dim=1)
    itself = torch.eye(len(z), dtype=torch.bool)
    s = F.normalize(y, dim=1) @ F.normalize(y, dim=1).T
    w = s.masked_fill(itself, 0) / s.masked_fill(itself, 0).sum(dim=1, keepdim=True)
    log_p = (z @ z.T / tau).masked_fill(itself, float("-inf")).log_softmax(dim=1)
    return -(w * log_p.masked_fill(itself, 0)).sum(dim=1).mean()


@pytest.mark.parametrize("method", ["supcon", "genscl_mix", "genscl_mix_kd"])
def test_a_loss_of_ones_own_trains_as_the_methods(method, quick, digits, teacher):
    config = quick(method, teacher=teacher, kd_weight=0.5)
    theirs, own = pretrain(config, digits), pretrain(config, digits, loss=own_loss)
    torch.testing.assert_close(weights(own), weights(theirs), rtol=0, atol=1e-3)
    for row, expected in zip(own.log, theirs.log, strict=True):
        assert row["loss"] == pytest.approx(expected["loss"], abs=1e-4)
        assert row["label_entropy"] == 0 and row["kl"] == row["loss"]  # its floor is not known


def test_a_loss_of_ones_own_is_called_with_latents_labels_and_temperature(quick, digits):
    seen = []

    def constant(z, y, tau):
        seen.append((tuple(z.shape), tuple(y.shape), tau, z.dtype))
        return 0 * z.sum()

    pretrain(
        quick(epochs=2, batch_size=30, temperature=0.3, precision="bfloat16"), digits, loss=constant
    )
    assert seen == 2 * [((60, 16), (60, 10), 0.3, torch.float32)]


def test_a_loss_of_ones_own_that_cannot_be_used_is_refused(quick, digits, tmp_path):
    with pytest.raises(
        ValueError,
        match="loss: the configuration keeps no account of it, so it goes without a folder",
    ):
        pretrain(quick(), digits, tmp_path, loss=own_loss)
    assert not list(tmp_path.iterdir())
    with pytest.raises(
        ValueError,
        match="loss: a function of latents and labels knows no queue; take another method",
    ):
        pretrain(
            quick("genscl_mix_kd_queue"),
            digits,
            teacher=Teacher(nn.Sequential(nn.Flatten(), nn.Linear(64, 10))),
            loss=own_loss,
        )


def test_a_row_that_sits_at_chance_is_said_once(quick, digits):
    config = quick("supcon", epochs=9, warmup_epochs=0, learning_rate=1e-30, weight_decay=0.0)
    with pytest.warns(UserWarning, match="after 5 epochs, within 2 %") as seen:
        log = pretrain(dataclasses.replace(config, temperature=100.0), digits).log
    assert sum("knows nothing" in str(one.message) for one in seen) == 1
    assert abs(log[-1]["loss"] / log[-1]["chance"] - 1) < 0.01


def test_a_row_that_learns_is_not_warned_of(quick, digits, recwarn):
    pretrain(quick("ce", epochs=12), digits)
    assert not [one for one in recwarn if "knows nothing" in str(one.message)]


@pytest.mark.parametrize("channels", [1, 2, 4])
@pytest.mark.parametrize("name", ["augmentation", "probe_augmentation"])
def test_color_changes_of_other_images_than_rgb_are_refused_before_the_first_step(
    quick, digits, channels, name
):
    data = dataclasses.replace(
        digits,
        name="custom",
        train_images=digits.train_images.expand(-1, channels, -1, -1),
        test_images=digits.test_images.expand(-1, channels, -1, -1),
        mean=digits.mean * channels,
        std=digits.std * channels,
    )
    config = quick("supcon", dataset="custom", read_out="sgd", **{name: "crop_jitter"})
    with pytest.raises(
        ValueError,
        match=f"^{name}: crop_jitter changes colors of 3 channels, the images have {channels}; "
        "choose none, affine, crop or shift$",
    ):
        pretrain(config, data, on_start=lambda *started: pytest.fail("it was started"))
