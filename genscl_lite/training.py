"""Training: one loop for a classifier, SimCLR, SupCon and GenSCL, with checkpoints it resumes from exactly."""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from genscl_lite import runfolder
from genscl_lite.augment import build_augment
from genscl_lite.config import METHODS, TrainConfig
from genscl_lite.data import Dataset
from genscl_lite.distillation import Teacher, distilled_cross_entropy, distilled_loss
from genscl_lite.evaluation import classifier_accuracy, extract, knn_accuracy
from genscl_lite.losses import LossParts, gen_supcon_loss
from genscl_lite.mixing import mix
from genscl_lite.models import Model, build_encoder
from genscl_lite.momentum import LabelledQueue, MomentumEncoder


@dataclass
class Run:
    """A training: its configuration, its model, and all that changes from step to step."""

    config: TrainConfig
    model: Model
    optimizer: torch.optim.Optimizer
    generator: Generator
    """The only source of the run's own randomness; on the CPU, so that draws do not depend on the device."""
    key_encoder: MomentumEncoder | None = None
    queue: LabelledQueue | None = None
    epoch: int = 0
    """Epochs done."""
    seconds: float = 0.0
    log: list[dict] = dataclasses.field(default_factory=list)

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def state_dict(self) -> dict:
        parts = {name: part.state_dict() for name, part in self._parts().items()}
        random = {"generator": self.generator.get_state(), "torch": torch.get_rng_state()}
        if self.device.type == "cuda":
            random["cuda"] = torch.cuda.get_rng_state(self.device)
        progress = {"epoch": self.epoch, "seconds": self.seconds, "log": self.log}
        return {"config": dataclasses.asdict(self.config), "parts": parts, "random": random, "progress": progress}

    def load_state_dict(self, state: dict) -> None:
        for name, part in self._parts().items():
            part.load_state_dict(state["parts"][name])
        self.generator.set_state(state["random"]["generator"].cpu())
        torch.set_rng_state(state["random"]["torch"].cpu())
        if "cuda" in state["random"] and self.device.type == "cuda":
            torch.cuda.set_rng_state(state["random"]["cuda"].cpu(), self.device)
        self.epoch, self.seconds, self.log = (state["progress"][name] for name in ("epoch", "seconds", "log"))

    def _parts(self) -> dict:
        parts = {"model": self.model, "optimizer": self.optimizer, "key_encoder": self.key_encoder, "queue": self.queue}
        return {name: part for name, part in parts.items() if part is not None}


