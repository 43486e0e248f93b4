"""What a run was made on: processor or GPU, versions, commit."""

import platform
import subprocess
from pathlib import Path

import torch
import torchvision

from genscl_lite.runs.paths import PROJECT


def machine(device: torch.device) -> dict:
    """Return device, versions and commit, for ``summary.json``."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{cpu_name()}, threads: {torch.get_num_threads()}"
    versions = {"python": platform.python_version(), "torch": torch.__version__, "torchvision": torchvision.__version__}
    try:
        commit = subprocess.run(["git", "-C", PROJECT, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        commit = commit.stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # not a checkout, or no git
        commit = ""
    return {"device": name, "versions": versions, "git_commit": commit}


def cpu_name() -> str:
    """Return the processor's name as Linux tells it, elsewhere as Python does."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
