"""Training: one loop for a classifier, SimCLR, SupCon and GenSCL, with checkpoints it resumes from exactly."""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from genscl_lite.datasets import Dataset, files
from genscl_lite.distillation import Teacher, add_parts, distilled_cross_entropy, distilled_loss
from genscl_lite.losses import LossParts, gen_supcon_loss
from genscl_lite.train import processes, run_folder
from genscl_lite.train.augment import build_augment
from genscl_lite.train.batches import Draws, Views, compiled, draw_epoch
from genscl_lite.train.config import TrainConfig
from genscl_lite.train.evaluate import classifier_accuracy, extract, knn_accuracy
from genscl_lite.train.methods import METHODS
from genscl_lite.train.state import Run, is_classifier, new_run
from genscl_lite.train.teachers import load_teacher, read_teacher


class OutOfTime(Exception):
    """The time given is over; all is saved, and the same call goes on from there. Jupyter shows it as one line."""

    def _render_traceback_(self) -> list[str]:
        return [f"{type(self).__name__}: {self}"]


def pretrain(
    config: TrainConfig,
    dataset: Dataset,
    folder: str | Path | None = None,
    *,
    encoder: nn.Module | None = None,
    teacher: Teacher | None = None,
    device: torch.device | str | None = None,
    deadline: float = math.inf,
    on_epoch: Callable[[Run], None] | None = None,
) -> Run:
    """Train by ``config``; the latents' encoder for contrastive methods, a classifier for the rows named CE.

    With a folder, write config.json, log.csv and checkpoint.pt there, go on from the checkpoint it holds, and return at
    once when that is complete. An interrupted and resumed run equals an uninterrupted one (on a CPU, bit for bit).
    torch's global random state is left as it was found.

    Args:
        config: what to do.
        dataset: of ``load_dataset``; moved to the device and kept there.
        folder: the run's own folder, or None to write nothing.
        encoder: any module from images to (N, F), instead of ``config.arch`` (then "custom"); trained in place.
        teacher: instead of the one that ``config.teacher`` names, for methods with KD; of its temperature
            only, not of its weights, the configuration keeps account.
        device: default: the GPU if there is one.
        deadline: a time of ``time.monotonic()`` after which no further step begins. Needs a folder.
        on_epoch: called with the run after each epoch.

    Returns:
        The finished ``Run``; ``run.result.encoder`` gives features.

    Raises:
        ValueError: arguments do not fit together, or the loss is no longer finite (what was saved before is kept).
        RunFolderError: the folder is in use, holds another configuration or a damaged checkpoint.
        OutOfTime: the deadline came first; the run is saved between two steps.
        MemoryError: the device's memory is too small for the batch.
    """
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    _check_fit(config, dataset, encoder, teacher, folder, deadline)
    teacher = teacher or load_teacher(config, dataset)
    if teacher:
        teacher.classifier.to(device, memory_format=torch.channels_last)
    spoken = None if teacher else read_teacher(config, dataset)
    dataset = dataset.to(device)
    alone = folder and processes.rank() == 0  # of several processes, the first one keeps the folder
    with files.locked(folder, wait=5) if alone else nullcontext(), _own_state(config.seed, device):
        run = new_run(config, dataset, encoder, device)
        if alone:
            run_folder.claim(folder, dataclasses.asdict(config))
        processes.wait_for_all()
        if folder and (Path(folder) / "checkpoint.pt").exists():
            run.load_state_dict(run_folder.read_checkpoint(Path(folder) / "checkpoint.pt", device))
        processes.wait_for_all()
        if processes.rank():  # dropout must not be the same on every process
            torch.manual_seed(hash((config.seed, processes.rank(), run.epoch, run.step)))
        pieces = Pieces.of(run, dataset, teacher, spoken)
        while run.epoch < config.epochs:
            with _memory_errors_named(run, folder):
                whole = train_epoch(run, dataset, pieces, deadline)
            if not whole:
                save(run, folder)
                raise OutOfTime(f"saved {run_so_far(run)}; the same command goes on from there")
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
    keys: Callable | None = None
    teacher: Teacher | None = None

    @classmethod
    def of(cls, run: Run, dataset: Dataset, teacher: Teacher | None = None, spoken: Tensor | None = None) -> "Pieces":
        """Take a teacher to ask, or (all, C) distributions that one has ``spoken`` beforehand."""
        wanted = compiles(run.config, run.device)
        return cls(
            views=compiled(Views.of(run.config, dataset, None if spoken is None else spoken.to(run.device)), wanted),
            model=compiled(processes.parallel(run.model, run.device), wanted),
            loss=compiled(contrast_with_queue if run.queue else contrast_in_batch, wanted and processes.processes() == 1),
            keys=compiled(run.key_encoder, wanted) if run.key_encoder else None,
            teacher=Teacher(compiled(teacher.classifier, wanted), teacher.temperature, validate=False) if teacher else None,
        )


