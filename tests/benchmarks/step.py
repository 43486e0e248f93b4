"""Images a second of a whole training step, against its parts, the ceiling, and a DataLoader pipeline.

The ceiling is what the device reaches in products of large matrices, measured in the same run.
"""

import statistics
import sys
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import joblib
import pandas as pd
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Generator, Tensor
from torch.utils.data import DataLoader
from torchvision import transforms

from genscl_lite.datasets import Dataset, files
from genscl_lite.distillation import Teacher
from genscl_lite.runs.machine import describe_machine
from genscl_lite.runs.tables import markdown_table
from genscl_lite.train.augment import AUGMENTATIONS
from genscl_lite.train.batches import draw_epoch
from genscl_lite.train.config import TrainConfig
from genscl_lite.train.loop import train_step
from genscl_lite.train.memory import keep_freed_memory
from genscl_lite.train.methods import METHODS
from genscl_lite.train.networks import ENCODERS
from genscl_lite.train.objective import Pieces
from genscl_lite.train.precision import autocast, flops_of_pass
from genscl_lite.train.state import Run, new_model, new_run
from tests.benchmarks.loss import plain_soft_label_loss
from tests.benchmarks.timing import make_parser, peak_bytes, seconds_in_turns, wait

STEPS = ("supcon", "genscl_mix", "genscl_mix_kd")
"""Methods whose whole step is measured; the last one has all parts."""
MODEL = "model alone, forward and backward"
VIEWS = "augmentation and mixing"
TEACHER = "teacher, forward"
LOSS = "loss, forward and backward"
OPTIMIZER = "optimizer"
DRAWS = "random numbers, on the CPU"
PIPELINE = "DataLoader pipeline, SupCon"


def whole(method: str) -> str:
    return f"whole step, {METHODS[method].title}"


def photographs(images: int) -> Dataset:
    """Return random images and labels of CIFAR's size; what they show makes no difference to speed."""
    g = Generator().manual_seed(0)
    pixels = torch.randint(256, (images, 3, 32, 32), dtype=torch.uint8, generator=g)
    labels = torch.randint(10, (images,), generator=g)
    names = tuple(str(c) for c in range(10))
    return Dataset(
        "custom", pixels, labels, pixels[:10], labels[:10], names, (0.5,) * 3, (0.25,) * 3
    )


def config_of(method: str, arch: str, batch: int, **changes) -> TrainConfig:
    return TrainConfig(
        method=method,
        dataset="custom",
        labels_per_class=0,
        arch=arch,
        batch_size=batch,
        latent_dim=128,
        augmentation="crop_jitter",
        mix_per_image=False,
        **changes,
    )


def step_of(config: TrainConfig, dataset: Dataset, teacher: Teacher | None, device: torch.device):
    """Return a run, its compiled pieces, draws and images of a batch, and the function that steps."""
    torch.manual_seed(0)
    run = new_run(config, dataset, None, device)
    pieces = Pieces.of(run, dataset, teacher if METHODS[config.method].distils else None)
    draws = (
        draw_epoch(config, dataset.train_labels.cpu(), (32, 32), run.generator).to(device).step(0)
    )
    run.model.train()

    def batch() -> Tensor:
        return dataset.train_images[draws.index].expand(config.views, -1, -1, -1, -1)

    return run, pieces, draws, batch(), lambda: train_step(run, batch(), pieces, draws, 0.01)


def steps_and_parts(
    arch: str, teacher_arch: str, batch: int, dataset: Dataset, device: torch.device
) -> tuple[dict[str, Callable], dict[str, float], Run]:
    """Return name -> one step, or one part of the last method's step; their operations; the last run.

    Counted are the networks' operations: three passes forward for forward and backward, one for a teacher.
    """
    network = new_model(config_of("teacher", teacher_arch, batch), dataset)
    teacher = Teacher(network.to(device, memory_format=torch.channels_last))
    steps = {}
    for method in STEPS:
        config = config_of(method, arch, batch)
        run, pieces, draws, pixels, steps[whole(method)] = step_of(config, dataset, teacher, device)
    images, targets = pieces.views(pixels, draws)
    targets = targets.repeat(1, 2, 1)

    def through(module: Callable) -> Tensor:
        with autocast(run.dtype, device):
            return module(images)

    latents = through(pieces.model).float().detach().requires_grad_()

    def model_alone():
        through(pieces.model).float().square().mean().backward()
        run.optimizer.zero_grad(set_to_none=True)

    def loss_alone():
        pieces.loss(config, latents, targets, draws.index).loss.backward()
        latents.grad = None

    gradients = [torch.zeros_like(parameter) for parameter in run.model.parameters()]

    def optimizer_alone():
        for parameter, gradient in zip(run.model.parameters(), gradients, strict=True):
            parameter.grad = gradient
        run.optimizer.step()
        run.optimizer.zero_grad(set_to_none=True)

    def draws_alone():
        draw_epoch(
            config, torch.zeros(batch, dtype=torch.long), (32, 32), Generator().manual_seed(0)
        )

    rows, shape = 2 * batch, dataset.image_shape
    flops = dict.fromkeys([MODEL, *steps], 3 * rows * flops_of_pass(run.model, shape))
    flops[TEACHER] = rows * flops_of_pass(network, shape)
    flops[whole(STEPS[-1])] += flops[TEACHER]
    parts = {
        MODEL: model_alone,
        VIEWS: lambda: pieces.views(pixels, draws),
        TEACHER: lambda: through(pieces.teacher),
        LOSS: loss_alone,
        OPTIMIZER: optimizer_alone,
        DRAWS: draws_alone,
    }
    return steps | parts, flops, run


