"""Training: one loop for classifiers, SimCLR, SupCon and GenSCL, with checkpoints it resumes from exactly."""

import math
import time
import warnings
from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from genscl_lite.datasets import Dataset, files
from genscl_lite.distillation import Teacher
from genscl_lite.train import memory, processes, run_folder
from genscl_lite.train.batches import Draws, draw_epoch, image_batches
from genscl_lite.train.checks import check_fit
from genscl_lite.train.config import TrainConfig
from genscl_lite.train.device import default_device
from genscl_lite.train.estimate import expected_seconds
from genscl_lite.train.evaluate import classifier_accuracy, extract, knn_accuracy
from genscl_lite.train.methods import METHODS
from genscl_lite.train.objective import Pieces, backward_in_pieces, queue_loss, teacher_labels
from genscl_lite.train.precision import autocast
from genscl_lite.train.schedule import learning_rate, warmup
from genscl_lite.train.state import Run, new_run
from genscl_lite.train.teachers import load_teacher

NEAR_CHANCE, EPOCHS_AT_CHANCE = 0.02, 5
"""A loss within this fraction of chance, or above it, for this many epochs is reported."""


class AtChance(UserWarning):
    """The loss has been at chance for some epochs."""


class OutOfTime(Exception):
    """Deadline reached; the run is saved, and the same call resumes it. Jupyter shows it as one line."""

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
    """Train as ``config`` says; return the finished ``Run``, whose ``result`` holds encoder and head.

    With a folder, write config.json, log.csv and checkpoint.pt there; resume from a checkpoint, and return at
    once if it is that of a finished run. An interrupted and resumed run equals an uninterrupted one (on a
    CPU, bit for bit; dropout in several processes is drawn anew). torch's global random state is left as it
    was found.

    Args:
        dataset: of ``load_dataset``; moved to the device and kept there.
        folder: the run's own folder, or None to write nothing.
        encoder: for ``arch="custom"``: any module from images to (N, F), trained in place.
        teacher: replaces the one that ``config.teacher`` names, for methods with KD. Only its temperature is
            recorded in the configuration.
        loss: replaces the method's: a function of (M, D) latents, (M, C) labels and the temperature that
            returns a scalar (``loss_of_labels``). The configuration does not record it, so no folder is
            allowed.
        device: default: $GENSCL_DEVICE, else the GPU if there is one.
        deadline: a time of ``time.monotonic()`` after which no further step begins. Needs a folder.
        on_start: called with the run before its first step, and its estimated seconds.
        on_epoch: called with the run after each epoch.

    Raises:
        ValueError: arguments contradict each other, or the loss is no longer finite (checkpoints are kept).
        RunFolderError: the folder is in use, or holds another configuration or a damaged checkpoint.
        OutOfTime: deadline reached; the run is saved between two steps.
        MemoryError: the device's memory is too small for the batch.
    """
    device = torch.device(device or default_device())
    if device.type == "cpu":
        memory.keep_freed_memory()
    folder = files.as_path(folder) if folder else None
    check_fit(config, dataset, folder, encoder, teacher, loss, deadline)
    with torch.random.fork_rng(devices=[]):
        teacher = teacher or load_teacher(config, dataset)
    if isinstance(teacher, Teacher):
        teacher.classifier.to(device, memory_format=torch.channels_last)
    dataset = dataset.to(device)
    writes = folder and processes.rank() == 0  # the first process keeps the folder
    with (
        files.locked(folder, wait=5) if writes else nullcontext(),
        _seeded_torch(config.seed, device),
    ):
        processes.wait_for_all()
        there = folder and (folder / "checkpoint.pt").exists()
        saved = run_folder.read_checkpoint(folder / "checkpoint.pt", device) if there else None
        dtype = saved and saved["progress"]["dtype"]
        with memory.shortage_named(device, partial(memory.model_too_large, config)):
            run = new_run(config, dataset, encoder, device, dtype, begins=not saved)
        if writes:
            run_folder.claim(folder, config)
        processes.wait_for_all()
        if saved:
            run_folder.check_sides(folder, saved.get("sides", []), run.sides)
            run.load_state_dict(saved)
            del saved  # which is as large as the run
        if processes.rank():  # dropout must not be the same on every process
            torch.manual_seed(hash((config.seed, processes.rank(), run.epoch, run.step)))
        if on_start and run.epoch < config.epochs:
            on_start(run, expected_seconds(run, len(dataset.train_labels), dataset.image_shape))
        pieces = Pieces.of(run, dataset, teacher, loss)
        saving = folder and partial(save, run, folder)
        with memory.shortage_named(device, partial(memory.batch_too_large, run, saving)):
            while run.epoch < config.epochs:
                if not train_epoch(run, dataset, pieces, deadline):
                    save(run, folder)
                    raise OutOfTime(f"saved {run.progress}; the same command goes on from there")
                finish_epoch(run, dataset)
                due = run.epoch % config.checkpoint_every == 0 or run.epoch == config.epochs
                if folder and due:
                    save(run, folder)
                if on_epoch:
                    on_epoch(run)
    run.model.eval()
    return run


