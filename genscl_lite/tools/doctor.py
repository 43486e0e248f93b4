"""Is this machine ready? ``genscl check`` reports packages, GPU and data, with the command that mends each
problem.

Nothing beyond Python's own library is imported before it is looked at, so that a broken torch is a line of
the report.
"""

import argparse
import importlib
import importlib.metadata
import os
import re
import sys
from dataclasses import dataclass

OK, NOTE, PROBLEM = "ok", "note", "problem"
BOTH_TORCHES = "pip install --upgrade torch torchvision"
PACKAGE = "genscl-lite"


@dataclass(frozen=True)
class Finding:
    """A line of the report. A ``PROBLEM`` must be mended by ``fix``; a ``NOTE`` may be."""

    name: str
    status: str
    text: str
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.status:<8} {self.name}: {self.text}" + (f"; fix: {self.fix}" if self.fix else "")


def check_python(version: tuple = tuple(sys.version_info)) -> Finding:
    """Look at the version of Python.

    >>> print(check_python((3, 9, 1)))
    problem  Python: 3.9.1, and 3.11 or newer is needed; fix: make an environment with it: conda env create -f
    environment.yml
    """
    number = ".".join(str(part) for part in version[:3])
    if version >= (3, 11):
        return Finding("Python", OK, number)
    fix = "make an environment with it: conda env create -f environment.yml"
    return Finding("Python", PROBLEM, f"{number}, and 3.11 or newer is needed", fix)


def required() -> list[tuple[str, str]]:
    """Return (requirement, extra) of each package that this one asks for; the extra is "" for what the loss
    needs."""
    found = []
    for text in importlib.metadata.requires(PACKAGE) or []:
        wanted, _, marker = text.partition(";")
        extra = re.search(r"extra == ['\"](\w+)['\"]", marker)
        if not wanted.startswith(PACKAGE):
            found.append((wanted.strip(), extra.group(1) if extra else ""))
    return found


def check_package(wanted: str, extra: str = "") -> Finding:
    """Look whether a package is installed, in a version that ``wanted`` ("torch>=2.11") allows; it is not
    imported."""
    name = re.match(r"[\w.-]+", wanted).group()
    fix = BOTH_TORCHES if name in ("torch", "torchvision") else f"pip install --upgrade {name}"
    version = installed(name)
    if version is None and extra == "test":
        return Finding(name, NOTE, "not installed; only the tests need it", fix)
    if version is None:
        return Finding(name, PROBLEM, "not installed", fix)
    if not allows(wanted, version):
        return Finding(name, PROBLEM, f"{version}, and {wanted} is needed", fix)
    return Finding(name, OK, version)


def check_torch_pair() -> Finding:
    """Look whether torchvision was made for the torch that is installed, and whether both can be imported."""
    name = "torch with torchvision"
    torch, torchvision = installed("torch"), installed("torchvision")
    if torch is None or torchvision is None:
        return Finding(name, PROBLEM, "not both installed", BOTH_TORCHES)
    for text in importlib.metadata.requires("torchvision") or []:
        if re.match(r"torch(?![\w.-])", text) and not allows(text, torch):
            text = f"torchvision {torchvision} is made for {text}, and torch is {torch}"
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
        return Finding("GPU", NOTE, "none, this torch is built without CUDA: CPU, fine for the notebooks")
    try:
        torch.cuda.init()
        gpu = torch.cuda.get_device_properties(0)
    except Exception as error:  # no driver, an old one, no GPU: torch has several kinds of errors for them
        why = first_line(error).partition(". ")[0]
        built = f"none, though this torch is built for CUDA {torch.version.cuda} ({why})"
        fix = "if there is a GPU, install or update NVIDIA's driver until nvidia-smi shows it"
        return Finding("GPU", NOTE, f"{built}: CPU, fine for the notebooks", fix)
    half = "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no bfloat16"
    more = f", the first of {torch.cuda.device_count()}" if torch.cuda.device_count() > 1 else ""
    return Finding("GPU", OK, f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB, {half}{more}")


def check_cores() -> Finding:
    """Count the CPU cores that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return Finding("CPU cores", OK, str(cores))


def check_data() -> list[Finding]:
    """Look for the data sets: digits come with scikit-learn, CIFAR is downloaded; the md5 of its files is
    checked."""
    if error := import_error("genscl_lite.datasets"):
        return [
            Finding(
                "data", PROBLEM, f"import genscl_lite.datasets fails ({error})", "mend the problems above"
            )
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


def check_all() -> list[Finding]:
    """Make all findings, in the order of the report."""
    try:
        packages = [check_package(wanted, extra) for wanted, extra in required()]
    except importlib.metadata.PackageNotFoundError:
        packages = [Finding(PACKAGE, PROBLEM, "not installed", "pip install -r requirements.txt")]
    return [check_python(), *packages, check_torch_pair(), check_device(), check_cores(), *check_data()]


def installed(package: str) -> str | None:
    """Return the version of an installed package, or None.

    >>> installed("no-such-package") is None
    True
    """
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def allows(text: str, version: str) -> bool:
    """Return whether a requirement allows a version, previews of it too.

    >>> allows("torch==2.11.0", "2.11.0+cpu"), allows("torch>=2.11", "2.10.1")
    (True, False)
    """
    try:
        from packaging.requirements import Requirement
    except ImportError:  # its absence is a line of its own
        return True
    return Requirement(text).specifier.contains(version, prereleases=True)


def import_error(module: str) -> str:
    """Import a module and return "", or the first line of what went wrong.

    >>> import_error("json"), import_error("no_such_module")
    ('', "No module named 'no_such_module'")
    """
    try:
        importlib.import_module(module)
    except (
        Exception
    ) as error:  # a wrong pair of torch and torchvision raises RuntimeError, a broken library OSError
        return first_line(error)
    return ""


def first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def main(arguments: list[str] | None = None) -> int:
    """Be ``genscl check``: print the report; return 0 if nothing that is required is missing, else 1."""
    argparse.ArgumentParser(prog="genscl check", description="Say whether this machine is ready.").parse_args(
        arguments
    )
    findings = check_all()
    for finding in findings:
        print(finding)
    problems = sum(finding.status == PROBLEM for finding in findings)
    print(f"not ready: {problems} to mend" if problems else "ready")
    return 1 if problems else 0
