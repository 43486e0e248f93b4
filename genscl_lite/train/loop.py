"""Training: one loop for classifiers, SimCLR, SupCon and GenSCL, with checkpoints it resumes from exactly."""

import dataclasses
import math
import time
import warnings
from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from genscl_lite.datasets import Dataset, files
from genscl_lite.datasets.check import check_data, odd_things, warn_of
from genscl_lite.distillation import Teacher, distilled_cross_entropy
from genscl_lite.gradient_cache import gradient_cache
from genscl_lite.losses import LossParts
from genscl_lite.train import processes, run_folder
from genscl_lite.train.augment import check_channels
from genscl_lite.train.batches import Draws, Views, draw_epoch, image_batches
from genscl_lite.train.config import TrainConfig
from genscl_lite.train.device import default_device
from genscl_lite.train.estimate import expected_seconds
from genscl_lite.train.evaluate import classifier_accuracy, extract, knn_accuracy
from genscl_lite.train.memory import keep_freed_memory
from genscl_lite.train.methods import METHODS, LossInputs, loss_of_labels, weighted
from genscl_lite.train.precision import autocast
from genscl_lite.train.schedule import learning_rate, warmup
from genscl_lite.train.state import Run, compiled, is_classifier, new_run
from genscl_lite.train.teachers import load_teacher, read_teacher_table

NEAR_CHANCE, EPOCHS_AT_CHANCE = 0.02, 5
"""A loss within this share of chance, or above it, for so many epochs is worth a line."""


PIECES = (1000, 250, 60)
"""Images that are tested at a time; the smaller numbers are tried where memory is too small for the first."""


class OutOfTime(Exception):
    """The time given is over; all is saved, and the same call goes on. Jupyter shows it as one line."""

    def _render_traceback_(self) -> list[str]:
        return [f"{type(self).__name__}: {self}"]


def pretrain(
    config: TrainConfig,
    dataset: Dataset,
    folder: str | Path | None = None,
    *,
    encoder: nn.Module | None = None,
    teacher: Teacher | None = None,
    loss: Callable[[Tensor, Tensor, float], Tensor] | None = None,
    device: torch.device | str | None = None,
    deadline: float = math.inf,
    on_start: Callable[[Run, float], None] | None = None,
    on_epoch: Callable[[Run], None] | None = None,
) -> Run:
    """Train by ``config``; return the finished ``Run``, whose ``result`` holds encoder and head.

    With a folder, write config.json, log.csv and checkpoint.pt there, go on from the checkpoint it holds, and
    return at once when that is complete. An interrupted and resumed run equals an uninterrupted one (on a
    CPU, bit for bit). torch's global random state is left as it was found.

    Args:
        dataset: of ``load_dataset``; moved to the device and kept there.
        folder: the run's own folder, or None to write nothing.
        encoder: any module from images to (N, F), trained in place, where ``config.arch`` is "custom".
        teacher: instead of the one that ``config.teacher`` names, for methods with KD; of its temperature
            only, not of its weights, the configuration keeps account.
        loss: instead of the method's: of (M, D) latents, (M, C) labels and the temperature, returns a scalar
            (``loss_of_labels``). The configuration keeps no account of it, so it goes without a folder.
        device: default: as $GENSCL_DEVICE says, else the GPU if there is one.
        deadline: a time of ``time.monotonic()`` after which no further step begins. Needs a folder.
        on_start: called with the run before its first step, and about how many seconds it will take.
        on_epoch: called with the run after each epoch.

    Raises:
        ValueError: arguments do not fit together, or the loss is no longer finite (what was saved is kept).
        RunFolderError: the folder is in use, holds another configuration or a damaged checkpoint.
        OutOfTime: the deadline came first; the run is saved between two steps.
        MemoryError: the device's memory is too small for the batch.
    """
    device = torch.device(device or default_device())
    if device.type == "cpu":
        keep_freed_memory()
    folder = files.as_path(folder) if folder else None
    _check_fit(config, dataset, encoder, teacher, folder, deadline, loss)
    teacher = teacher or load_teacher(config, dataset)
    if teacher:
        teacher.classifier.to(device, memory_format=torch.channels_last)
    table = None if teacher else read_teacher_table(config, dataset)
    dataset = dataset.to(device)
    writes = (
        folder and processes.rank() == 0
    )  # of several processes, the first one keeps the folder
    with (
        files.locked(folder, wait=5) if writes else nullcontext(),
        _seeded_torch(config.seed, device),
    ):
        processes.wait_for_all()
        there = folder and (folder / "checkpoint.pt").exists()
        saved = run_folder.read_checkpoint(folder / "checkpoint.pt", device) if there else None
        dtype = saved and saved["progress"].get("dtype")
        try:
            run = new_run(config, dataset, encoder, device, dtype, begins=not saved)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            raise MemoryError(
                f"out of memory on {device}: {config.arch} with latent_dim {config.latent_dim} and "
                f"queue_size {config.queue_size} needs more than there is"
            ) from None
        if writes:
            run_folder.claim(folder, dataclasses.asdict(config))
        processes.wait_for_all()
        if saved:
            run.load_state_dict(saved)
            del saved  # which is as large as the run
        processes.wait_for_all()
        if processes.rank():  # dropout must not be the same on every process
            torch.manual_seed(hash((config.seed, processes.rank(), run.epoch, run.step)))
        if on_start and run.epoch < config.epochs:
            on_start(run, expected_seconds(run, len(dataset.train_labels), dataset.image_shape))
        pieces = Pieces.of(run, dataset, teacher, table, loss)
        while run.epoch < config.epochs:
            with _memory_errors_named(run, folder):
                complete = train_epoch(run, dataset, pieces, deadline)
            if not complete:
                save(run, folder)
                raise OutOfTime(f"saved {run.so_far}; the same command goes on from there")
            with _memory_errors_named(run, folder):
                finish_epoch(run, dataset)
            if folder and (run.epoch % config.checkpoint_every == 0 or run.epoch == config.epochs):
                save(run, folder)
            if on_epoch:
                on_epoch(run)
    run.model.eval()
    return run


