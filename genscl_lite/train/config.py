"""What a run is: a method (a row of the paper's table) and its parameters, checked before any work starts."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass

from genscl_lite._checks import WEIGHTINGS, require_choice
from genscl_lite.datasets import check_dataset
from genscl_lite.datasets.depth import parse_intensity
from genscl_lite.mixing import MIXINGS
from genscl_lite.similarity import SIMILARITIES
from genscl_lite.train.augment import AUGMENTATIONS, check_augmentation
from genscl_lite.train.methods import METHODS
from genscl_lite.train.networks import check_arch, check_pretrained
from genscl_lite.train.optimizers import OPTIMIZERS


def limited(default, **limits):
    """Make a field with limits: ``choices``, or numbers to lie ``above``, ``below`` or ``at_most`` at.

    Without one, a number is at least 0.
    """
    return dataclasses.field(default=default, metadata=limits)


@dataclass(frozen=True)
class TrainConfig:
    """All that decides a run. The defaults are the digits run of a few seconds.

    A method uses the parameters of its ingredients and ignores the others: ``mixing`` counts for methods with
    MixUp-CutMix, ``teacher`` and ``kd_weight`` for those with KD, ``queue_size`` and ``momentum`` for the
    last rows, ``ce_weight`` for those with a projection head.

    Raises:
        ValueError: a value has the wrong type, is out of range or unknown; the message names it.

    >>> TrainConfig(method="sup_con")
    Traceback (most recent call last):
    ValueError: method: 'sup_con' is unknown (did you mean 'supcon'?); expected one of teacher, ...
    """

    method: str = limited("genscl_mix", choices=METHODS)  # a row of the table, one of METHODS

    # digits, cifar10, cifar100, folder, module:function; "custom" for a Dataset given from Python
    dataset: str = "digits"
    labels_per_class: int = 10  # labeled training images of each class; 0: all
    image_size: int = 0  # of a folder's images: pixels they become; other data sets have their own
    # fraction of labels replaced by a random other class
    label_noise: float = limited(0.0, below=1)
    labels: str = ""  # of a folder: CSV of path and label, or path and a column for each class
    val_share: float = limited(0.2, below=1)  # of a folder without a split: fraction to test with
    intensity: str = ""  # of files with more than 8 bits: black,white; empty: found over all files
    # of files with several pages: take the first, or stop
    pages: str = limited("first", choices=("first", "stop"))
    # too few images to split or for labels_per_class: stop, or take what there is
    on_small_class: str = limited("stop", choices=("stop", "take"))
    on_bad_image: str = limited("stop", choices=("stop", "skip"))  # unreadable files of a folder
    # whether a folder's images are kept in memory; auto: up to 4 GiB
    resident: str = limited("auto", choices=("auto", "always", "never"))
    balanced: bool = False  # sample all classes equally often

    arch: str = "resnet_small"  # resnet_small, resnet18, resnet50, ..., timm/NAME, custom
    # begin from timm's weights of timm/NAME, and normalize images as they expect
    pretrained: bool = False
    # begin from these: a run, its model.safetensors, an exported encoder, a state
    weights: str = ""
    encoder_lr_scale: float = 1.0  # the encoder's learning rate by that of the head; 0: frozen

    seed: int = limited(0, below=2**63)  # weights, order, augmentation, and which labels are kept
    epochs: int = limited(80, above=0)  # passes over the training images
    batch_size: int = limited(50, above=0)  # N, images of a batch
    # views that are in the network at a time, for large batches on small memory; 0: all
    micro_batch: int = 0
    views: int = limited(2, above=0, below=1000)  # V, augmented views of each image
    augmentation: str = "affine"  # of the views: a name in AUGMENTATIONS, or module:function
    optimizer: str = limited("muon", choices=OPTIMIZERS)  # sgd, nesterov, adamw, muon
    learning_rate: float = limited(0.1, above=0)  # peak
    schedule: str = limited("cosine", choices=("cosine", "linear"))  # how the learning rate falls
    warmup_epochs: int = 8  # linear from warmup_from
    # share of the epochs to warm up for; 0: warmup_epochs
    warmup_share: float = limited(0.0, below=1)
    warmup_from: float = 0.01  # first learning rate
    sgd_momentum: float = limited(0.9, below=1)  # of SGD and Muon
    weight_decay: float = 0.0001
    decay_1d: bool = False  # biases and norms decay too
    # decay of the average over weights, then the result; 0: none
    ema: float = limited(0.0, below=1)

    latent_dim: int = limited(64, above=0)  # D, size of the latents
    temperature: float = limited(0.1, above=0)  # tau
    base_temperature: float = 0.0  # multiply the loss by temperature / base_temperature; 0: do not
    # of labels: cosine, inner_product, bhattacharyya
    similarity: str = limited("cosine", choices=SIMILARITIES)
    weighting: str = limited("normalized", choices=WEIGHTINGS)  # or eq2, as published
    mixing: str = limited("mixup_cutmix", choices=MIXINGS)  # or mixup, cutmix
    mix_alpha: float = limited(1.0, above=0)  # lam ~ Beta(alpha, alpha)
    mix_probability: float = limited(1.0, at_most=1)  # share of the views that are mixed
    mix_per_image: bool = True  # draw lam and coin for each image, not once for a batch
    teacher: str = ""  # the teacher's runs, model.safetensors, timm/NAME, CSV
    teacher_temperature: float = limited(1.0, above=0)  # softness of the teacher's labels
    label_weight: float = 1.0  # weight of the labels' own term beside a teacher; 0: teacher alone
    kd_weight: float = 1.0  # weight of the teacher's term
    # weight of a classifier's cross-entropy, trained beside the contrastive loss
    ce_weight: float = 0.0
    queue_size: int = 200  # keys remembered
    momentum: float = limited(0.9, below=1)  # of the momentum encoder
    # statistics that BatchNorm normalizes keys by: those of their batch, or running averages
    key_statistics: str = limited("batch", choices=("batch", "running"))
    # views of an image that are contrasted with the queue
    queries: str = limited("first", choices=("first", "all"))

    read_out: str = limited("converged", choices=("converged", "sgd"))  # sgd: SupContrast's probe
    probe_epochs: int = limited(50, above=0)  # of the probe by SGD, as all that begins with probe_
    probe_batch_size: int = limited(100, above=0)  # images
    # of SGD; times 0.2 after 60, 75 and 90 % of the epochs
    probe_learning_rate: float = limited(1.0, above=0)
    # of the probe's training images
    probe_augmentation: str = limited("affine", choices=AUGMENTATIONS)
    knn_neighbors: int = limited(5, above=0)  # k of the kNN accuracy in the log
    eval_every: int = limited(20, above=0)  # epochs between kNN accuracies

    checkpoint_every: int = limited(10, above=0)  # epochs between checkpoints
    # auto: bfloat16 if the device multiplies in it
    precision: str = limited("auto", choices=("auto", "float32", "bfloat16"))
    # torch.compile; auto: large networks on a GPU
    compile: str = limited("auto", choices=("auto", "always", "never"))

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = check_type(field.name, getattr(self, field.name), field.type)
            object.__setattr__(self, field.name, value)
            if "choices" in field.metadata:
                require_choice(field.name, value, field.metadata["choices"])
            if field.type in (int, float):
                _check_range(field.name, value, field.metadata)
        check_dataset(self.dataset)
        check_arch(self.arch)
        check_augmentation(self.augmentation)
        self._check_start()
        self._check_method()
        self._check_data()

    def _check_start(self):
        if self.pretrained and self.weights:
            raise ValueError(
                f"pretrained and weights: a run begins from one of them, got weights {self.weights!r}"
            )
        if self.pretrained:
            check_pretrained("pretrained", self.arch)
        begins = self.pretrained or self.weights or self.arch == "custom"
        if self.encoder_lr_scale == 0 and not begins:
            raise ValueError(
                "encoder_lr_scale: 0 freezes the encoder, which has learned nothing yet; give "
                "pretrained=true or weights"
            )

    def _check_method(self):
        method = METHODS[self.method]
        keys = self.batch_size * (self.views - (self.queries == "first"))
        if not method.classifies and self.views < 2:
            raise ValueError(
                f"views: {self.method} contrasts views and needs 2 or more, got {self.views}"
            )
        if method.queues and self.micro_batch:
            raise ValueError(
                f"micro_batch: {self.method} contrasts with a queue, which makes large batches "
                f"needless; expected 0, got {self.micro_batch}"
            )
        if method.queues and self.queue_size < keys:
            raise ValueError(
                f"queue_size: expected at least the {keys} keys of a batch, got {self.queue_size}"
            )
        if method.distils and self.label_weight == self.kd_weight == 0:
            raise ValueError("label_weight and kd_weight: one of them must be above 0")
        if not self.warmup_share and self.warmup_epochs >= self.epochs and self.warmup_epochs:
            raise ValueError(
                f"warmup_epochs: expected fewer than the {self.epochs} epochs, "
                f"got {self.warmup_epochs}"
            )

    def _check_data(self):
        if (self.dataset == "folder") != bool(self.image_size):
            raise ValueError(
                f"image_size: the pixels of a folder's images, 0 for other data sets; "
                f"got {self.image_size} for {self.dataset}"
            )
        for name in ("labels", "intensity"):
            if getattr(self, name) and self.dataset != "folder":
                raise ValueError(
                    f"{name}: is about the files of a folder, and {self.dataset} has none; "
                    f"got {getattr(self, name)!r}"
                )
        parse_intensity(self.intensity)


RENAMED = {"distributions": "labels", "knn_neighbours": "knn_neighbors"}
"""Old names of parameters."""
PARAMETERS = {field.name: field for field in dataclasses.fields(TrainConfig)}


def changed_parameters(config: TrainConfig) -> dict[str, object]:
    """Return what of a configuration is not its default.

    >>> changed_parameters(TrainConfig("ce", seed=1))
    {'method': 'ce', 'seed': 1}
    """
    values = {name: getattr(config, name) for name in PARAMETERS}
    return {name: v for name, v in values.items() if v != PARAMETERS[name].default}


BEFORE = {
    "read_out": "sgd",
    "key_statistics": "running",
    "optimizer": "sgd",
    "decay_1d": True,
}
"""What runs did that were written before there was a choice."""


def upgraded(written: Mapping[str, object]) -> dict[str, object]:
    """Return a ``config.json``'s parameters under their names of today, with what runs did before they had them."""
    return BEFORE | {RENAMED.get(name, name): value for name, value in written.items()}