def train_epoch(run: Run, dataset: Dataset, pieces: Pieces, deadline: float = math.inf) -> bool:
    """Do the steps of an epoch that are left; return False if the deadline came before the last of them."""
    config, started = run.config, time.perf_counter()
    run.drawn_from = run.generator.get_state()
    everything = draw_epoch(config, dataset.train_labels.cpu(), dataset.image_shape[1:], run.generator)
    images, draws, steps = image_batches(run, dataset, everything.index), everything.to(run.device), len(everything.index)
    if run.step == 0:
        run.sums = torch.tensor([0.0, 0.0, 0.0, math.inf, math.inf], device=run.device)
    run.model.train()
    while run.step < steps:
        if deadline < math.inf and processes.any_process(time.monotonic() >= deadline, run.device):
            break
        train_step(run, next(images), pieces, draws.step(run.step), learning_rate(config, run.epoch + run.step / steps))
    check_finite(run, steps)  # waits for the device
    if run.device.type == "cuda":
        run.peak_bytes = max(run.peak_bytes, torch.cuda.max_memory_allocated(run.device))
    run.epoch_seconds += time.perf_counter() - started
    return run.step == steps


def image_batches(run: Run, dataset: Dataset, index: Tensor) -> Iterator[Tensor]:
    """Give the images of the steps that are left: (N, ...) out of memory, or (V, N, ...) cropped from files for each view."""
    config = run.config
    if isinstance(dataset.train_images, Tensor):
        return (dataset.train_images[batch] for batch in index[run.step :].to(run.device))
    augment = build_augment(config.augmentation)
    crops = dataset.train_images.random_crops(
        index, seed=config.seed, epoch=run.epoch, first_step=run.step, views=config.views, scale=augment.crop_scale,
        ratio=augment.crop_ratio, rows=processes.own_rows(index.shape[1]),
    )  # fmt: skip
    return (processes.gather_views(own.flatten(0, 1), config.views).unflatten(0, (config.views, -1)) for own in crops)


def train_step(run: Run, images: Tensor, pieces: Pieces, draws: Draws, rate: float) -> None:
    """Learn from one batch at one learning rate. Nothing here waits for a GPU: what is logged is summed there."""
    config, method = run.config, METHODS[run.config.method]
    for group in run.optimizer.param_groups:
        group["lr"] = rate
    images, targets = (processes.keep_own(rows, config.views) for rows in pieces.views(images, draws))
    index, queries = draws.index[processes.own_rows(len(draws.index))], len(images) // config.views

    with autocast(config, run.device):
        if pieces.teacher:
            targets = torch.cat([targets, teacher_labels(pieces.teacher, images, targets.shape[2])[:, None]], dim=1)
        if method.queues:  # the first views are queries, the others keys
            outputs, keys = pieces.model(images[:queries]).float(), pieces.keys(images[queries:]).float()
            keys, key_targets = (processes.gather_views(rows, config.views - 1) for rows in (keys, targets[queries:]))
            parts = pieces.loss(config, outputs, targets[:queries], keys, key_targets, *run.queue.contents())
        else:
            parts = pieces.loss(config, pieces.model(images).float(), targets, index)

    run.optimizer.zero_grad(set_to_none=True)
    parts.loss.backward()
    run.optimizer.step()
    if method.queues:
        run.key_encoder.update(run.model)
        run.queue.enqueue(keys, key_targets)
    if run.average:
        run.average.update(run.model)
    run.sums[:3] += torch.stack(parts[:3]).detach()
    finite = torch.isfinite(torch.stack([parts.loss.detach(), targets.sum()]))
    run.sums[3:] = torch.minimum(run.sums[3:], torch.where(finite, math.inf, float(run.step)))
    run.step += 1


def finish_epoch(run: Run, dataset: Dataset) -> None:
    """Add a row to the log, with accuracies where they are due, and be ready for the next epoch."""
    config, started = run.config, time.perf_counter()
    loss, entropy, kl = (run.sums[:3] / run.step).tolist()
    last_rate = learning_rate(config, run.epoch + (run.step - 1) / run.step)
    run.epoch += 1
    due = run.epoch % config.eval_every == 0 or run.epoch == config.epochs
    accuracies = evaluate(run, dataset) if due and processes.rank() == 0 else (None, None)
    run.seconds += run.epoch_seconds + time.perf_counter() - started
    run.log.append({
        "epoch": run.epoch, "loss": loss, "label_entropy": entropy, "kl": kl, "learning_rate": last_rate,
        "images_per_second": len(dataset.train_labels) / run.epoch_seconds, "seconds": run.seconds,
        "knn_accuracy": accuracies[0], "accuracy": accuracies[1],
    })  # fmt: skip
    run.step, run.epoch_seconds, run.drawn_from = 0, 0.0, None


