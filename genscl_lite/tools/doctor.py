"""Is this machine ready for README's two commands? ``genscl check`` says so, a line for each thing needed.

Only Python's own library is imported at the top: a broken torch is a line of the report.
"""

import argparse
import importlib
import importlib.metadata
import re
import sys
from typing import NamedTuple

OK, NOTE, PROBLEM = "ok", "note", "problem"
INSTALL = "pip install -r requirements.txt"
BOTH_TORCHES = "pip install --upgrade torch torchvision"


class Finding(NamedTuple):
    """A line of the report. ``fix`` must mend a ``PROBLEM``, and may mend a ``NOTE``."""

    name: str
    status: str
    text: str
    fix: str = ""

    def __str__(self) -> str:
        mend = f"; fix: {self.fix}" if self.fix else ""
        return f"{self.status:<8} {self.name}: {self.text}{mend}"


def check_python(version: tuple = tuple(sys.version_info)) -> Finding:
    number = ".".join(map(str, version[:3]))
    if version >= (3, 11):
        return Finding("Python", OK, number)
    fix = "conda env create -f environment.yml"
    return Finding("Python", PROBLEM, f"{number}, and 3.11 or newer is needed", fix)


def check_packages() -> list[Finding]:
    """Compare each package that this one requires, with all its extras, with what is installed."""
    try:
        requirements = importlib.metadata.requires("genscl-lite") or []
    except importlib.metadata.PackageNotFoundError:
        return [Finding("genscl-lite", PROBLEM, "not installed", INSTALL)]
    parts = [text.partition(";") for text in requirements if "recipes" not in text]
    wanted = [name.strip() for name, _, _ in parts if not name.startswith("genscl-lite[")]
    return [check_package(text) for text in wanted]


def check_package(wanted: str) -> Finding:
    """Look whether ``wanted``, for instance "torch>=2.11", is installed; it is not imported."""
    name = re.match(r"[\w.-]+", wanted).group()
    fix = BOTH_TORCHES if name in ("torch", "torchvision") else f'pip install "{wanted}"'
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, PROBLEM, "not installed", fix)
    if not allows(wanted, version):
        return Finding(name, PROBLEM, f"{version}, and {wanted} is needed", fix)
    return Finding(name, OK, version)


def check_imports() -> list[Finding]:
    """Import what fails although it is installed: a torchvision made for another torch, an old editable install."""
    fixes = {"torch": BOTH_TORCHES, "torchvision": BOTH_TORCHES, "genscl_lessons": INSTALL}
    errors = {name: import_error(name) for name in fixes}
    return [
        Finding(f"import {name}", PROBLEM, error, fixes[name])
        for name, error in errors.items()
        if error
    ]


def check_gpu() -> Finding:
    """Name the GPU; the notebooks need none."""
    if import_error("torch"):
        return Finding("GPU", NOTE, "not looked for, as torch cannot be imported")
    import torch

    if not torch.cuda.is_available():
        fix = "if there is one, install NVIDIA's driver and a torch built for CUDA"
        return Finding("GPU", NOTE, "torch finds none; the notebooks run on a CPU", fix)
    gpu = torch.cuda.get_device_properties(0)
    return Finding("GPU", OK, f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB")


def allows(wanted: str, version: str) -> bool:
    """Return whether a requirement allows a version, previews of it too.

    >>> allows("torch==2.11.0", "2.11.0+cpu"), allows("torch>=2.11", "2.10.1")
    (True, False)
    """
    try:
        from packaging.requirements import Requirement
    except ImportError:  # its absence is a line of its own
        return True
    return Requirement(wanted).specifier.contains(version, prereleases=True)


def import_error(module: str) -> str:
    """Import a module and return "", or the first line of what went wrong.

    >>> import_error("json"), import_error("no_such_module")
    ('', "No module named 'no_such_module'")
    """
    try:
        importlib.import_module(module)
    except Exception as error:  # a wrong torchvision raises RuntimeError, a broken library OSError
        return next(iter(str(error).splitlines()), type(error).__name__)
    return ""


def main(arguments: list[str] | None = None) -> int:
    """Entry point of ``genscl check``. Returns 0 if nothing required is missing, else 1."""
    description = "Say whether this machine is ready, or what is in a data set."
    parser = argparse.ArgumentParser(prog="genscl check", description=description)
    parser.add_argument(
        "data", nargs="?", help="a folder of images, a data set's name, or module:function"
    )
    parser.add_argument("--root", help="folder of CIFAR's files; default: $GENSCL_DATA, or data")
    parser.add_argument(
        "--image-size", type=int, default=64, help="pixels a folder's images become (64)"
    )
    parser.add_argument(
        "-p",
        dest="parameters",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter of a run, such as labels=labels.csv",
    )
    parser.add_argument("--picture", metavar="FILE", help="save some images of each class there")
    parser.add_argument("--strict", action="store_true", help="return 1 also if something is odd")
    options = parser.parse_args(arguments)
    if options.data:
        from genscl_lite.tools.look import look  # here, because it needs packages

        return look(options)
    findings = [check_python(), *check_packages(), *check_imports(), check_gpu()]
    print(*findings, sep="\n")
    problems = sum(finding.status == PROBLEM for finding in findings)
    print(f"not ready: {problems} to mend" if problems else "ready")
    return 1 if problems else 0