def pretrain(
    config: TrainConfig,
    dataset: Dataset,
    folder: str | Path | None = None,
    *,
    encoder: nn.Module | None = None,
    teacher: Teacher | None = None,
    device: torch.device | str | None = None,
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
        teacher: instead of the one trained in the folder ``config.teacher``, for methods with KD; of its temperature
            only, not of its weights, the configuration keeps account.
        device: default: the GPU if there is one.
        on_epoch: called with the run after each epoch.

    Returns:
        The finished ``Run``; ``run.model.encoder`` gives features.

    Raises:
        ValueError: arguments do not fit together, or the loss is no longer finite (what was saved before is kept).
        RunFolderError: the folder is in use, holds another configuration or a damaged checkpoint.
    """
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    _check_fit(config, dataset, encoder, teacher)
    teacher = teacher or load_teacher(config, dataset)
    if teacher:
        teacher.classifier.to(device)
    dataset = dataset.to(device)
    with runfolder.locked(folder, wait=5) if folder else nullcontext(), _own_random_state(config.seed, device):
        run = new_run(config, dataset, encoder, device)
        if folder:
            runfolder.claim(folder, dataclasses.asdict(config))
            if (Path(folder) / "checkpoint.pt").exists():
                run.load_state_dict(runfolder.read_checkpoint(Path(folder) / "checkpoint.pt", device))
        step_model = torch.compile(run.model) if config.compile else run.model
        while run.epoch < config.epochs:
            train_epoch(run, dataset, teacher, step_model)
            if folder and (run.epoch % config.checkpoint_every == 0 or run.epoch == config.epochs):
                runfolder.write_log(Path(folder) / "log.csv", run.log)
                runfolder.write_checkpoint(Path(folder) / "checkpoint.pt", run.state_dict())
            if on_epoch:
                on_epoch(run)
    run.model.eval()
    return run


def train_epoch(run: Run, dataset: Dataset, teacher: Teacher | None, step_model: nn.Module) -> None:
    """Do one pass over the training images and add a row to the log."""
    config, method, generator = run.config, METHODS[run.config.method], run.generator
    device, started = dataset.train_images.device, time.perf_counter()
    augment = build_augment(config.augmentation)
    target_weights = [config.label_weight, config.kd_weight] if method.distils else [1.0]
    batches = math.ceil(len(dataset.train_labels) / config.batch_size)
    sums = torch.zeros(3, device=device)
    run.model.train()

    for batch, index in enumerate(shuffled_batches(len(dataset.train_labels), config.batch_size, generator)):
        rate = learning_rate(config, run.epoch + batch / batches)
        for group in run.optimizer.param_groups:
            group["lr"] = rate
        index = index.to(device)
        one_hot = F.one_hot(dataset.train_labels[index], dataset.num_classes).float()

        views, labels = [], []
        for _ in range(config.views):
            view, label = dataset.normalize(augment(dataset.train_images[index], generator)), one_hot
            if method.mixes:
                view, label = mix(view, label, mixing=config.mixing, alpha=config.mix_alpha,
                                  per_image=config.mix_per_image, generator=generator)
            views.append(view)
            labels.append(label)
        images, targets = torch.cat(views), torch.cat(labels)[:, None]

        with autocast(config, device):
            if method.distils:
                targets = torch.cat([targets, teacher_labels(teacher, images, dataset)[:, None]], dim=1)
            if method.queues:
                queries = len(index)  # the first views; the others are keys
                outputs, keys = step_model(images[:queries]), run.key_encoder(images[queries:])
                parts = contrast_with_queue(run, outputs, targets[:queries], keys, targets[queries:], target_weights)
            else:
                outputs = step_model(images)
                parts = contrast_in_batch(config, outputs, targets, index, target_weights)

        run.optimizer.zero_grad(set_to_none=True)
        parts.loss.backward()
        run.optimizer.step()
        if method.queues:
            run.key_encoder.update(run.model)
            run.queue.enqueue(keys, targets[queries:])
        sums += torch.stack(parts[:3]).detach() * len(index)

    run.epoch += 1
    loss, entropy, kl = (sums / len(dataset.train_labels)).tolist()
    if not math.isfinite(loss):
        raise ValueError(f"loss: not finite in epoch {run.epoch} at learning rate {rate:.4g}; lower it, or warm up for longer")
    seconds = time.perf_counter() - started
    accuracies = evaluate(run, dataset) if run.epoch % config.eval_every == 0 or run.epoch == config.epochs else (None, None)
    run.seconds += time.perf_counter() - started
    run.log.append({
        "epoch": run.epoch, "loss": loss, "label_entropy": entropy, "kl": kl, "learning_rate": rate,
        "images_per_second": len(dataset.train_labels) / seconds, "seconds": run.seconds,
        "knn_accuracy": accuracies[0], "accuracy": accuracies[1],
    })  # fmt: skip


def teacher_labels(teacher: Teacher, images: Tensor, dataset: Dataset) -> Tensor:
    """Return the teacher's (M, C) distributions for the very images the student sees."""
    labels = teacher(images)
    if labels.shape[1] != dataset.num_classes:
        raise ValueError(f"teacher: expected {dataset.num_classes} classes as in {dataset.name}, got {labels.shape[1]}")
    return labels


def contrast_in_batch(config: TrainConfig, outputs: Tensor, targets: Tensor, index: Tensor, target_weights) -> LossParts:
    """Return the loss of (M, ...) outputs against the batch itself, by the method's objective."""
    objective = METHODS[config.method].objective
    if objective == "cross_entropy":
        return distilled_cross_entropy(outputs, targets, target_weights)
    if objective == "instance":
        return gen_supcon_loss(outputs, index.repeat(config.views), return_parts=True, **_loss_options(config))
    return distilled_loss(outputs, targets, target_weights, **_loss_options(config))


def contrast_with_queue(
    run: Run, queries: Tensor, targets: Tensor, keys: Tensor, key_targets: Tensor, target_weights
) -> LossParts:
    """Return the loss of queries against this batch's keys and all that the queue remembers."""
    old_keys, old_targets = run.queue.contents()
    return distilled_loss(
        queries, targets, target_weights,
        contrast_latents=torch.cat([keys.float(), old_keys]), contrast_targets=torch.cat([key_targets, old_targets]),
        **_loss_options(run.config),
    )  # fmt: skip


def evaluate(run: Run, dataset: Dataset) -> tuple[float, float | None]:
    """Return the kNN accuracy of the features and, for a classifier, its own accuracy, on the test images."""
    run.model.eval()
    features = [extract(run.model.encoder, dataset, images) for images in (dataset.train_images, dataset.test_images)]
    knn = knn_accuracy(features[0], dataset.train_labels, features[1], dataset.test_labels, run.config.knn_neighbours)
    if METHODS[run.config.method].objective != "cross_entropy":
        return knn, None
    return knn, classifier_accuracy(run.model.head(features[1]), dataset.test_labels)


def new_run(config: TrainConfig, dataset: Dataset, encoder: nn.Module | None, device: torch.device) -> Run:
    """Make model, optimizer and, where the method has them, momentum encoder and queue."""
    method = METHODS[config.method]
    model = new_model(config, dataset, encoder).to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=config.learning_rate, momentum=config.sgd_momentum,
                                weight_decay=config.weight_decay)
    run = Run(config, model, optimizer, Generator().manual_seed(config.seed))
    if method.queues:
        run.key_encoder = MomentumEncoder(model, config.momentum)
        distributions = 2 if method.distils else 1
        run.queue = LabelledQueue(config.queue_size, config.latent_dim, (distributions, dataset.num_classes)).to(device)
    return run


