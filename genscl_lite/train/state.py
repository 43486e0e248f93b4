"""A run in memory: its configuration, its model and all that changes from step to step; how to make one."""

import dataclasses
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Generator, Tensor, nn

from genscl_lite.datasets import Dataset
from genscl_lite.datasets.imports import one_line
from genscl_lite.momentum import LabelledQueue, MomentumEncoder
from genscl_lite.train import processes
from genscl_lite.train.augment import as_unit_float
from genscl_lite.train.config import TrainConfig
from genscl_lite.train.methods import METHODS
from genscl_lite.train.networks import Model, build_encoder
from genscl_lite.train.optimizers import build_optimizer
from genscl_lite.train.precision import choose_precision, flops_of_pass
from genscl_lite.train.start import load_start
from genscl_lite.train.whitened import MOST_IMAGES, WhitenedConvNet

PARTS = ("model", "optimizer", "key_encoder", "queue", "average")
MANY_FLOPS = 500e6  # of an image; smaller networks take less time to train than to compile
PROGRESS = (
    "dtype",
    "epoch",
    "step",
    "totals",
    "first_bad",
    "seconds",
    "epoch_seconds",
    "cpu_seconds",
    "peak_bytes",
    "log",
)


@dataclass
class Run:
    """A training, between two steps."""

    config: TrainConfig
    model: Model
    optimizer: torch.optim.Optimizer
    # the run's randomness; on the CPU, so that draws are the same on every device
    generator: Generator
    dtype: torch.dtype  # in which models compute; parameters and losses are float32
    compiles: bool = False  # whether what a step calls is compiled
    sides: tuple[str, ...] = ()  # what trains and what tests, as ``Dataset.sides``
    key_encoder: MomentumEncoder | None = None
    queue: LabelledQueue | None = None
    # over the model's weights, where the configuration asks for one
    average: MomentumEncoder | None = None
    epoch: int = 0  # epochs done
    step: int = 0  # steps done of the next one
    # generator's state before the draws of this epoch; None between epochs
    drawn_from: Tensor | None = None
    # of this epoch: (4,) sums of loss, label entropy, KL and chance; (2,) first steps at which the loss,
    # and at which a label, was not finite
    totals: Tensor = dataclasses.field(init=False)
    first_bad: Tensor = dataclasses.field(init=False)
    seconds: float = 0.0
    epoch_seconds: float = 0.0
    cpu_seconds: float = 0.0  # of this process; does not grow with what else the machine does
    peak_bytes: int = 0  # most memory of a GPU that torch held at once; 0 on a CPU
    log: list[dict] = dataclasses.field(default_factory=list)

    def __post_init__(self):
        self.clear_totals()

    def clear_totals(self) -> None:
        """Begin to sum up another epoch."""
        self.totals = torch.zeros(4, device=self.device)
        self.first_bad = torch.full((2,), torch.inf, device=self.device)

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def precision(self) -> str:
        """The name of ``dtype``: "float32" or "bfloat16"."""
        return str(self.dtype).removeprefix("torch.")

    @property
    def result(self) -> Model:
        """The model that counts: the average over weights if there is one, else the trained model."""
        return self.average.encoder if self.average else self.model

    @property
    def parts(self) -> dict:
        """What of ``PARTS`` this run has."""
        return {name: getattr(self, name) for name in PARTS if getattr(self, name) is not None}

    def state_dict(self) -> dict:
        drawn_from = self.generator.get_state() if self.drawn_from is None else self.drawn_from
        random = {"generator": drawn_from, "torch": torch.get_rng_state()}
        if self.device.type == "cuda":
            random["cuda"] = torch.cuda.get_rng_state(self.device)
        return {
            "config": dataclasses.asdict(self.config),
            "parts": {name: part.state_dict() for name, part in self.parts.items()},
            "random": random,
            "sides": list(self.sides),
            "progress": {name: getattr(self, name) for name in PROGRESS},
        }

    def load_state_dict(self, state: dict) -> None:
        for name, part in self.parts.items():
            part.load_state_dict(state["parts"][name])
        self.generator.set_state(state["random"]["generator"].cpu())
        torch.set_rng_state(state["random"]["torch"].cpu())
        if "cuda" in state["random"] and self.device.type == "cuda":
            torch.cuda.set_rng_state(state["random"]["cuda"].cpu(), self.device)
        for name in PROGRESS:
            setattr(self, name, state["progress"][name])

    @property
    def progress(self) -> str:
        """How far it is: "3 of 200 epochs", with the steps of the next one if there are any."""
        steps = f" and {self.step} steps" if self.step else ""
        return f"{self.epoch} of {self.config.epochs} epochs{steps}"