def save(run: Run, folder: str | Path) -> None:
    """Write log and checkpoint; of several processes, the first one does."""
    if processes.rank() == 0:
        if run.log:
            run_folder.write_log(Path(folder) / "log.csv", run.log)
        run_folder.write_checkpoint(Path(folder) / "checkpoint.pt", run.state_dict())
    processes.wait_for_all()


def run_so_far(run: Run) -> str:
    """Return "3 of 200 epochs", with the steps of the next one where there are any."""
    return f"{run.epoch} of {run.config.epochs} epochs" + (f" and {run.step} steps" if run.step else "")


def check_finite(run: Run, steps: int) -> None:
    """Raise ValueError, naming the step and what to look at, if a loss or a label of this epoch was not finite."""
    processes.reduce_sums(run.sums, means=3)
    loss, labels = run.sums[3:].tolist()
    if math.isinf(min(loss, labels)):
        return
    if labels <= loss:
        raise ValueError(f"labels: not finite in epoch {run.epoch + 1}, step {int(labels) + 1} of {steps}; look at the teacher, "
                         "which gives NaN, or at the label distributions of the data")
    rate = learning_rate(run.config, run.epoch + loss / steps)
    raise ValueError(f"loss: not finite in epoch {run.epoch + 1}, step {int(loss) + 1} of {steps}, at learning rate {rate:.4g}; "
                     "look at learning_rate (lower it, warm up for longer), temperature (raise it) and precision (float32)")


def teacher_labels(teacher: Teacher, images: Tensor, classes: int) -> Tensor:
    """Return the teacher's (M, C) distributions for the very images the student sees."""
    labels = teacher(images)
    if labels.shape[1] != classes:
        raise ValueError(f"teacher: expected {classes} classes as in the data, got {labels.shape[1]}")
    return labels


def contrast_in_batch(config: TrainConfig, outputs: Tensor, targets: Tensor, index: Tensor) -> LossParts:
    """Return the loss of (M, ...) outputs against the batch itself, by the method's objective.

    ``targets`` are the (M, T, C) label distributions, ``index`` the (N,) numbers of the images.
    """
    objective = METHODS[config.method].objective
    if objective == "cross_entropy":
        return distilled_cross_entropy(outputs, targets, _target_weights(config))
    latents = outputs[:, : config.latent_dim]
    if objective == "instance":
        parts = gen_supcon_loss(latents, index.repeat(config.views), return_parts=True, **_loss_options(config))
    else:
        parts = distilled_loss(latents, targets, _target_weights(config), **_loss_options(config))
    return with_classifier(config, parts, outputs, targets)


def contrast_with_queue(
    config: TrainConfig, outputs: Tensor, targets: Tensor, keys: Tensor, key_targets: Tensor,
    old_keys: Tensor, old_targets: Tensor,
) -> LossParts:  # fmt: skip
    """Return the loss of queries against this batch's keys and all that the queue remembers."""
    parts = distilled_loss(
        outputs[:, : config.latent_dim], targets, _target_weights(config),
        contrast_latents=torch.cat([keys, old_keys]), contrast_targets=torch.cat([key_targets, old_targets]),
        **_loss_options(config, contrasts_of_all=True),
    )  # fmt: skip
    return with_classifier(config, parts, outputs, targets)


def with_classifier(config: TrainConfig, parts: LossParts, outputs: Tensor, targets: Tensor) -> LossParts:
    """Add the cross-entropy of the logits that stand behind the latents, if the configuration asks for it."""
    if not config.ce_weight:
        return parts
    logits = outputs[:, config.latent_dim :]
    return add_parts(parts, config.ce_weight, distilled_cross_entropy(logits, targets, _target_weights(config)))


def evaluate(run: Run, dataset: Dataset) -> tuple[float, float | None]:
    """Return the kNN accuracy of the features and, for a classifier, its own accuracy, on the test images."""
    model, dtype = run.result, precision(run.config, run.device)
    features = [extract(model.encoder, dataset, images, dtype=dtype) for images in (dataset.train_images, dataset.test_images)]
    knn = knn_accuracy(features[0], dataset.train_labels, features[1], dataset.test_labels, run.config.knn_neighbours)
    if not is_classifier(run.config):
        return knn, None
    return knn, classifier_accuracy(model.head(features[1]), dataset.test_labels)


