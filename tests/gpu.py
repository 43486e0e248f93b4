"""What only a GPU can show, held against the CPU. Run it where there is one: python -m tests.gpu

Each check prints its largest relative error and how much is allowed; the status is 1 if one was larger.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import dataclasses
import re
import sys
import tempfile
import time
import traceback

import torch
from torch import nn

from genscl_lite.datasets import load_dataset
from genscl_lite.distillation import Teacher
from genscl_lite.losses import GenSupConLoss
from genscl_lite.runs.finish import finish_run
from genscl_lite.runs.trained import Encoder
from genscl_lite.train import loop
from genscl_lite.train.batches import draw_epoch, image_batches
from genscl_lite.train.config import TrainConfig
from genscl_lite.train.loop import pretrain
from genscl_lite.train.methods import METHODS
from genscl_lite.train.objective import Pieces
from genscl_lite.train.state import new_run
from tests.conftest import QUICK
from tests.core.test_streaming import case, loss_and_gradients
from tests.train.test_loop import interrupt_after

GPU = torch.device("cuda")
KINDS = ("distributions", "numbers", "weights", "function")
failed = []


def error(ours, exact):
    """The largest distance of a tensor from the exact one, relative to its length."""
    pairs = [
        (a.detach().cpu().double(), b.detach().cpu().double())
        for a, b in zip(ours, exact, strict=True)
    ]
    return largest([float((a - b).norm() / b.norm().clamp(min=1e-12)) for a, b in pairs])


def largest(errors):
    """NaN where one is NaN, which Python's max may pass over."""
    return float(torch.tensor(errors, dtype=torch.float64).max())


def on_gpu(arguments, dtype):
    moved = {
        name: v.detach().to(GPU) if isinstance(v, torch.Tensor) else v
        for name, v in arguments.items()
    }
    return {name: v.to(dtype) if "latents" in name else v for name, v in moved.items()}


def backend_is_dense(backend, dtype, rows, contrasts):
    """Loss and gradients of every kind of labels; exact is float64 on the CPU, of the same rounded latents."""
    errors = []
    for kind in KINDS:
        for options in (
            {"temperature": 0.1},
            {"temperature": 0.07, "weighting": "eq2", "base_temperature": 0.07},
        ):
            inputs = case(kind, rows, contrasts, dim=128, classes=10, **options)
            inputs = {
                name: v.detach().to(dtype).double() if "latents" in name else v
                for name, v in inputs.items()
            }
            values, gradients = loss_and_gradients("dense", **inputs)
            ours, our_gradients = loss_and_gradients(backend, **on_gpu(inputs, dtype))
            errors.append(error([*ours[:1], *our_gradients], [*values[:1], *gradients]))
    return largest(errors)


def compiled_loss():
    """torch.compile of the loss as a user's own loop would have it, the temperature learning."""
    criterion = GenSupConLoss(temperature=torch.tensor(0.1, device=GPU, requires_grad=True))
    results = []
    for loss in (criterion, torch.compile(criterion)):
        z = (
            torch.randn(600, 128, generator=torch.Generator().manual_seed(0))
            .to(GPU)
            .requires_grad_()
        )
        y = torch.softmax(
            3 * torch.randn(600, 10, generator=torch.Generator().manual_seed(1)), dim=1
        ).to(GPU)
        value = loss(z, y)
        results.append([value, *torch.autograd.grad(value, [z, criterion.temperature])])
    return error(results[1], results[0])


def images():
    """Digits in color, so that they can be augmented like CIFAR's."""
    digits = load_dataset("digits", labels_per_class=3)
    train, test = (
        images.repeat(1, 3, 1, 1) for images in (digits.train_images, digits.test_images[:150])
    )
    return dataclasses.replace(
        digits,
        train_images=train,
        test_images=test,
        test_labels=digits.test_labels[:150],
        mean=digits.mean * 3,
        std=digits.std * 3,
    )


def config_of(method, **changes):
    return TrainConfig(**QUICK | {"method": method, "compile": "never"} | changes)


def teacher_of(method):
    torch.manual_seed(0)
    return (
        Teacher(nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 10)))
        if METHODS[method].distils
        else None
    )


def train(method, device=GPU, folder=None, **changes):
    return pretrain(
        config_of(method, **changes), images(), folder, device=device, teacher=teacher_of(method)
    )


def losses(run):
    return torch.tensor([row["loss"] for row in run.log])


def learns_as_on_a_cpu(method):
    """Draws are the CPU's, so the losses of the first epochs are nearly the same.

    Rounding may choose another of two nearly equal maxima: weights disturbed by 1e-7 change some by 6e-4 on a CPU.
    """
    return error([losses(train(method))], [losses(train(method, "cpu"))])


def compiled_learns_the_same(method):
    return error([losses(train(method, compile="always"))], [losses(train(method))])