def new_model(config: TrainConfig, dataset: Dataset, encoder: nn.Module | None = None) -> Model:
    """Make the encoder with its head: a classifier's for the rows named CE, the projection head for all others."""
    encoder = encoder or build_encoder(config.arch, dataset.image_shape[0], dataset.image_shape[-1])
    if METHODS[config.method].objective == "cross_entropy":
        return Model(encoder, dataset.num_classes, dataset.image_shape, classifier=True)
    return Model(encoder, config.latent_dim, dataset.image_shape)


def load_teacher(config: TrainConfig, dataset: Dataset) -> Teacher | None:
    """Load the classifier of the same seed that a finished run left in ``config.teacher``; None for methods without KD.

    Raises:
        ValueError: no folder is given, its run is missing, unfinished, not a classifier or of another data set.
    """
    if not METHODS[config.method].distils:
        return None
    if not config.teacher:
        raise ValueError(f"teacher: method {config.method} learns from a teacher; give the folder of a finished ce_mix run")
    folder = Path(config.teacher) / f"seed{config.seed}"
    if not (folder / "summary.json").exists():
        raise ValueError(f"teacher: {folder} holds no finished run; train method ce_mix with seed {config.seed} there first")
    theirs = TrainConfig(**runfolder.read_json(folder / "config.json"))
    if METHODS[theirs.method].objective != "cross_entropy":
        raise ValueError(f"teacher: {folder} holds {theirs.method}, which is no classifier; use ce or ce_mix")
    for name in ("dataset", "labels_per_class"):
        if getattr(theirs, name) != getattr(config, name):
            raise ValueError(f"teacher: {folder} was trained with {name} {getattr(theirs, name)!r}, "
                             f"this run has {getattr(config, name)!r}")
    model = new_model(theirs, dataset)
    model.load_state_dict(runfolder.read_checkpoint(folder / "checkpoint.pt")["parts"]["model"])
    return Teacher(model, config.teacher_temperature)


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


def shuffled_batches(images: int, batch_size: int, generator: Generator) -> Iterator[Tensor]:
    """Give all indices once, in random order; the last batch may be smaller."""
    return iter(torch.randperm(images, generator=generator).split(batch_size))


def autocast(config: TrainConfig, device: torch.device):
    """Return the context of ``config.precision``; parameters and losses stay float32."""
    supported = device.type == "cuda" and torch.cuda.is_bf16_supported()
    enabled = config.precision == "bfloat16" or (config.precision == "auto" and supported)
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)


def _loss_options(config: TrainConfig) -> dict:
    return {"temperature": config.temperature, "similarity": config.similarity, "weighting": config.weighting,
            "base_temperature": config.base_temperature or None, "validate": False}  # fmt: skip


@contextmanager
def _own_random_state(seed: int, device: torch.device):
    """Seed torch for what takes no generator (initial weights, dropout) and give the global state back at the end."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _check_fit(config: TrainConfig, dataset: Dataset, encoder: nn.Module | None, teacher: Teacher | None) -> None:
    """Raise ValueError where the configuration says another thing than the arguments."""
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