def train_epoch(run: Run, dataset: Dataset, pieces: Pieces, deadline: float = math.inf) -> bool:
    """Do the remaining steps of an epoch; return False if the deadline came before the last of them."""
    config, started, cpu_started = run.config, time.perf_counter(), time.process_time()
    run.drawn_from = run.generator.get_state()
    draws = draw_epoch(config, dataset.train_labels.cpu(), dataset.image_shape[1:], run.generator)
    images = image_batches(config, dataset, draws.index, run.epoch, run.step)
    draws, steps = draws.to(run.device), len(draws.index)
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
    """Learn from one batch. Nothing waits for a GPU: what is logged is summed there.

    N images (with several processes, those of this one), M = V*N rows, T = 2 targets with a teacher, else 1.
    """
    config = run.config
    for group in run.optimizer.param_groups:
        group["lr"] = rate * group["lr_scale"]

    # augmented and mixed: (M, channels, H, W) and (M, T, C); or, where nothing is mixed, (M,)
    whole_batch = pieces.views(images, draws)
    views, targets = (processes.keep_own_part(rows, config.views) for rows in whole_batch)
    index = draws.index[processes.own_part(len(draws.index))]  # (N,): which image a row shows

    with autocast(run.dtype, run.device):
        if pieces.teacher:  # it sees the very images that the student sees
            taught = teacher_labels(pieces.teacher, views, targets.shape[2])  # (M, C)
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


def _check_finite(run: Run, steps: int) -> None:
    """Raise ValueError if a loss or label was not finite, with the step and what to look at."""
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
    """Add a row to the log, with accuracies if they are due, and prepare the next epoch."""
    config, started = run.config, time.perf_counter()
    loss, entropy, kl, chance = (run.totals / run.step).tolist()
    last_rate = learning_rate(config, run.epoch + (run.step - 1) / run.step)
    epoch = run.epoch + 1
    due = epoch % config.eval_every == 0 or epoch == config.epochs
    knn = accuracy = None
    if due and processes.rank() == 0:
        knn, accuracy = _test_accuracies(run, dataset)
    run.epoch = epoch  # not before: if memory is short, the run is saved before its accuracies
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
    if processes.rank() == 0 and (note := chance_note(run)):
        warnings.warn(note, AtChance, stacklevel=2)
    run.step, run.epoch_seconds, run.drawn_from = 0, 0.0, None


def chance_note(run: Run) -> str:
    """Say that the loss sits at chance, in exactly the fifth epoch of a stay, so that each is told once; else "".

    Epochs of the warm-up, in which little is learned anyway, do not count.
    """
    log = run.log[math.ceil(warmup(run.config)) :]
    near = [row["loss"] > (1 - NEAR_CHANCE) * row["chance"] for row in log[-EPOCHS_AT_CHANCE - 1 :]]
    if sum(near[-EPOCHS_AT_CHANCE:]) < EPOCHS_AT_CHANCE or any(near[:-EPOCHS_AT_CHANCE]):
        return ""
    return (
        f"loss: {log[-1]['loss']:.3f} after {run.epoch} epochs, within {100 * NEAR_CHANCE:.0f} % of the "
        f"{log[-1]['chance']:.3f} of a network that knows nothing; look at learning_rate, at warm-up, at "
        "temperature and, with a queue, at key_statistics (batch) and momentum (lower)"
    )


def _test_accuracies(run: Run, dataset: Dataset) -> tuple[float, float | None]:
    """Return the kNN accuracy of the features and, for a classifier, its own accuracy, on the test images."""
    model, labels, k = run.result, dataset.test_labels, run.config.knn_neighbors
    train, test = (
        extract(model.encoder, dataset, images, dtype=run.dtype)
        for images in (dataset.train_images, dataset.test_images)
    )

    def vote(images_at_a_time: int) -> float:
        return knn_accuracy(train, dataset.train_labels, test, labels, k, chunk=images_at_a_time)

    classifies = METHODS[run.config.method].classifies
    own = classifier_accuracy(model.head(test), labels) if classifies else None
    return memory.in_pieces(vote, run.device), own


def save(run: Run, folder: str | Path) -> None:
    """Write log and checkpoint, in the first of several processes."""
    if processes.rank() == 0:
        if run.log:
            run_folder.write_log(Path(folder) / "log.csv", run.log)
        run_folder.write_checkpoint(Path(folder) / "checkpoint.pt", run.state_dict())
    processes.wait_for_all()


@contextmanager
def _seeded_torch(seed: int, device: torch.device):
    """Seed torch for what takes no generator (weights, dropout) and let cuDNN try its kernels; undo both after."""
    cuda, cudnn = device.type == "cuda", torch.backends.cudnn
    benchmark, cudnn.benchmark = cudnn.benchmark, True
    try:
        with torch.random.fork_rng(devices=[device] if cuda else []):
            if cuda:
                torch.cuda.reset_peak_memory_stats(device)
            torch.manual_seed(seed)
            yield
    finally:
        cudnn.benchmark = benchmark
