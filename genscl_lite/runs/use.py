"""The commands that use a finished run on images of your own.

genscl predict RUN FILE...                     prints file, class and probability
genscl features RUN FILE... --out OUT.npz      writes features (N, F) and files (N,)
genscl export RUN OUT.safetensors              writes the encoder, and OUT.json beside it
genscl export RUN OUT.onnx --onnx              writes the model, and OUT.json beside it
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from genscl_lite.datasets import files
from genscl_lite.datasets.listing import find_images
from genscl_lite.runs.onnx import export_onnx
from genscl_lite.runs.trained import Encoder
from genscl_lite.train.device import default_device, read_device

AT_A_TIME = 64
"""Files that a command reads before it prints what they are."""
COMMANDS = {
    "predict": "Print file, class and probability of each image.",
    "features": "Write features (N, F) and files (N,).",
    "export": "Write the encoder alone, or the model as ONNX, and a .json beside it.",
}


def main(command: str, arguments: list[str] | None = None) -> int:
    """Run one of ``COMMANDS``; return 0, 1 if some files cannot be read, or 2 after a one-line error."""
    options = make_parser(command).parse_args(arguments)
    try:
        if command == "features" and options.out.suffix != ".npz":
            raise ValueError(f"--out: expected a file name ending in .npz, got {options.out}")
        device = read_device(options.device) if options.device else default_device()
        encoder = Encoder.load(options.run, device)
        if command == "export":
            write = partial(export_onnx, encoder) if options.onnx else encoder.export
            write(options.out)
            print(f"written: {options.out} and {options.out.with_suffix('.json')}")
            return 0
        return answer(command, encoder, options)
    except (ValueError, OSError, MemoryError) as error:
        print_error(error)
        return 2


def make_parser(command: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"genscl {command}", description=COMMANDS[command])
    add = parser.add_argument
    add("run", help="folder of the run (METHOD/seedN), or its model.safetensors")
    if command == "export":
        add("out", type=Path, metavar="OUT")
        add("--onnx", action="store_true", help="write OUT.onnx, which also names the classes")
        parser.set_defaults(device=None)
        return parser
    words = "image, folder of images, or pattern such as 'a/*.png'"
    add("files", nargs="+", metavar="FILE", help=words)
    add("--device", help="cpu, cuda, cuda:1 or mps; default: the GPU if there is one")
    if command == "features":
        add("--out", required=True, type=Path, help="file .npz")
    return parser


def answer(command: str, encoder: Encoder, options: argparse.Namespace) -> int:
    """Print the class, or write the features, of each file that can be read, and name the others."""
    names = find_images(options.files)
    ask = encoder.probabilities if command == "predict" else encoder.features
    read, features = [], []
    for name, row in each_readable(ask, names):
        if isinstance(row, ValueError):
            print_error(row)
            continue
        read.append(name)
        if command == "predict":
            confidence, number = row.max(dim=0)
            words = (printable(text) for text in (name, encoder.class_names[number]))
            print(*words, f"{confidence:.4f}", sep="\t")
        else:
            features.append(row)
    if features:
        arrays = {"features": torch.stack(features).cpu().numpy(), "files": np.array(read)}
        files.write_arrays(options.out, **arrays)
        print(f"written: {options.out}")
    if not read:
        return 2
    if len(read) < len(names):
        bad = len(names) - len(read)
        print(f"{bad} of {len(names)} files could not be read", file=sys.stderr)
        return 1
    return 0


def each_readable(
    ask: Callable[[list[str]], Tensor], names: list[str]
) -> Iterator[tuple[str, Tensor | ValueError]]:
    """Give each file's row of the answer, in order, or the error that says why it cannot be read."""
    for start in range(0, len(names), AT_A_TIME):
        part = names[start : start + AT_A_TIME]
        try:
            yield from zip(part, ask(part), strict=True)
        except (ValueError, OSError):  # one of them: all are asked for by themselves
            for name in part:
                try:
                    yield name, ask([name])[0]
                except (ValueError, OSError) as error:
                    yield name, ValueError(str(error))


def print_error(error: Exception) -> None:
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)


def printable(text: str) -> str:
    return text if text.isprintable() else ascii(text)


predict, features, export = (partial(main, command) for command in COMMANDS)
