
import pandas as pd
import pytest
import torch

from genscl_lite import benchmark, benchmark_loss
from genscl_lite.losses import gen_supcon_loss

CPU = torch.device("cpu")


def test_the_loss_benchmark_runs_and_leaves_its_files(tmp_path, capsys):
    assert benchmark.main(["loss", "--device", "cpu", "--rows", "64", "128", "--classes", "3", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    written, records = benchmark_loss.load(tmp_path)
    assert set(records.contender) == {*benchmark_loss.contenders(CPU), benchmark_loss.FLOOR}
    assert (records.seconds > 0).all() and (records.peak_bytes > 0).all() and written["device"]
    assert benchmark_loss.render(records, 3) in printed and (tmp_path / "loss.png").stat().st_size > 0


def test_a_wrong_gradient_stops_the_benchmark():
    def wrong(z, y):
        return gen_supcon_loss(z, y) + 1e-3 * (z - z.detach()).sum()

    with pytest.raises(ValueError, match="GenSCL, dense: relative error .* of loss or gradient"):
        benchmark_loss.check_agreement({"GenSCL, dense": wrong}, CPU, 5)


def test_the_plain_loss_is_ours():
    z, y = benchmark_loss.sample(40, 6, CPU)
    assert torch.isclose(benchmark_loss.plain_soft_label_loss(z, y), gen_supcon_loss(z, y), rtol=1e-6)


def test_peak_memory_is_the_most_held_at_once():
    def step():
        a = torch.empty(1000, 1000)
        b = a + 1
        del a
        return b + 1

    assert abs(benchmark.peak_bytes(step, CPU) - 2 * 4e6) < 1e4


def test_what_does_not_fit_is_left_out():
    assert benchmark_loss.fits(benchmark_loss.OURS, 10**6, CPU) and not benchmark_loss.fits(benchmark_loss.PLAIN, 10**6, CPU)


def test_claims_are_ratios_of_the_records():
    names = [benchmark_loss.OURS, benchmark_loss.PLAIN, benchmark_loss.PEER, benchmark_loss.FLOOR]
    records = pd.DataFrame([
        {"contender": name, "rows": rows, "classes": 10, "seconds": (k + 1) * rows / 8192, "peak_bytes": (k + 1) * rows * 10}
        for k, name in enumerate(names) for rows in (4096, 8192, 16384)
    ])  # fmt: skip
    lines = benchmark_loss.claims(records)
    assert "M = 8192: pytorch-metric-learning SupConLoss: 3.0 times the time of GenSCL, streamed" in lines
    assert "memory of GenSCL, streamed grows as M^1.00 from M = 4096 to 16384" in lines
