import pytest
import torch

from genscl_lite.losses import gen_supcon_loss
from tests.core import two_processes
from tests.processes import finish, start_two


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path):
    agent = start_two(two_processes.__file__, printed=tmp_path / "printed")
    printed = finish(agent, tmp_path / "printed")
    assert "process 0 agrees" in printed and "process 1 agrees" in printed


def test_gathering_needs_a_process_group():
    with pytest.raises(
        ValueError, match="gather_distributed: torch.distributed is not initialized"
    ):
        gen_supcon_loss(torch.randn(4, 3), torch.arange(4), gather_distributed=True)
