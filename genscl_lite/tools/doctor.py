"""Is this machine ready? ``genscl check`` reports packages, GPU and data, and what mends each problem.

Only Python's own library is imported before it is looked at: a broken torch is a line of the report.
"""

import argparse
import importlib
import importlib.metadata
import re
import sys
from typing import NamedTuple

OK, NOTE, PROBLEM = "ok", "note", "problem"
BOTH_TORCHES = "pip install --upgrade torch torchvision"


class Finding(NamedTuple):
    """A line of the report. A ``PROBLEM`` must be mended by ``fix``; a ``NOTE`` may be."""

    name: str
    status: str
    text: str
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.status:<8} {self.name}: {self.text}" + (
            f"; fix: {self.fix}" if self.fix else ""
        )


def check_python(version: tuple = tuple(sys.version_info)) -> Finding:
    """Look at the version of Python."""
    number = ".".join(str(part) for part in version[:3])
    if version >= (3, 11):
        return Finding("Python", OK, number)
    fix = "make an environment with it: conda env create -f environment.yml"
    return Finding("Python", PROBLEM, f"{number}, and 3.11 or newer is needed", fix)


def check_packages() -> list[Finding]:
    """Look at each package that this one requires, by its own metadata, whatever extra it belongs to."""
    try:
        requirements = importlib.metadata.requires("genscl-lite") or []
    except importlib.metadata.PackageNotFoundError:
        return [Finding("genscl-lite", PROBLEM, "not installed", "pip install -r requirements.txt")]
    parts = [text.partition(";") for text in requirements if not text.startswith("genscl-lite[")]
    return [
        check_package(wanted.strip(), for_tests="test" in marker) for wanted, _, marker in parts
    ]


def check_package(wanted: str, for_tests: bool = False) -> Finding:
    """Look whether ``wanted``, as "torch>=2.11", is installed; it is not imported."""
    name = re.match(r"[\w.-]+", wanted).group()
    fix = BOTH_TORCHES if name in ("torch", "torchvision") else f'pip install "{wanted}"'
    version = installed(name)
    if version and allows(wanted, version):
        return Finding(name, OK, version)
    if version:
        return Finding(name, PROBLEM, f"{version}, and {wanted} is needed", fix)
    if for_tests:
        return Finding(name, NOTE, "not installed; only the tests need it", fix)
    return Finding(name, PROBLEM, "not installed", fix)


def check_torch_pair() -> Finding:
    """Look whether torchvision was made for the torch that is installed, and whether both can be imported."""
    name = "torch with torchvision"
    torch, torchvision = installed("torch"), installed("torchvision")
    if not torch or not torchvision:
        return Finding(name, PROBLEM, "not both installed", BOTH_TORCHES)
    for wanted in importlib.metadata.requires("torchvision") or []:
        if re.match(r"torch(?![\w.-])", wanted) and not allows(wanted, torch):
            text = f"torchvision {torchvision} is made for {wanted}, and torch is {torch}"
            return Finding(name, PROBLEM, text, BOTH_TORCHES)
    for module in ("torch", "torchvision"):
        if error := import_error(module):
            return Finding(name, PROBLEM, f"import {module} fails ({error})", BOTH_TORCHES)
    return Finding(name, OK, "made for each other")


def check_device() -> Finding:
    """Look for a GPU; to have none is no problem."""
    if import_error("torch"):
        return Finding("GPU", NOTE, "not looked for, as torch cannot be imported")
    import torch

    if not torch.backends.cuda.is_built():
        return Finding(
            "GPU", NOTE, "none, this torch is built without CUDA: CPU, fine for the notebooks"
        )
    try:
        torch.cuda.init()
        gpu = torch.cuda.get_device_properties(0)
    except (
        Exception
    ) as error:  # no driver, an old one, no GPU: torch has several kinds of errors for them
        built = f"none, though this torch is built for CUDA {torch.version.cuda}"
        why = first_line(error).partition(". ")[0]
        fix = "if there is a GPU, install or update NVIDIA's driver until nvidia-smi shows it"
        return Finding("GPU", NOTE, f"{built} ({why}): CPU, fine for the notebooks", fix)
    half = "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no bfloat16"
    more = f", the first of {torch.cuda.device_count()}" if torch.cuda.device_count() > 1 else ""
    return Finding("GPU", OK, f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB, {half}{more}")


def check_cores() -> Finding:
    """Count the CPU cores that this process may use; more threads than cores are slow."""
    if error := import_error("genscl_lite.datasets.cores"):
        return Finding("CPU cores", NOTE, f"not counted ({error})")
    import torch

    from genscl_lite.datasets.cores import usable_cores

    cores, threads = usable_cores(), torch.get_num_threads()
    if threads <= cores:
        return Finding("CPU cores", OK, str(cores))
    return Finding(
        "CPU cores", NOTE, f"{cores}, for {threads} threads", f"export OMP_NUM_THREADS={cores}"
    )


def check_data() -> list[Finding]:
    """Look for digits, which come with scikit-learn, and CIFAR, whose files are compared with their md5."""
    if error := import_error("genscl_lite.datasets"):
        return [
            Finding("data", PROBLEM, f"cannot be looked at ({error})", "mend the problems above")
        ]
    from genscl_lite.datasets import load_dataset
    from genscl_lite.datasets.builtin import ARCHIVES, check_cifar

    digits = load_dataset("digits")
    text = f"{len(digits.train_labels)} images to train, {len(digits.test_labels)} to test"
    findings = [Finding("digits", OK, text)]
    for name in ARCHIVES:
        try:
            findings.append(Finding(name, OK, f"{check_cifar(name)}, md5 right"))
        except FileNotFoundError as error:
            text, _, fix = str(error).removeprefix(f"{name}: ").partition("; ")
            findings.append(Finding(name, NOTE, f"{text} (the notebooks do without)", fix))
    return findings


def installed(package: str) -> str:
    """Return the version of a package, or "" where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


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
        return first_line(error)
    return ""


def first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def main(arguments: list[str] | None = None) -> int:
    """Be ``genscl check``: print the report; return 0 if nothing that is required is missing, else 1."""
    description = (
        "Say whether this machine is ready (packages, GPU, data), or what is in a data set."
    )
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
    parser.add_argument(
        "--strict", action="store_true", help="return 1 also where something is odd"
    )
    options = parser.parse_args(arguments)
    if options.data:
        from genscl_lite.tools.look import look  # here, because it needs packages

        return look(options)
    findings = [
        check_python(),
        *check_packages(),
        check_torch_pair(),
        check_device(),
        check_cores(),
    ]
    findings += check_data()
    print(*findings, sep="\n")
    problems = sum(finding.status == PROBLEM for finding in findings)
    print(f"not ready: {problems} to mend" if problems else "ready")
    return 1 if problems else 0