@dataclass(frozen=True)
class Pieces:
    """What a step calls, each compiled where the configuration asks for it."""

    views: Callable
    model: Callable
    loss: Callable
    keys: Callable | None
    teacher: Teacher | None

    @classmethod
    def of(
        cls,
        run: Run,
        dataset: Dataset,
        teacher: Teacher | None,
        table: Tensor | None = None,
        loss: Callable | None = None,
    ) -> "Pieces":
        """Take a teacher to ask, or a table of the (all, C) distributions that one gave beforehand.

        A ``loss`` of the caller's own takes the place of the method's.
        """
        if teacher:
            teacher = Teacher(
                compiled(teacher.classifier, run.compiles), teacher.temperature, validate=False
            )
        return cls(
            views=compiled(Views.of(run.config, dataset, table, bool(loss)), run.compiles),
            model=compiled(processes.parallel(run.model, run.device), run.compiles),
            loss=partial(batch_loss, loss=loss_of_labels(loss))
            if loss
            else compiled(batch_loss, run.compiles and processes.processes() == 1),
            keys=run.key_encoder and compiled(run.key_encoder, run.compiles),
            teacher=teacher,
        )


def train_epoch(run: Run, dataset: Dataset, pieces: Pieces, deadline: float = math.inf) -> bool:
    """Do the steps of an epoch that are left; return False if the deadline came before the last of them."""
    config, started, cpu_started = run.config, time.perf_counter(), time.process_time()
    run.drawn_from = run.generator.get_state()
    draws = draw_epoch(config, dataset.train_labels.cpu(), dataset.image_shape[1:], run.generator)
    images, steps = (
        image_batches(config, dataset, draws.index, run.epoch, run.step),
        len(draws.index),
    )
    draws = draws.to(run.device)
    if run.step == 0:
        run.clear_totals()
    run.model.train()
    while run.step < steps:
        if deadline < math.inf and processes.any_process(time.monotonic() >= deadline, run.device):
            break
        rate = learning_rate(config, run.epoch + run.step / steps)
        train_step(run, next(images), pieces, draws.step(run.step), rate)
    _check_finite(run, steps)  # waits for the device
    if run.device.type == "cuda":
        run.peak_bytes = max(run.peak_bytes, torch.cuda.max_memory_allocated(run.device))
    run.epoch_seconds += time.perf_counter() - started
    run.cpu_seconds += time.process_time() - cpu_started
    return run.step == steps


