import functools

import pandas as pd
import pytest
import torch

from genscl_lite.datasets import files
from genscl_lite.losses import gen_supcon_loss
from tests.benchmarks import loss, step, timing

CPU = torch.device("cpu")


def test_the_loss_benchmark_runs_and_leaves_its_files(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        loss, "seconds_in_turns", functools.partial(timing.seconds_in_turns, seconds=0.1)
    )
    assert (
        loss.main(
            [
                "--device",
                "cpu",
                "--rows",
                "64",
                "128",
                "--classes",
                "3",
                "--out",
                str(tmp_path),
            ]
        )
        == 0
    )
    printed = capsys.readouterr().out
    written = files.read_json(tmp_path / "loss.json")
    records = pd.DataFrame(written["records"])
    assert set(records.contender) == {*loss.contenders(CPU), loss.FLOOR}
    assert (records.seconds > 0).all() and (records.peak_bytes > 0).all() and written["device"]
    assert loss.render(records, 3) in printed and (tmp_path / "loss.png").stat().st_size > 0


def test_what_was_measured_before_an_end_by_force_is_kept(tmp_path, monkeypatch):
    def measure(rows, *_):
        if rows == 128:
            raise KeyboardInterrupt
        return [
            {
                "contender": loss.OURS,
                "rows": rows,
                "classes": 3,
                "seconds": 1.0,
                "runs": 3,
                "peak_bytes": 9,
            }
        ]

    monkeypatch.setattr(loss, "measure", measure)
    with pytest.raises(KeyboardInterrupt):
        loss.main(
            [
                "--device",
                "cpu",
                "--rows",
                "64",
                "128",
                "--classes",
                "3",
                "--out",
                str(tmp_path),
            ]
        )
    assert [record["rows"] for record in files.read_json(tmp_path / "loss.json")["records"]] == [64]


@pytest.mark.parametrize(
    "mistake",
    [lambda zero: 1e-3 * zero.sum(), lambda zero: zero.abs().sum().sqrt()],
    ids=["number", "NaN"],
)
def test_a_wrong_gradient_stops_the_benchmark(mistake):
    def wrong(z, y):
        return gen_supcon_loss(z, y) + mistake(z - z.detach())

    with pytest.raises(ValueError, match="GenSCL, dense: relative error .* of loss or gradient"):
        loss.check_agreement({"GenSCL, dense": wrong}, CPU, 5)


def test_the_plain_loss_is_ours():
    z, y = loss.sample(40, 6, CPU)
    assert torch.isclose(loss.plain_soft_label_loss(z, y), gen_supcon_loss(z, y), rtol=1e-6)


def test_peak_memory_is_the_most_held_at_once():
    def step():
        a = torch.empty(1000, 1000)
        b = a + 1
        del a
        return b + 1

    assert abs(timing.peak_bytes(step, CPU) - 2 * 4e6) < 1e4


def test_what_does_not_fit_is_left_out():
    assert loss.fits(loss.OURS, 10**6, CPU) and not loss.fits(loss.PLAIN, 10**6, CPU)


def test_claims_are_ratios_of_the_records():
    names = [loss.OURS, loss.PLAIN, loss.PEER, loss.FLOOR]
    records = pd.DataFrame([
        {"contender": name, "rows": rows, "classes": 10, "seconds": (k + 1) * rows / 8192, "peak_bytes": (k + 1) * rows * 10}
        for k, name in enumerate(names) for rows in (4096, 8192, 16384)
    ])  # fmt: skip
    lines = loss.claims(records)
    assert (
        "M = 8192: pytorch-metric-learning SupConLoss: 3.0 times the time of GenSCL, streamed"
        in lines
    )
    assert "memory of GenSCL, streamed grows as M^1.00 from M = 4096 to 16384" in lines


@pytest.fixture(scope="module")
def steps(tmp_path_factory):
    out = tmp_path_factory.mktemp("step")
    words = [
        "--device",
        "cpu",
        "--arch",
        "resnet_small",
        "--batch",
        "4",
        "--seconds",
        "0.1",
        "--batches",
        "1",
    ]
    assert step.main([*words, "--out", str(out)]) == 0
    return files.read_json(out / "step.json")


def test_the_step_benchmark_measures_steps_parts_and_the_pipeline(steps):
    records = pd.DataFrame(steps["records"])
    parts = {step.MODEL, step.VIEWS, step.TEACHER, step.LOSS, step.OPTIMIZER,
             step.DRAWS, step.PIPELINE, *map(step.whole, step.STEPS)}  # fmt: skip
    assert set(records.part) == parts and (records.seconds > 0).all() and steps["cores"] > 0
    assert ((records.images_per_second * records.seconds - 4).abs() < 1e-6).all()
    of_ceiling = records.set_index("part").of_ceiling.dropna()
    assert (
        set(of_ceiling.index) == {step.MODEL, step.TEACHER, *map(step.whole, step.STEPS)}
        and (of_ceiling < 1).all()
    )


def test_what_is_said_of_a_step_follows_from_the_records():
    whole = [step.whole(method) for method in step.STEPS]
    seconds = dict(zip(whole, (1.0, 1.1, 1.6), strict=True)) | {
        step.MODEL: 0.88,
        step.LOSS: 0.11,
        step.VIEWS: 0.055,
        step.TEACHER: 0.4,
        step.PIPELINE: 12.0,
    }
    records = pd.DataFrame([{"arch": "resnet18", "part": part, "seconds": s, "images_per_second": 4 / s, "peak_bytes": 2**31,
                             "precision": "bfloat16", "ceiling": 4e11, "of_ceiling": 0.7 if part == step.MODEL else None}
                            for part, s in seconds.items()])  # fmt: skip
    lines = step.claims(records)
    for end in ("reaches 90 % of the speed of model and loss alone",
                "reaches 87 % of both's and the teacher's alone",
                "networks in bfloat16, whose products of large matrices reach 400 GFLOP/s here: the ceiling",
                "take 5.0 % of whole step, GenSCL + MixUp-CutMix", "does 12.0 times the images/s of the DataLoader pipeline",
                "needs 2.0 GiB beyond weights and data"):  # fmt: skip
        assert any(line.endswith(end) for line in lines), end
    assert "| model alone, forward and backward | 880 | 4.55 | 55.0 % | 70 % |" in step.render(
        records
    )


def test_a_step_that_learns_something_else_stops_the_benchmark(monkeypatch):
    """As low precision gone wrong would."""
    original = step.step_of

    def broken(config, dataset, teacher, device):
        run, *parts = original(config, dataset, teacher, device)
        if config.precision == "auto":
            run.totals += 0.1
        return run, *parts

    monkeypatch.setattr(step, "step_of", broken)
    with pytest.raises(ValueError, match="resnet_small: the first loss differs by"):
        step.check_step("resnet_small", 4, step.photographs(8), CPU)
