import pytest
import torch

from genscl_lite.losses import gen_supcon_loss
from tests import forked
from tests.core.two_processes import compare


def test_two_processes_equal_one(tmp_path):
    agent = forked.start_two(compare, printed=tmp_path / "printed")
    agent.join(300)
    printed = (tmp_path / "printed").read_text()
    assert agent.exitcode == 0, printed
    assert "process 0 agrees" in printed and "process 1 agrees" in printed


def test_gathering_needs_a_process_group():
    with pytest.raises(ValueError, match="gather: torch.distributed is not initialised"):
        gen_supcon_loss(torch.randn(4, 3), torch.arange(4), gather=True)
