"""The guide "Your own images in an hour", walked with real photographs: where its numbers come from.

    python data/results/photos.py WORK --data-root DATA     # about a quarter of an hour of a core; what is done stays done

The photographs are CIFAR's, enlarged: 80 of each of five classes of CIFAR-10 in folders, and 200 of each from its
test images, which no run sees. Weights of ImageNet could not be downloaded where this was run. The backbone is
timm's smallest ResNet, trained here on CIFAR-100 and saved as timm finds it in the hub's cache, so that the guide's
commands take it as they would take timm's own. Settings are the guide's; none was tuned.
"""

import argparse
import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import studies
import timm
import torch
from keep import keep_results
from PIL import Image
from safetensors.torch import save_file
from torchvision.transforms.v2.functional import resize

from genscl_lite.datasets import files, load_dataset
from genscl_lite.runs.claims import points
from genscl_lite.runs.statistics import Interval, bootstrap_interval, t_interval
from genscl_lite.runs.tables import markdown_table, read_summaries, run_files
from genscl_lite.runs.trained import Encoder
from genscl_lite.train.config import TrainConfig
from genscl_lite.train.loop import pretrain
from genscl_lite.train.methods import METHODS

RESULTS = Path(__file__).with_name("photos")
CLASSES = ("airplane", "cat", "dog", "horse", "ship")
EACH, EACH_NEW, PIXELS = 80, 200, 96
PRESET, ROWS = "cifar10_resnet18", ("ce", "ce_mix", "genscl_mix")
BACKBONE = {
    "arch": "test_resnet.r160_in1k",
    "images": 20_000,
    "pixels": 64,
    "epochs": 4,
}
TRAINING = {
    "dataset": "folder",
    "data_root": "photos",
    "image_size": PIXELS,
    "labels_per_class": 0,
    "arch": f"timm/{BACKBONE['arch']}",
    "pretrained": True,
    "learning_rate": 0.1,
    "encoder_lr_scale": 0.1,
    "batch_size": 64,
    "epochs": 40,
    "warmup_epochs": 4,
    "read_out": "converged",
}
"""The parameters of the guide's command; its arch is another one, as its weights can be downloaded."""


def write_photos(work: Path, root: str | None) -> None:
    """Write WORK/photos/CLASS/*.png, and WORK/new/CLASS/*.png of images that no run sees."""
    cifar = load_dataset("cifar10", root)
    parts = {
        "photos": (cifar.train_images, cifar.train_labels, EACH),
        "new": (cifar.test_images, cifar.test_labels, EACH_NEW),
    }
    for name, (images, labels, each) in parts.items():
        for kind in CLASSES:
            folder = work / name / kind
            folder.mkdir(parents=True, exist_ok=True)
            chosen = (labels == cifar.class_names.index(kind)).nonzero()[:each, 0].tolist()
            for number in chosen:
                image = Image.fromarray(images[number].permute(1, 2, 0).numpy())
                large = image.resize((PIXELS, PIXELS), Image.Resampling.BICUBIC)
                large.save(folder / f"{number:05d}.png")


def weights_file(hub: Path) -> Path:
    """Return where timm looks for the backbone in a cache of the hub's layout, which is made."""
    name = timm.get_pretrained_cfg(BACKBONE["arch"]).hf_hub_id.replace("/", "--")
    folder, commit = hub / f"models--{name}", "1" * 40
    (folder / "refs").mkdir(parents=True, exist_ok=True)
    (folder / "refs" / "main").write_text(commit)
    return folder / "snapshots" / commit / "model.safetensors"


def train_backbone(path: Path, work: Path, root: str | None) -> None:
    """Train timm's network on CIFAR-100, normalized as its own weights expect, and write its encoder."""
    cifar, about = load_dataset("cifar100", root), timm.get_pretrained_cfg(BACKBONE["arch"])
    pixels, count = BACKBONE["pixels"], BACKBONE["images"]
    order = torch.randperm(len(cifar.train_images), generator=torch.Generator().manual_seed(0))
    kept, tested = order[:count], slice(1000)
    data = dataclasses.replace(
        cifar,
        name="custom",
        train_images=resize(cifar.train_images[kept], [pixels, pixels]),
        train_labels=cifar.train_labels[kept],
        test_images=resize(cifar.test_images[tested], [pixels, pixels]),
        test_labels=cifar.test_labels[tested],
        mean=about.mean,
        std=about.std,
    )
    config = TrainConfig(
        "ce",
        dataset="custom",
        labels_per_class=0,
        arch=f"timm/{BACKBONE['arch']}",
        views=1,
        augmentation="shift",
        epochs=BACKBONE["epochs"],
        warmup_epochs=1,
        batch_size=128,
        optimizer="nesterov",
        learning_rate=0.1,
        weight_decay=0.0005,
        eval_every=BACKBONE["epochs"],
        checkpoint_every=1,
    )
    run = pretrain(config, data, work / "backbone", device=studies.CPU)
    path.parent.mkdir(parents=True, exist_ok=True)
    state = run.model.encoder.state_dict()
    save_file({name: part.contiguous() for name, part in state.items()}, path, {"format": "pt"})
    found = {
        "accuracy": run.log[-1]["accuracy"],
        "cpu_seconds": round(run.cpu_seconds, 1),
        "machine": studies.cpu_name(),
    }
    files.write_json(RESULTS / "backbone.json", BACKBONE | found)