def read_config(written: Mapping[str, object]) -> TrainConfig:
    """Make the configuration of a ``config.json``, also of one that an earlier version wrote.

    Raises:
        ValueError: a value is wrong, or a name is unknown.

    >>> read_config({"method": "ce", "distributions": ""}).read_out
    'sgd'
    """
    values = upgraded(written)
    if unknown := values.keys() - PARAMETERS.keys():
        raise ValueError(f"config: {min(unknown)!r} is no parameter; another version wrote it")
    return TrainConfig(**values)


def check_type(name: str, value: object, kind: type) -> object:
    """Return ``value`` if it is of the ``kind`` (an int serves as a float), else raise ValueError."""
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        is_text = kind is float and isinstance(value, str)
        hint = " (YAML reads 1e-3 as text: write 0.001)" if is_text else ""
        if kind is str:
            hint = " (write text that looks like something else in quotes)"
        raise ValueError(f"{name}: expected {kind.__name__}, got {value!r}{hint}")
    return value


def _check_range(name: str, value: float, metadata: Mapping[str, float]) -> None:
    above, below = metadata.get("above"), metadata.get("below", math.inf)
    if not math.isfinite(value) or value < 0 or value == above:
        bound = "of at least 0" if above is None else f"above {above}"
        raise ValueError(f"{name}: expected a number {bound}, got {value!r}")
    if value >= below:
        raise ValueError(f"{name}: expected a number below {below}, got {value!r}")
    if value > metadata.get("at_most", math.inf):
        raise ValueError(
            f"{name}: expected a number from 0 to {metadata['at_most']}, got {value!r}"
        )