def ceiling(dtype: torch.dtype, device: torch.device, seconds: float) -> float:
    """Return the operations a second of a product of large square matrices, the best of many."""
    size = 8192 if device.type == "cuda" else 2048
    matrices = [torch.randn(size, size, device=device).to(dtype) for _ in range(2)]
    best = min(seconds_in_turns({"": lambda: torch.mm(*matrices)}, device, seconds)[""])
    return 2 * size**3 / best


class _TwoViews(torch.utils.data.Dataset):
    """Images as PIL, two views each by torchvision's transforms, as SupContrast has them."""

    def __init__(self, dataset: Dataset):
        self.arrays = dataset.train_images.permute(0, 2, 3, 1).cpu().numpy()
        self.labels = dataset.train_labels.cpu()
        recipe = AUGMENTATIONS["crop_jitter"]
        self.transform = transforms.Compose(
            [
                transforms.RandomResizedCrop(32, scale=recipe.crop_scale),
                transforms.RandomHorizontalFlip(recipe.flip),
                transforms.RandomApply(
                    [transforms.ColorJitter(*recipe.jitter)], p=recipe.jitter_probability
                ),
                transforms.RandomGrayscale(recipe.grayscale),
                transforms.ToTensor(),
                transforms.Normalize(dataset.mean, dataset.std),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int):
        image = Image.fromarray(self.arrays[i])
        return self.transform(image), self.transform(image), self.labels[i]


def pipeline_seconds(
    arch: str, batch: int, dataset: Dataset, device: torch.device, batches: int
) -> list:
    """Train SupCon as one would without this kit, in float32; return each batch's seconds after the first."""
    loader = DataLoader(
        _TwoViews(dataset),
        batch,
        shuffle=True,
        num_workers=joblib.cpu_count(),
        pin_memory=device.type == "cuda",
        drop_last=True,
        persistent_workers=True,
    )
    model = new_model(config_of("supcon", arch, batch), dataset).to(device).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    forever = (views for _ in range(batches + 1) for views in loader)
    seconds, started = [], time.perf_counter()
    for first, second, labels in islice(forever, batches + 1):
        images = torch.cat([first, second]).to(device, non_blocking=True)
        one_hot = (
            F.one_hot(labels, dataset.num_classes)
            .float()
            .repeat(2, 1)
            .to(device, non_blocking=True)
        )
        loss = plain_soft_label_loss(model(images), one_hot)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        wait(device)
        seconds.append(time.perf_counter() - started)
        started = time.perf_counter()
    return seconds[1:]


def check_step(arch: str, batch: int, dataset: Dataset, device: torch.device) -> None:
    """Raise unless the step gives the plain float32 loss, and never makes the host wait for a GPU."""
    losses = []
    for changes in ({}, {"precision": "float32", "compile": "never"}):
        run, *_, step = step_of(
            config_of("genscl_mix", arch, batch, **changes), dataset, None, device
        )
        step()
        losses.append(float(run.totals[0]))
        if device.type == "cuda":
            step()
            torch.cuda.set_sync_debug_mode("error")
            try:
                step()
            finally:
                torch.cuda.set_sync_debug_mode("default")
    error = abs(losses[0] / losses[1] - 1)
    both = f"first loss {losses[0]:.4f}, plain in float32 {losses[1]:.4f}"
    print(f"{arch}: {both}: relative error {error:.1e} (allowed 1e-02)")
    if not error < 1e-2:
        raise ValueError(
            f"{arch}: the first loss differs by {error:.1e} from plain float32, allowed 1e-02"
        )


def measure(
    arch: str, teacher_arch: str, batch: int, device: torch.device, seconds: float, batches: int
) -> list[dict]:
    """Return a record for each step and part: median seconds of a batch; on a GPU, peak bytes of a step."""
    if device.type == "cpu":
        keep_freed_memory()  # as training does
    dataset = photographs(4 * batch).to(device)
    check_step(arch, batch, dataset, device)
    parts, flops, run = steps_and_parts(arch, teacher_arch, batch, dataset, device)
    highest = ceiling(run.dtype, device, seconds / 10)
    timed = seconds_in_turns(parts, device, seconds)
    peaks = {
        name: peak_bytes(parts[name], device) for name in map(whole, STEPS) if device.type == "cuda"
    }
    timed[PIPELINE] = pipeline_seconds(arch, batch, dataset, device, batches)
    about = {"arch": arch, "teacher": teacher_arch, "batch": batch, "precision": run.precision}
    medians = {name: statistics.median(runs) for name, runs in timed.items()}
    return [
        {
            **about,
            "ceiling": highest,
            "part": name,
            "seconds": seconds,
            "runs": len(timed[name]),
            "images_per_second": batch / seconds,
            "peak_bytes": peaks.get(name),
            "of_ceiling": flops[name] / seconds / highest if name in flops else None,
        }
        for name, seconds in medians.items()
    ]


def render(records: pd.DataFrame) -> str:
    """Render steps and parts as Markdown, for each encoder; shares are of the last method's whole step."""
    archs = list(records.arch.unique())
    head, lines = ["step or part"], []
    for arch in archs:
        head += [f"{arch}, ms", "images/s", "share", "of the ceiling"]
    table = records.set_index(["part", "arch"])
    for part in records.part.unique():
        cells = []
        for arch in archs:
            row, step = table.loc[part, arch], table.loc[whole(STEPS[-1]), arch]
            is_part = part not in (PIPELINE, *map(whole, STEPS))
            share = f"{100 * row.seconds / step.seconds:.1f} %" if is_part else ""
            reached = "" if pd.isna(row.of_ceiling) else f"{100 * row.of_ceiling:.0f} %"
            cells += [_digits(1000 * row.seconds), _digits(row.images_per_second), share, reached]
        lines.append([part, *cells])
    return markdown_table(head, lines)


def _digits(number: float) -> str:
    """Write three digits, or all in front of the point.

    >>> _digits(5.4876), _digits(70123.4)
    ('5.49', '70123')
    """
    return f"{number:.3g}" if number < 1000 else f"{number:.0f}"


def claims(records: pd.DataFrame) -> list[str]:
    """Say in a line each what the records show: shares of the ceiling, and the ratio to the pipeline."""
    lines = []
    for arch, rows in records.groupby("arch", sort=False):
        seconds = rows.set_index("part").seconds
        mix, kd, supcon = (whole(method) for method in ("genscl_mix", "genscl_mix_kd", "supcon"))
        alone = seconds[MODEL] + seconds[LOSS]
        both = alone + seconds[TEACHER]
        about = rows.iloc[0]
        lines += [
            f"{arch}: networks in {about.precision}, whose products of large matrices reach "
            f"{about.ceiling / 1e9:.0f} GFLOP/s here: the ceiling",
            f"{arch}: {mix} reaches {100 * alone / seconds[mix]:.0f} % of the speed of model and loss alone",
            f"{arch}: {kd} reaches {100 * both / seconds[kd]:.0f} % of both's and the teacher's alone",
            f"{arch}: augmentation and mixing take {100 * seconds[VIEWS] / seconds[mix]:.1f} % of {mix}",
            f"{arch}: {supcon} does {seconds[PIPELINE] / seconds[supcon]:.1f} times the images/s "
            "of the DataLoader pipeline",
        ]
        peak = rows.set_index("part").peak_bytes.get(kd)
        if pd.notna(peak):
            lines.append(f"{arch}: {kd} needs {peak / 2**30:.1f} GiB beyond weights and data")
    return lines


def main(arguments: list[str] | None = None) -> int:
    parser = make_parser("step", __doc__.splitlines()[0])
    cuda = torch.cuda.is_available()
    archs, teacher, batch = ["convnet_small"], "convnet_small", 125
    if cuda:
        archs, teacher, batch = ["resnet18", "resnet50"], "resnet50", 1024
    here = "(default here: %(default)s)"
    parser.add_argument(
        "--arch", nargs="+", choices=ENCODERS, default=archs, help=f"encoders {here}"
    )
    parser.add_argument("--teacher", choices=ENCODERS, default=teacher, help=here)
    parser.add_argument(
        "--batch", type=int, default=batch, metavar="N", help=f"images, in two views {here}"
    )
    parser.add_argument(
        "--seconds", type=float, default=10.0, help=f"to measure steps and parts for {here}"
    )
    parser.add_argument(
        "--batches", type=int, default=8, help=f"to measure the pipeline with {here}"
    )
    return measure_all(**vars(parser.parse_args(arguments)))


def measure_all(
    out: Path,
    device: torch.device,
    arch: list[str],
    teacher: str,
    batch: int,
    seconds: float,
    batches: int,
) -> int:
    """Check, measure, print, and write step.json into ``out``."""
    records, where = [], {**describe_machine(device), "cores": joblib.cpu_count()}
    for name in arch:
        records += measure(name, teacher, batch, device, seconds, batches)
        files.write_json(out / "step.json", where | {"records": records})
        print(f"{name}: measured", flush=True)
    table = pd.DataFrame(records)
    print(
        f"\n{where['device']}, {where['cores']} cores; batch {batch}, two views, teacher {teacher}\n"
    )
    print(render(table) + "\n")
    print("\n".join(claims(table)) + f"\n\nwritten: {out / 'step.json'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