def new_run(
    config: TrainConfig,
    dataset: Dataset,
    encoder: nn.Module | None,
    device: torch.device,
    dtype: torch.dtype | None = None,
    begins: bool = True,
) -> Run:
    """Make model and optimizer and, where they are asked for, momentum encoder, queue and average.

    ``dtype``: that of the checkpoint to go on from; None: as ``choose_precision`` finds. ``begins``: take the
    weights that the configuration begins from; a checkpoint to be loaded has others.
    """
    method = METHODS[config.method]
    model = new_model(config, dataset, encoder)
    if begins:
        load_start(model, config, dataset)
    if config.encoder_lr_scale == 0:
        model.freeze()
    if config.micro_batch:
        _check_each_image_by_itself(model.train())
    model = processes.synchronize_batch_norm(model, device)
    model = model.to(device, memory_format=torch.channels_last)
    optimizer = build_optimizer(config, model)
    dtype = dtype or choose_precision(config, model, dataset.image_shape, device)
    compiles = wants_compile(config, model, dataset.image_shape, device)
    generator = Generator().manual_seed(config.seed)
    run = Run(config, model, optimizer, generator, dtype, compiles, dataset.sides)
    if method.queues:
        run.key_encoder = MomentumEncoder(
            model,
            config.momentum if method.momentum_keys else 0.0,
            batch_statistics=config.key_statistics == "batch",
        )
        numbers = method.learns_from_numbers(dataset.train_distributions)
        label_shape = () if numbers else (2 if method.distils else 1, dataset.num_classes)  # (T, C)
        run.queue = LabelledQueue(config.queue_size, config.latent_dim, label_shape).to(device)
    if config.ema:
        run.average = MomentumEncoder(model, config.ema)
    return run


def _check_each_image_by_itself(model: Model) -> None:
    """Raise ValueError if a BatchNorm learns: pieces of a batch have statistics of their own."""
    names = [
        name
        for name, layer in model.named_modules()
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.training
    ]
    if names:
        raise ValueError(
            f"micro_batch: {names[0]} is a BatchNorm, whose statistics would be those of a piece; "
            "take a network without, such as timm/convnext_tiny, freeze the encoder "
            "(encoder_lr_scale=0), or contrast with a queue"
        )


def new_model(config: TrainConfig, dataset: Dataset, encoder: nn.Module | None = None) -> Model:
    """Make the encoder with its method's head; beside a projection, a classifier if ``ce_weight`` asks for one."""
    classes, shape = dataset.num_classes, dataset.image_shape
    encoder = encoder or build_encoder(config.arch, shape[0], shape[-1])
    if isinstance(encoder, WhitenedConvNet) and len(dataset.train_labels):
        encoder.fit(some_images(dataset))
    if METHODS[config.method].classifies:
        return Model(encoder, classes, shape, classifier=True)
    return Model(
        encoder, config.latent_dim, shape, joint_classes=classes if config.ce_weight else 0
    )


def some_images(dataset: Dataset) -> Tensor:
    """Return evenly spaced training images, normalized, as many as a whitening is fitted to."""
    every = math.ceil(len(dataset.train_labels) / MOST_IMAGES)
    images = dataset.train_images[torch.arange(0, len(dataset.train_labels), every)]
    images = images if isinstance(images, Tensor) else torch.cat(list(images.split(500)))
    return dataset.normalize(as_unit_float(images))


def wants_compile(
    config: TrainConfig, model: nn.Module, image_shape: tuple, device: torch.device
) -> bool:
    """Tell whether ``config.compile`` wants it here: "auto" on a GPU, for a network of many operations."""
    large = config.compile == "auto" and device.type == "cuda"
    if config.compile != "always" and not (
        large and flops_of_pass(model, image_shape) >= MANY_FLOPS
    ):
        return False
    wrong = why_not_compiled(device)
    if wrong and config.compile == "always":
        raise ValueError(
            f"compile: torch.compile does not work on this machine ({wrong}); never does"
        )
    if wrong:
        warnings.warn(f"compile: not done, as it does not work here ({wrong})", stacklevel=2)
    return not wrong


@cache
def why_not_compiled(device: torch.device) -> str:
    """Compile and run a small function; return what went wrong, or ""."""
    try:
        torch.compile(lambda x: (x.sin() + 1).sum(), dynamic=False)(torch.ones(7, device=device))
    except Exception as error:  # of compilers, drivers and the files they write
        return one_line(error)[:200]
    return ""


def compiled(function: Callable, wanted: bool) -> Callable:
    """Compile, if it is wanted, for tensors whose shapes stay the same."""
    return torch.compile(function, dynamic=False) if wanted else function


def kept_parts(model: Model, probe: nn.Linear | None = None) -> nn.ModuleDict:
    """Put side by side what is kept of a run: ``encoder``, ``head`` and, beside latents, the ``probe``.

    >>> from genscl_lite.datasets import load_dataset
    >>> list(kept_parts(new_model(TrainConfig("ce"), load_dataset("digits"))))
    ['encoder', 'head']
    """
    return nn.ModuleDict(
        {"encoder": model.encoder, "head": model.head} | ({"probe": probe} if probe else {})
    )