def goes_on_after_an_interruption(method):
    stop = interrupt_after(2)
    with tempfile.TemporaryDirectory() as folder:
        try:
            pretrain(
                config_of(method),
                images(),
                folder,
                device=GPU,
                teacher=teacher_of(method),
                on_epoch=stop,
            )
        except KeyboardInterrupt:
            pass
        return error([losses(train(method, folder=folder))], [losses(train(method))])


def no_step_waits(method):
    """Nothing in a step makes the CPU wait for the GPU."""
    dataset = images().to(GPU)
    config = config_of(method, augmentation="crop_jitter", ema=0.9)
    run = new_run(config, dataset, None, GPU)
    teacher = teacher_of(method)
    if teacher:
        teacher.classifier.to(GPU)
    pieces = Pieces.of(run, dataset, teacher)
    draws = draw_epoch(config, dataset.train_labels.cpu(), (8, 8), run.generator).to(GPU)
    batches = image_batches(config, dataset, draws.index, 0, 0)
    loop.train_step(run, next(batches), pieces, draws.step(0), 0.1)  # makes handles
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        loop.train_step(run, next(batches), pieces, draws.step(1), 0.1)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return 0.0


def a_finished_run_says_the_same_on_a_cpu(precision):
    with tempfile.TemporaryDirectory() as folder:
        run = train("genscl_mix", folder=folder, precision=precision)
        summary = finish_run(run, images(), folder)
        assert (
            summary["device"] == torch.cuda.get_device_name(GPU)
            and summary["peak_memory_bytes"] > 0
        )
        assert summary["precision"] == ("bfloat16" if precision == "auto" else precision), summary[
            "precision"
        ]
        shown = images().test_images
        return error(
            [Encoder.load(folder, GPU).latents(shown)], [Encoder.load(folder, "cpu").latents(shown)]
        )


def too_little_memory_is_one_line():
    whole = torch.cuda.get_device_properties(GPU).total_memory
    dataset = images()
    large = dataclasses.replace(
        dataset,
        train_images=dataset.train_images.repeat(40, 1, 4, 4),
        train_labels=dataset.train_labels.repeat(40),
        test_images=dataset.test_images.repeat(1, 1, 4, 4),
    )
    torch.cuda.set_per_process_memory_fraction(1.2e9 / whole)
    try:
        pretrain(
            config_of("supcon", arch="resnet18", batch_size=1200, labels_per_class=0),
            large,
            device=GPU,
        )
    except MemoryError as problem:
        assert re.search(
            "out of memory on cuda.* with batch_size 1200 and 2 views; try batch_size 600",
            str(problem),
        ), problem
        return 0.0
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    raise AssertionError("there was memory enough")


def check(allowed, what, function, *arguments):
    started = time.perf_counter()
    try:
        found = function(*arguments)
    except Exception:
        traceback.print_exc(limit=-4)
        found = float("nan")
    right = found <= allowed
    print(
        f"{'right' if right else 'WRONG'}: {what}: {found:.1e}, allowed {allowed:.0e}"
        f" ({time.perf_counter() - started:.1f} s)",
        flush=True,
    )
    if not right:
        failed.append(what)


def main():
    half = torch.bfloat16
    torch.backends.cudnn.allow_tf32 = (
        False  # float32 to the last digit, so that differences mean something
    )
    for rows, contrasts in ((71, 0), (1000, 0), (517, 1900)):
        about = f"{rows} rows, {contrasts or 'no'} contrasts"
        for backend in ("dense", "streamed"):
            check(
                2e-5,
                f"{backend}, float32, {about}",
                backend_is_dense,
                backend,
                torch.float32,
                rows,
                contrasts,
            )
            check(
                1e-2,
                f"{backend}, bfloat16, {about}",
                backend_is_dense,
                backend,
                half,
                rows,
                contrasts,
            )
        check(1e-2, f"fused, bfloat16, {about}", backend_is_dense, "fused", half, rows, contrasts)
    check(1e-5, "compiled loss", compiled_loss)
    for method in METHODS:
        check(5e-3, f"{method} learns as on a CPU", learns_as_on_a_cpu, method)
        check(0.0, f"{method} does not wait", no_step_waits, method)
    check(
        1e-3, "float32: a finished run on a CPU", a_finished_run_says_the_same_on_a_cpu, "float32"
    )
    check(5e-2, "auto: a finished run on a CPU", a_finished_run_says_the_same_on_a_cpu, "auto")
    check(0.0, "too little memory", too_little_memory_is_one_line)
    for method in ("ce_mix", "genscl_mix_kd", "genscl_mix_kd_queue"):
        check(1e-5, f"{method} goes on", goes_on_after_an_interruption, method)
        check(5e-3, f"{method}, compiled", compiled_learns_the_same, method)
    print(
        f"\n{torch.cuda.get_device_name(GPU)}, torch {torch.__version__}: "
        + (f"wrong: {', '.join(failed)}" if failed else "all as it should be")
    )
    return bool(failed)


if __name__ == "__main__":
    assert torch.cuda.is_available(), "no GPU here"
    sys.exit(main())
