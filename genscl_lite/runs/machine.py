"""What a run was made on: processor or GPU, versions, commit."""

import platform
import shutil
import subprocess
from pathlib import Path

import torch
import torchvision

from genscl_lite.runs.paths import PROJECT


def describe_machine(device: torch.device) -> dict:
    """Return device, versions and commit, for ``summary.json``."""
    cuda = device.type == "cuda"
    name = (
        torch.cuda.get_device_name(device)
        if cuda
        else f"{cpu_name()}, threads: {torch.get_num_threads()}"
    )
    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
    }
    return {"device": name, "versions": versions, "git_commit": git_commit()}


def cpu_name() -> str:
    """Return the processor's name as Linux tells it, elsewhere as Python does."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def git_commit() -> str:
    """Return the commit of this checkout; "" if there is none: an installed package, or no git."""
    if not (PROJECT / ".git").exists() or not shutil.which(
        "git"
    ):  # git looks in folders above, too
        return ""
    command = ["git", "-C", PROJECT, "rev-parse", "--verify", "--quiet", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()