def train_step(run: Run, images: Tensor, pieces: Pieces, draws: Draws, rate: float) -> None:
    """Learn from one batch at one learning rate. Nothing waits for a GPU: what is logged is summed there.

    N images (of several processes, this one's), M = V*N rows, T = 2 targets with a teacher, else 1.
    """
    config = run.config
    for group in run.optimizer.param_groups:
        group["lr"] = rate * group["lr_scale"]

    whole_batch = pieces.views(
        images, draws
    )  # augmented and mixed: (M, channels, H, W) and (M, T, C); or, where nothing is mixed, (M,)
    views, targets = (processes.keep_own_part(rows, config.views) for rows in whole_batch)
    index = draws.index[processes.own_part(len(draws.index))]  # (N,): which image a row shows

    with autocast(run.dtype, run.device):
        if pieces.teacher:  # it sees the very images that the student sees
            taught = _teacher_labels(pieces.teacher, views, targets.shape[2])  # (M, C)
            targets = torch.cat([targets, taught[:, None]], dim=1)  # (M, 2, C)
        if run.queue:
            parts, keys, key_targets = queue_loss(run, pieces, views, targets, index)
        elif not config.micro_batch:
            outputs = pieces.model(views).float()  # (M, D) latents or (M, C) logits
            parts = pieces.loss(config, outputs, targets, index)

    run.optimizer.zero_grad(set_to_none=True)
    if config.micro_batch:
        parts = backward_in_pieces(run, pieces, views, targets, index)
    else:
        parts.loss.backward()
    run.optimizer.step()
    if run.queue:
        run.key_encoder.update(run.model)
        run.queue.enqueue(keys, key_targets)
    if run.average:
        run.average.update(run.model)

    logged = (parts.loss.detach(), parts.entropy, parts.kl, parts.chance)
    run.totals += torch.stack([torch.as_tensor(part, device=run.device) for part in logged])
    finite = torch.isfinite(torch.stack([parts.loss.detach(), targets.sum()]))
    run.first_bad = torch.minimum(run.first_bad, torch.where(finite, math.inf, float(run.step)))
    run.step += 1


def backward_in_pieces(
    run: Run, pieces: Pieces, views: Tensor, targets: Tensor, index: Tensor
) -> LossParts:
    """Compute loss and gradients of the whole batch with the memory of ``micro_batch`` views."""
    parts = []

    def encode(some: Tensor) -> Tensor:
        with autocast(run.dtype, run.device):
            return pieces.model(some).float()

    def loss(outputs: Tensor) -> Tensor:
        with autocast(run.dtype, run.device):
            parts.append(pieces.loss(run.config, outputs, targets, index))
        return parts[0].loss

    gradient_cache(encode, views, loss, run.config.micro_batch)
    return parts[0]


def queue_loss(
    run: Run, pieces: Pieces, views: Tensor, targets: Tensor, index: Tensor
) -> tuple[LossParts, Tensor, Tensor]:
    """Contrast queries with the keys of the other views and with the queue, view by view.

    Queries are the first view of each image or, if the configuration says so, all V in turn.

    Returns:
        The mean of the views' losses, and (K, D) keys with their (K, T, C) targets for the queue.
    """
    config, n = run.config, len(index)
    turns = range(config.views if config.queries == "all" else 1)
    latents = pieces.model(views[: len(turns) * n]).float().split(n)
    seen = 0 if len(turns) > 1 else 1  # the first view that becomes a key
    keys = pieces.keys(views[seen * n :]).float()
    keys = processes.gather_views(keys, config.views - seen)
    key_targets = processes.gather_views(targets[seen * n :], config.views - seen)
    whole, queued, parts = len(keys) // (config.views - seen), run.queue.contents(), []
    for view in turns:
        others = torch.arange(len(keys), device=keys.device) // whole + seen != view
        contrasts = (keys[others], key_targets[others]), queued
        own = targets[view * n : (view + 1) * n]
        parts.append(pieces.loss(config, latents[view], own, index, *contrasts))
    mean = LossParts(*(torch.stack(part).float().mean(dim=0) for part in zip(*parts, strict=True)))
    return mean, keys, key_targets