def learning_rate(config: TrainConfig, epoch: float) -> float:
    """Return the rate at a (fractional) epoch: cosine from the peak to a thousandth of it, warmed up linearly at first.

    The warm-up ends on the cosine, as in SupContrast.

    >>> config = TrainConfig(epochs=100, learning_rate=0.5, warmup_epochs=10, warmup_from=0.01)
    >>> [round(learning_rate(config, e), 4) for e in (0, 5, 10, 50, 100)]
    [0.01, 0.2489, 0.4878, 0.2502, 0.0005]
    """

    def cosine(at: float) -> float:
        low = config.learning_rate * 1e-3
        return low + (config.learning_rate - low) * (1 + math.cos(math.pi * at / config.epochs)) / 2

    if epoch >= config.warmup_epochs:
        return cosine(epoch)
    return config.warmup_from + (cosine(config.warmup_epochs) - config.warmup_from) * epoch / config.warmup_epochs


def precision(config: TrainConfig, device: torch.device) -> torch.dtype:
    """Return the floating point type in which ``config.precision`` lets models compute on this device."""
    supported = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    half = config.precision == "bfloat16" or (config.precision == "auto" and supported)
    return torch.bfloat16 if half else torch.float32


def autocast(config: TrainConfig, device: torch.device):
    """Return the context of ``config.precision``; parameters and losses stay float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision(config, device) == torch.bfloat16)


def compiles(config: TrainConfig, device: torch.device) -> bool:
    """Tell whether ``config.compile`` asks for torch.compile on this device."""
    return config.compile == "always" or (config.compile == "auto" and device.type == "cuda")


def _target_weights(config: TrainConfig) -> list[float]:
    return [config.label_weight, config.kd_weight] if METHODS[config.method].distils else [1.0]


def _loss_options(config: TrainConfig, contrasts_of_all: bool = False) -> dict:
    gather = processes.processes() > 1 and ("anchors" if contrasts_of_all else True)
    return {"temperature": config.temperature, "similarity": config.similarity, "weighting": config.weighting,
            "base_temperature": config.base_temperature or None, "gather": gather, "validate": False}  # fmt: skip


@contextmanager
def _own_state(seed: int, device: torch.device):
    """Seed torch for what takes no generator (initial weights, dropout) and let cuDNN try its kernels; undo both at the end."""
    cuda, cudnn = device.type == "cuda", torch.backends.cudnn
    tried = cudnn.flags(enabled=cudnn.enabled, benchmark=True, deterministic=cudnn.deterministic, allow_tf32=cudnn.allow_tf32)
    with torch.random.fork_rng(devices=[device] if cuda else []), tried:
        if cuda:
            torch.cuda.reset_peak_memory_stats(device)
        torch.manual_seed(seed)
        yield


@contextmanager
def _memory_errors_named(run: Run, folder: str | Path | None):
    """Save what was trained and say which batch to try when the device's memory is too small."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        trained = folder and (run.epoch or run.step)
        if trained:
            save(run, folder)
        config = run.config
        raise MemoryError(f"out of memory on {run.device} with batch_size {config.batch_size} and {config.views} views; try "
                          f"batch_size {max(1, config.batch_size // 2)}, in a folder of its own"
                          + (f"; {run_so_far(run)} are saved" if trained else "")) from None  # fmt: skip


def _check_fit(config: TrainConfig, dataset: Dataset, encoder: nn.Module | None, teacher: Teacher | None,
               folder: str | Path | None, deadline: float) -> None:  # fmt: skip
    """Raise ValueError where the configuration says another thing than the arguments."""
    processes.own_rows(min(config.batch_size, len(dataset.train_labels)))
    if folder is None and deadline < math.inf:
        raise ValueError("deadline: needs a folder to save the run in")
    if (encoder is not None) != (config.arch == "custom"):
        raise ValueError(f'arch: "custom" and an encoder go together, got arch={config.arch!r} '
                         f"{'with' if encoder is not None else 'without'} one")
    if dataset.name != config.dataset:
        raise ValueError(f"dataset: the configuration says {config.dataset!r}, the data set is {dataset.name!r}")
    if teacher is not None and not METHODS[config.method].distils:
        raise ValueError(f"teacher: method {config.method} learns from none; take one with KD")
    if teacher is not None and teacher.temperature != config.teacher_temperature:
        raise ValueError(f"teacher_temperature: the configuration says {config.teacher_temperature}, "
                         f"the teacher has {teacher.temperature}")
