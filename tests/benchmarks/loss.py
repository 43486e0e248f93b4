"""Time and peak memory of the loss, forward and backward, against its peers and its matrix products alone."""

import os
import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from genscl_lite._checks import require_packages
from genscl_lite.datasets import files
from genscl_lite.losses import gen_supcon_loss
from genscl_lite.runs.machine import describe_machine
from genscl_lite.runs.tables import markdown_table
from tests.benchmarks.timing import make_parser, peak_bytes, seconds_in_turns

ROWS = [512, 1024, 2048, 4096, 8192, 16384, 32768, 65536]
CLASSES = [10, 100, 1000]
LATENT_DIM, TEMPERATURE = 128, 0.1
MANY_ROWS = 8192
"""Above, only the first number of classes is measured: labels cost little beside so many scores."""
FLOOR = "three matrix products alone"
OURS = "GenSCL, streamed"
FUSED = "GenSCL, fused, bfloat16"
DENSE = "GenSCL, dense"
PLAIN = "plain dense soft-label loss"
PEER = "pytorch-metric-learning SupConLoss"
MATRICES = {OURS: 0, FUSED: 0, FLOOR: 0, DENSE: 5, PLAIN: 7, PEER: 12}
"""About how many (M, M) float32 matrices each holds at once, to tell what does not fit before it is tried."""
COLORS = {OURS: 2, FUSED: 0, DENSE: 9, PLAIN: 1, PEER: 3, FLOOR: 7}
"""Place in seaborn's palette for color-blind readers, in the order of the table's columns."""


def plain_soft_label_loss(
    latents: Tensor, labels: Tensor, temperature: float = TEMPERATURE
) -> Tensor:
    """Compute the row-normalized loss as one would write it down: every matrix made, whole."""
    z, y = F.normalize(latents, dim=1), F.normalize(labels, dim=1)
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    scores = (z @ z.T / temperature).masked_fill(itself, float("-inf"))
    log_p = F.log_softmax(scores, dim=1).masked_fill(itself, 0)
    s = (y @ y.T).masked_fill(itself, 0)
    return -(s / s.sum(dim=1, keepdim=True) * log_p).sum(dim=1).mean()


def contenders(device: torch.device) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """Return name -> loss of (M, D) latents and (M, C) distributions."""

    def ours(backend: str, dtype: torch.dtype = torch.float32):
        return lambda z, y: gen_supcon_loss(
            z.to(dtype), y, temperature=TEMPERATURE, backend=backend
        )

    losses = {OURS: ours("streamed"), DENSE: ours("dense"), PLAIN: plain_soft_label_loss}
    if device.type == "cuda":
        losses[FUSED] = ours("fused", torch.bfloat16)
    try:
        from pytorch_metric_learning.losses import SupConLoss
    except ImportError:
        print(f"{PEER}: not installed (pip install pytorch-metric-learning), left out")
    else:
        losses[PEER] = lambda z, y: SupConLoss(temperature=TEMPERATURE)(z, y.argmax(dim=1))
    return losses


