import os
import subprocess
import sys

import pytest
import torch

from genscl_lite.losses import gen_supcon_loss
from genscl_lite.runs.paths import PROJECT


def test_two_processes_equal_one():
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
               "tests/core/processes.py"]
    run = subprocess.run(command, cwd=PROJECT, env=os.environ | {"PYTHONPATH": str(PROJECT)}, timeout=300,
                         capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "process 0 agrees" in run.stdout and "process 1 agrees" in run.stdout


def test_gathering_needs_a_process_group():
    with pytest.raises(ValueError, match="gather: torch.distributed is not initialised"):
        gen_supcon_loss(torch.randn(4, 3), torch.arange(4), gather=True)
