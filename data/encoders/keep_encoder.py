"""``python data/encoders/keep_encoder.py RUN cifar10``: keep a finished run as the encoder that comes with a clone.

Writes cifar10.safetensors beside this script, with weights in half precision, and its card, cifar10.md. The
accuracy on the card is measured with the file as it is written.
"""

import argparse
import json
import sys
from pathlib import Path

import safetensors.torch
from safetensors import safe_open

from genscl_lite.datasets import files, load_dataset
from genscl_lite.runs.trained import Encoder
from genscl_lite.train.config import changed_parameters
from genscl_lite.train.evaluate import classifier_accuracy
from genscl_lite.train.methods import METHODS
from genscl_lite.train.weights import weights_path

HERE = Path(__file__).parent
CARD = """# {name}

{title}, trained by GenSCL-lite on {dataset}{labels}, {epochs} epochs, seed {seed}, on {device}: {minutes:.0f} minutes of the processor.

| | test images right, % |
|---|---|
| the run, as its `summary.json` says | {before:.2f} |
| this file, weights in half precision | {after:.2f} |

{chosen}

```bash
genscl predict data/encoders/{name}.safetensors PHOTO...
genscl features data/encoders/{name}.safetensors PHOTO... --out features.npz
```

Photographs are cropped to a square and made {size} x {size} pixels. The classes: {classes}.

Recipe (what is not here has its default): `{recipe}`

Weights: MIT, like the kit. Data: {source}. What it was trained on bounds what it knows: small photographs of {count} things, each
in the middle of its image.
"""
SOURCES = {
    "cifar10": "CIFAR-10 (A. Krizhevsky, 2009), no license stated",
    "digits": "Optical Recognition of Handwritten Digits (E. Alpaydin and C. Kaynak, UCI), CC BY 4.0",
}


def halve(run: Path, out: Path) -> None:
    """Write a run's weights in half precision, with the header as it is."""
    with safe_open(str(run), framework="pt") as file:
        notes = file.metadata()
    state = {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in safetensors.torch.load_file(run).items()
    }
    with files.atomic_write(out) as temporary:
        safetensors.torch.save_file(state, str(temporary), metadata=notes)


def card(name: str, out: Path, chosen: str, root: str | None) -> str:
    """Measure the file on the test images and describe it."""
    encoder = Encoder.load(out, device="cpu")
    config, summary = encoder.config, encoder.summary
    dataset = load_dataset(config.dataset, root)
    probabilities = encoder.probabilities(dataset.test_images)
    labels = config.labels_per_class
    return CARD.format(
        name=name,
        title=METHODS[config.method].title,
        dataset=SOURCES[config.dataset].partition(" (")[0],
        labels=f" with {labels} labels a class" if labels else " with all labels",
        epochs=config.epochs,
        seed=config.seed,
        device=summary["device"],
        minutes=summary["cpu_seconds"] / 60,
        before=100 * summary["accuracy_last"],
        after=100 * classifier_accuracy(probabilities, dataset.test_labels),
        chosen=chosen,
        size=encoder.image_shape[-1],
        classes=", ".join(encoder.class_names),
        recipe=json.dumps(changed_parameters(config)),
        source=SOURCES[config.dataset],
        count=len(encoder.class_names),
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", help="folder of the run (METHOD/seedN)")
    parser.add_argument("name", help="of the files")
    parser.add_argument("--chosen", default="", help="a sentence for the card: why this run")
    parser.add_argument("--data-root", help="folder of CIFAR's files")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of the files")
    options = parser.parse_args(arguments)
    try:
        out = options.out / f"{options.name}.safetensors"
        halve(weights_path(options.run, "run"), out)
        text = card(options.name, out, options.chosen, options.data_root)
        with files.atomic_write(out.with_suffix(".md")) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"written: {out} and {out.with_suffix('.md')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