def sample(rows: int, classes: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Draw latents, which require a gradient, and label distributions."""
    g = torch.Generator().manual_seed(0)
    latents = torch.randn(rows, LATENT_DIM, generator=g).to(device).requires_grad_()
    return latents, torch.softmax(3 * torch.randn(rows, classes, generator=g), dim=1).to(device)


def three_products(z: Tensor, block: int) -> None:
    """Compute scores and their product with both sides: all that a gradient without symmetry must compute."""
    scores, left, right = (
        z.new_empty(min(block, len(z)), len(z)),
        torch.empty_like(z),
        torch.zeros_like(z),
    )
    for start in range(0, len(z), block):
        rows = slice(start, start + block)
        s = torch.mm(z[rows], z.T, out=scores[: len(z[rows])])
        torch.mm(s, z, out=left[rows])
        right.addmm_(s.T, z[rows])


def one_step(loss: Callable, latents: Tensor, labels: Tensor) -> None:
    loss(latents, labels).backward()
    latents.grad = None


def check_agreement(losses: dict, device: torch.device, classes: int) -> None:
    """Raise ValueError unless ours give float64's loss and gradient, and the peer our loss on hard labels."""
    latents, labels = sample(512, classes, device)
    exact = latents.detach().double().requires_grad_()
    expected = gen_supcon_loss(exact, labels.double(), temperature=TEMPERATURE, backend="dense")
    expected.backward()
    for name, loss in losses.items():
        if name == PEER:
            hard = gen_supcon_loss(latents, labels.argmax(dim=1), temperature=TEMPERATURE)
            error = abs(loss(latents, labels) / hard - 1).item()
        else:
            value = loss(latents, labels)
            [gradient] = torch.autograd.grad(value, latents)
            errors = abs(value / expected - 1), (gradient - exact.grad).norm() / exact.grad.norm()
            error = torch.stack(errors).max().item()  # NaN where one is NaN
        allowed = 1e-2 if name == FUSED else 1e-5
        print(f"{name}, C = {classes}: relative error {error:.1e} (allowed {allowed:.0e})")
        if not error < allowed:
            raise ValueError(
                f"{name}: relative error {error:.1e} of loss or gradient, allowed {allowed:.0e}"
            )


def measure(rows: int, classes: int, losses: dict, device: torch.device) -> list[dict]:
    """Return a record for each contender that fits into memory: seconds (median), runs and peak bytes."""
    latents, labels = sample(rows, classes, device)
    block = 512 if device.type == "cpu" else 8192
    steps = {
        name: partial(one_step, loss, latents, labels)
        for name, loss in losses.items()
        if fits(name, rows, device)
    }
    steps[FLOOR] = lambda: three_products(latents.detach(), block)
    seconds = seconds_in_turns(steps, device)
    return [
        {
            "contender": name,
            "rows": rows,
            "classes": classes,
            "seconds": statistics.median(seconds[name]),
            "runs": len(seconds[name]),
            "peak_bytes": peak_bytes(step, device),
        }
        for name, step in steps.items()
    ]


def fits(name: str, rows: int, device: torch.device) -> bool:
    """Tell whether a contender's matrices fit into two thirds of the memory there is."""
    if device.type == "cuda":
        memory = torch.cuda.mem_get_info(device)[1]
    else:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return MATRICES[name] * rows**2 * 4 < 2 / 3 * memory


def render(records: pd.DataFrame, classes: int) -> str:
    """Render times and memory for one number of classes as Markdown, a row for each M."""
    shown = records[records.classes == classes]
    names = [name for name in COLORS if name in set(shown.contender)]
    lines = []
    for rows, group in shown.groupby("rows"):
        group = group.set_index("contender")
        both = {n: f"{_time(group.seconds[n])}, {_size(group.peak_bytes[n])}" for n in group.index}
        cells = [both.get(name, "") for name in names]
        lines.append([str(rows), *cells])
    return markdown_table(["M", *names], lines)


def claims(records: pd.DataFrame) -> list[str]:
    """Say in a line each what the records show: ratios at one size, and how memory grows."""
    shown = records[records.classes == records.classes.min()]
    shown = shown.pivot(index="rows", columns="contender", values=["seconds", "peak_bytes"])
    seconds, memory = shown["seconds"], shown["peak_bytes"]
    lines = []
    for rows in seconds.index.intersection([8192, 16384]):
        at, held = seconds.loc[rows].dropna(), memory.loc[rows].dropna()
        lines += [
            f"M = {rows}: {name}: {at[name] / at[ours]:.1f} times the time of {ours}"
            for ours in (OURS, FUSED)
            for name in (PEER, PLAIN, FLOOR)
            if {ours, name} <= set(at.index)
        ]
        if PLAIN in held:
            lines.append(
                f"M = {rows}: {PLAIN}: {held[PLAIN] / held[OURS]:.0f} times the memory of {OURS}"
            )
    held = memory[OURS].loc[4096:32768]
    if len(held) > 1:
        power = np.polyfit(np.log(held.index.to_numpy(float)), np.log(held.to_numpy(float)), 1)[0]
        lines.append(
            f"memory of {OURS} grows as M^{power:.2f} from M = {held.index[0]} to {held.index[-1]}"
        )
    return lines


def draw(records: pd.DataFrame, where: str, path: Path) -> None:
    """Draw time and memory against M, both axes logarithmic, for the smallest number of classes."""
    import seaborn as sns
    from matplotlib import pyplot as plt

    sns.set_theme(context="notebook", style="ticks", rc={"axes.titleweight": "bold"})
    colors = sns.color_palette("colorblind", 10)
    shown = records[records.classes == records.classes.min()]
    sizes = sorted(shown.rows.unique())
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
    for name, group in shown.groupby("contender"):
        width = 3 if name in (OURS, FUSED) else 1.5
        line = {"color": colors[COLORS[name]], "label": name, "linewidth": width}
        if name == FLOOR:
            left.plot(group.rows, group.seconds, linestyle="--", **line)
        else:
            left.plot(group.rows, group.seconds, marker="o", **line)
            right.plot(group.rows, group.peak_bytes / 2**20, marker="o", **line)
    left.set(title="Time, forward and backward", ylabel="seconds")
    right.set(title="Memory beyond the inputs", ylabel="MiB")
    for axis in (left, right):
        axis.set(xscale="log", yscale="log", xlabel="rows M of the batch")
        axis.set_xticks(sizes, sizes, rotation=45)
        axis.minorticks_off()
        axis.grid(alpha=0.4)
    sns.despine(figure)
    left.legend(frameon=False, fontsize=9)
    figure.suptitle(f"{where}; D = {LATENT_DIM}, C = {shown.classes.min()}", fontsize=10)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def main(arguments: list[str] | None = None) -> int:
    parser = make_parser("loss", __doc__)
    parser.add_argument(
        "--rows", type=int, nargs="+", default=ROWS, metavar="M", help="batch sizes"
    )
    parser.add_argument(
        "--classes", type=int, nargs="+", default=CLASSES, metavar="C", help="label sizes"
    )
    return measure_all(**vars(parser.parse_args(arguments)))


def measure_all(out: Path, device: torch.device, rows: list[int], classes: list[int]) -> int:
    """Check, measure, print, and write loss.json and loss.png into ``out``."""
    require_packages(
        "notebooks", "matplotlib", "seaborn"
    )  # for the picture, after all has been measured
    losses, records = contenders(device), []
    about = {**describe_machine(device), "latent_dim": LATENT_DIM, "temperature": TEMPERATURE}
    for c in classes:
        check_agreement(losses, device, c)
    for m in rows:
        for c in classes if m <= MANY_ROWS else classes[:1]:
            new = measure(m, c, losses, device)
            records += new
            files.write_json(
                out / "loss.json", about | {"records": records}
            )  # an end by force loses nothing
            times = "; ".join(f"{record['contender']} {_time(record['seconds'])}" for record in new)
            print(f"{times} (M = {m}, C = {c})", flush=True)
    table = pd.DataFrame(records)
    draw(table, about["device"], out / "loss.png")
    for c in classes:
        print(
            f"\nC = {c}: median seconds and peak memory, forward and backward\n\n{render(table, c)}"
        )
    print("\n" + "\n".join(claims(table)) + f"\n\nwritten: {out / 'loss.json'}, {out / 'loss.png'}")
    return 0


def _time(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms" if seconds < 0.9995 else f"{seconds:.3g} s"


def _size(size: float) -> str:
    return f"{size / 2**20:.3g} MiB" if size < 1000 * 2**20 else f"{size / 2**30:.3g} GiB"


if __name__ == "__main__":
    sys.exit(main())