def train_rows(work: Path, hub: Path, seeds: int) -> None:
    """Do what the guide says, in the folder that holds the photographs."""
    words = [f"-p={name}={str(value).lower() if value is True else value}" for name, value in TRAINING.items()]  # fmt: skip
    rows = [word for row in ROWS for word in ("--only", row)]
    command = [sys.executable, "-m", "genscl_lite", "train", PRESET, *rows]
    subprocess.run(
        [*command, "--seeds", str(seeds), "--out", "runs/photos", *words],
        cwd=work,
        env=os.environ | {"HF_HUB_CACHE": str(hub), "HF_HUB_OFFLINE": "1"},
        check=True,
    )


def predict_new(work: Path) -> None:
    """Write what each run says of the new photographs."""
    names = [str(path) for path in sorted((work / "new").glob("*/*.png"))]
    said = {"labels": np.array([CLASSES.index(Path(name).parent.name) for name in names], np.uint8)}
    for row, seed, path in run_files(work / "runs" / "photos", "model.safetensors"):
        encoder = Encoder.load(path, studies.CPU)
        numbers = [encoder.class_names.index(name) for name in encoder.predict(names)]
        said[f"{row}/seed{seed}"] = np.array(numbers, np.uint8)
    files.write_arrays(RESULTS / "new.npz", **said)


def render() -> str:
    """Render accuracies and retrieval by row, their difference, and recall by class of the new photographs."""
    with np.load(RESULTS / "new.npz") as found:
        said = dict(found)
    labels, runs = said.pop("labels"), read_summaries(RESULTS)
    there = [row for row in ROWS if f"{row}/seed0" in said]
    right = {
        row: np.stack([said[name] == labels for name in sorted(said) if name.startswith(f"{row}/")])
        for row in there
    }
    rows, classes = [], []
    for row in there:
        own, title = runs[runs.method == row], METHODS[row].title
        measured = [own.accuracy_last, right[row].mean(axis=1), own.recall_at_1, own.mean_average_precision]  # fmt: skip
        shown = [studies.with_interval(100 * values, ".1f") for values in measured]
        rows.append([title, *shown, f"{own.cpu_seconds.mean():.0f}"])
        recalls = [right[row][:, labels == c].mean() for c in range(len(CLASSES))]
        classes.append([title, *(f"{100 * recall:.1f}" for recall in recalls)])
    kept, seeds = sum(runs.by_class[0][name]["images"] for name in CLASSES), len(right[there[0]])
    head = ["row", f"{kept} kept, %", f"{len(labels)} new, %", "recall at 1, %", "mean average precision, %", "s of a core"]  # fmt: skip
    found = runs.pivot_table(index="seed", columns="method", values="mean_average_precision")
    *others, last = there
    lines = [
        f"- {METHODS[last].title} minus {METHODS[row].title} on the new images, over {seeds} seeds and all images: "
        f"{_decided(bootstrap_interval(right[last], right[row]))}. In a search among the kept ones "
        f"(mean average precision): {_decided(t_interval(found[last] - found[row]))}."
        for row in others
    ]
    recalled = markdown_table(["recall of the new images, %", *CLASSES], classes)
    return "\n".join([markdown_table(head, rows), "", *lines, "", recalled])


def _decided(found: Interval) -> str:
    word = "higher" if found.low > 0 else "lower" if found.high < 0 else "undecided"
    return f"{points(found.mean)} points ({points(found.low, found.high)}): {word}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("work", type=Path, help="folder for photographs, backbone and runs")
    parser.add_argument("--data-root", help="folder of CIFAR's files")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args(arguments)
    work = options.work.resolve()
    hub = work / "hub"
    if not (work / "new").exists():
        write_photos(work, options.data_root)
    if not (weights := weights_file(hub)).exists():
        train_backbone(weights, work, options.data_root)
    train_rows(work, hub, options.seeds)
    keep_results(work / "runs" / "photos", RESULTS, embeddings=False)
    predict_new(work)
    print(render())
    return 0


if __name__ == "__main__":
    sys.exit(main())