def batch_loss(
    config: TrainConfig,
    outputs: Tensor,
    targets: Tensor,
    index: Tensor,
    *contrasts: tuple[Tensor, Tensor],
    loss: Callable | None = None,
) -> LossParts:
    """Compute the method's loss of (M, D) latents, (M, D + C) latents and joint logits, or (M, C) logits.

    ``targets`` are (M, T, C), or (M,) class numbers; ``index`` (N,) says which image a row shows, view by view. ``contrasts`` are
    pairs of latents (K, D) and targets (K, T, C) or (K,); where there are none, the batch is its own contrast.
    """
    method = METHODS[config.method]
    weights = [config.label_weight, config.kd_weight] if method.distils else [1.0]
    latents, logits = outputs[:, : config.latent_dim], outputs[:, config.latent_dim :]
    images = index.repeat(len(outputs) // len(index))  # (M,)
    contrast = map(torch.cat, zip(*contrasts, strict=True)) if contrasts else (None, None)
    parts = (loss or method.loss)(
        LossInputs(outputs if method.head == "classifier" else latents, targets, images, *contrast),
        weights,
        temperature=config.temperature,
        similarity=config.similarity,
        weighting=config.weighting,
        base_temperature=config.base_temperature or None,
        validate=False,
        gather_distributed=processes.processes() > 1,  # keys are gathered already
    )
    if config.ce_weight and method.head == "projection":
        joint = distilled_cross_entropy(logits, weighted(targets, weights))
        parts = LossParts(
            *(a + config.ce_weight * b for a, b in zip(parts, joint, strict=True)),
        )
    return parts


def _teacher_labels(teacher: Teacher, images: Tensor, classes: int) -> Tensor:
    labels = teacher(images)  # (M, C)
    if labels.shape[1] != classes:
        raise ValueError(
            f"teacher: expected {classes} classes as in the data, got {labels.shape[1]}"
        )
    return labels


def _check_finite(run: Run, steps: int) -> None:
    """Raise ValueError, naming the step and what to look at, if a loss or label was not finite."""
    processes.reduce_epoch(run.totals, run.first_bad)
    loss, labels = run.first_bad.tolist()
    if math.isinf(min(loss, labels)):
        return
    where = f"not finite in epoch {run.epoch + 1}, step {int(min(loss, labels)) + 1} of {steps}"
    if labels <= loss:
        raise ValueError(
            f"labels: {where}; look at the teacher, which gives NaN, or at the label "
            "distributions of the data"
        )
    rate = learning_rate(run.config, run.epoch + loss / steps)
    raise ValueError(
        f"loss: {where}, at learning rate {rate:.4g}; look at learning_rate (lower it, warm up "
        "for longer), temperature (raise it) and precision (float32)"
    )


def finish_epoch(run: Run, dataset: Dataset) -> None:
    """Add a row to the log, with accuracies where they are due, and be ready for the next epoch."""
    config, started = run.config, time.perf_counter()
    loss, entropy, kl, chance = (run.totals / run.step).tolist()
    last_rate = learning_rate(config, run.epoch + (run.step - 1) / run.step)
    epoch = run.epoch + 1
    due = epoch % config.eval_every == 0 or epoch == config.epochs
    knn, accuracy = (
        _test_accuracies(run, dataset) if due and processes.rank() == 0 else (None, None)
    )
    run.epoch = epoch  # not before: where memory is short, the run is saved before its accuracies
    run.seconds += run.epoch_seconds + time.perf_counter() - started
    run.log.append(
        {
            "epoch": run.epoch,
            "loss": loss,
            "label_entropy": entropy,
            "kl": kl,
            "chance": chance,
            "learning_rate": last_rate,
            "images_per_second": len(dataset.train_labels) / run.epoch_seconds,
            "seconds": run.seconds,
            "knn_accuracy": knn,
            "accuracy": accuracy,
        }
    )
    if _sits_at_chance(run.log[math.ceil(warmup(config)) :]):
        warnings.warn(
            f"loss: {loss:.3f} after {run.epoch} epochs, within {100 * NEAR_CHANCE:.0f} % of the "
            f"{chance:.3f} of a network that knows nothing; look at learning_rate, at warm-up, at "
            "temperature and, with a queue, at key_statistics (batch) and momentum (lower)",
            stacklevel=2,
        )
    run.step, run.epoch_seconds, run.drawn_from = 0, 0.0, None


def _sits_at_chance(log: list[dict]) -> bool:
    """Tell whether the fifth epoch in a row has just ended at chance; so it is said once a stay.

    ``log`` begins behind the warm-up, in which little is learned anyway.
    """
    near = [row["loss"] > (1 - NEAR_CHANCE) * row["chance"] for row in log[-EPOCHS_AT_CHANCE - 1 :]]
    return near[-EPOCHS_AT_CHANCE:] == [True] * EPOCHS_AT_CHANCE and near[:-EPOCHS_AT_CHANCE] != [
        True
    ]


def _test_accuracies(run: Run, dataset: Dataset) -> tuple[float, float | None]:
    """Return the kNN accuracy of the features and, for a classifier, its own accuracy, on the test images."""
    for chunk in PIECES:
        try:
            return _accuracies_in(run, dataset, chunk)
        except RuntimeError as error:
            if not out_of_memory(error) or chunk == PIECES[-1]:
                raise
        if run.device.type == "cuda":
            torch.cuda.empty_cache()
        warnings.warn(
            f"memory: too little on {run.device} to test {chunk} images at a time; fewer are tried",
            stacklevel=3,
        )


def _accuracies_in(run: Run, dataset: Dataset, chunk: int) -> tuple[float, float | None]:
    """Return what ``_test_accuracies`` does, with so many images at a time."""
    model, labels, k = run.result, dataset.test_labels, run.config.knn_neighbours
    train, test = (
        extract(model.encoder, dataset, images, chunk, dtype=run.dtype)
        for images in (dataset.train_images, dataset.test_images)
    )
    knn = knn_accuracy(train, dataset.train_labels, test, labels, k, chunk=chunk)
    return knn, classifier_accuracy(model.head(test), labels) if is_classifier(run.config) else None


def save(run: Run, folder: str | Path) -> None:
    """Write log and checkpoint; of several processes, the first one does."""
    if processes.rank() == 0:
        if run.log:
            run_folder.write_log(Path(folder) / "log.csv", run.log)
        run_folder.write_checkpoint(Path(folder) / "checkpoint.pt", run.state_dict())
    processes.wait_for_all()


@contextmanager
def _seeded_torch(seed: int, device: torch.device):
    """Seed torch for what takes no generator (weights, dropout) and let cuDNN try its kernels; undo both."""
    cuda, cudnn = device.type == "cuda", torch.backends.cudnn
    flags = {name: getattr(cudnn, name) for name in ("enabled", "deterministic", "allow_tf32")}
    cudnn_autotune = cudnn.flags(benchmark=True, **flags)
    with torch.random.fork_rng(devices=[device] if cuda else []), cudnn_autotune:
        if cuda:
            torch.cuda.reset_peak_memory_stats(device)
        torch.manual_seed(seed)
        yield


def out_of_memory(error: RuntimeError) -> bool:
    """Tell whether an error says that a device's memory, or the CPU's, is too small."""
    on_cpu = "can't allocate memory" in str(error)
    return isinstance(error, torch.OutOfMemoryError) or on_cpu


@contextmanager
def _memory_errors_named(run: Run, folder: str | Path | None):
    """Save what was trained and say which batch to try when the device's memory is too small."""
    try:
        yield
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        saved = ""
        if folder and (run.epoch or run.step):
            save(run, folder)
            saved = f"; {run.so_far} are saved"
        batch, views = run.config.batch_size, run.config.views
        raise MemoryError(
            f"out of memory on {run.device} with batch_size {batch} and {views} views; "
            f"try batch_size {max(1, batch // 2)}, in a folder of its own{saved}"
        ) from None


def _check_fit(
    config: TrainConfig,
    dataset: Dataset,
    encoder: nn.Module | None,
    teacher: Teacher | None,
    folder: str | Path | None,
    deadline: float,
    loss: Callable | None,
) -> None:
    """Raise ValueError where the configuration says another thing than the arguments."""
    check_data(dataset)
    check_channels("augmentation", config.augmentation, dataset.image_shape[0])
    if config.read_out == "sgd" and not is_classifier(config):
        check_channels("probe_augmentation", config.probe_augmentation, dataset.image_shape[0])
    processes.own_part(min(config.batch_size, len(dataset.train_labels)))
    if folder is None and deadline < math.inf:
        raise ValueError("deadline: needs a folder to save the run in")
    if loss and folder is not None:
        raise ValueError(
            "loss: the configuration keeps no account of it, so it goes without a folder"
        )
    if (encoder is not None) != (config.arch == "custom"):
        given = "with" if encoder is not None else "without"
        raise ValueError(
            f'arch: "custom" and an encoder go together, got arch={config.arch!r} {given} one'
        )
    if dataset.name != config.dataset:
        raise ValueError(
            f"dataset: the configuration says {config.dataset!r}, the data set is {dataset.name!r}"
        )
    if teacher is not None and not METHODS[config.method].distils:
        raise ValueError(f"teacher: method {config.method} learns from none; take one with KD")
    if teacher is not None and teacher.temperature != config.teacher_temperature:
        raise ValueError(
            f"teacher_temperature: the configuration says {config.teacher_temperature}, "
            f"the teacher has {teacher.temperature}"
        )
    if processes.rank() == 0:
        warn_of(dataset.name, odd_things(dataset))
