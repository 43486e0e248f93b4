import copy
from types import SimpleNamespace

import pytest
import torch

from genscl_lite.train import precision
from genscl_lite.train.estimate import expected_seconds
from genscl_lite.train.loop import pretrain
from genscl_lite.train.networks import build_encoder
from genscl_lite.train.precision import choose_precision, flops_of_pass, seconds_of_pass
from genscl_lite.train.state import new_run

CPU = torch.device("cpu")


@pytest.fixture
def processor(monkeypatch):
    """A processor that has bfloat16, or not, and needs so many seconds for a pass in float32 and in bfloat16."""

    def make(seconds, **capabilities):
        monkeypatch.setattr(
            torch.cpu, "get_capabilities", lambda: {"avx2": True, "cpu_name": "bf16"} | capabilities
        )
        monkeypatch.setattr(precision, "seconds_of_pass", lambda *_: seconds)
        monkeypatch.setattr(precision, "FEW_FLOPS", 0)

    return make


@pytest.mark.parametrize(("seconds", "capabilities", "expected"), [
    ([1.0, 0.5], {"amx_bf16": True}, torch.bfloat16),
    ([1.0, 0.5], {"avx512_bf16": True, "amx_bf16": False}, torch.bfloat16),
    ([1.0, 0.5], {"amx_bf16": False}, torch.float32),  # it would be emulated
    ([1.0, 0.5], {}, torch.float32),
    ([1.0, 0.8], {"amx_bf16": True}, torch.bfloat16),  # as on a busy machine
    ([1.0, 0.95], {"amx_bf16": True}, torch.float32),  # not clearly quicker
])  # fmt: skip
def test_auto_is_bfloat16_where_the_processor_has_it_and_it_is_quicker(
    seconds, capabilities, expected, processor, quick
):
    processor(seconds, **capabilities)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
    for asked, got in (
        ("auto", expected),
        ("float32", torch.float32),
        ("bfloat16", torch.bfloat16),
    ):
        assert choose_precision(quick(precision=asked), model, (1, 8, 8), CPU) == got


def test_small_networks_stay_in_float32_without_a_look_at_the_clock(processor, quick, monkeypatch):
    processor([1.0, 0.1], amx_bf16=True)
    monkeypatch.setattr(precision, "FEW_FLOPS", 10e6)
    small, large = build_encoder("resnet_small", 1), build_encoder("convnet_small", 3)
    assert (
        flops_of_pass(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3)), (1, 8, 8))
        == 2 * 64 * 3
    )
    assert choose_precision(quick(precision="auto"), small, (1, 8, 8), CPU) == torch.float32
    assert choose_precision(quick(precision="auto"), large, (3, 32, 32), CPU) == torch.bfloat16


def test_a_run_keeps_the_precision_it_was_begun_with(processor, quick, digits, tmp_path):
    processor([1.0, 0.5], amx_bf16=True)
    whole = pretrain(quick(precision="auto"), digits, tmp_path / "whole")
    assert whole.dtype == torch.bfloat16
    pretrain(
        quick(precision="auto"),
        digits,
        tmp_path / "cut",
        on_epoch=lambda run: copy_first(tmp_path, run),
    )
    processor(None, amx_bf16=True)  # a clock that is looked at fails
    resumed = pretrain(quick(precision="auto"), digits, tmp_path / "first")
    assert resumed.dtype == torch.bfloat16 and resumed.epoch == 3
    assert [row["loss"] for row in resumed.log] == [row["loss"] for row in whole.log]


def copy_first(tmp_path, run):
    if run.epoch == 1:
        target = tmp_path / "first"
        target.mkdir()
        for name in ("config.json", "checkpoint.pt"):
            (target / name).write_bytes((tmp_path / "cut" / name).read_bytes())


def test_a_run_of_before_goes_on_in_float32(processor, quick, digits):
    run = new_run(quick(precision="auto"), digits, None, CPU)
    state = run.state_dict()
    del state["progress"]["dtype"]
    processor([1.0, 0.5], amx_bf16=True)
    other = new_run(quick(precision="auto"), digits, None, CPU)
    assert other.dtype == torch.bfloat16
    other.load_state_dict(state)
    assert other.dtype == torch.float32


def test_types_are_compared_by_the_processors_own_time(monkeypatch):
    """Beside other work the clock on the wall says little."""
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
    ticks = iter(range(10**6))
    monkeypatch.setattr(precision.time, "process_time", lambda: next(ticks))
    monkeypatch.setattr(precision, "FEW_FLOPS", 0)
    precision._is_quicker(model, (1, 8, 8))
    assert next(ticks) == 4 * precision.ROUNDS  # two types, each begun and ended


def test_timing_changes_neither_the_model_nor_what_is_drawn(quick, digits):
    model = new_run(quick(precision="float32"), digits, None, CPU).model
    before, drawn = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    assert all(
        0 < seconds < 10 for seconds in seconds_of_pass(model, (1, 8, 8), (torch.float32,) * 2, CPU)
    )
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), drawn)


def test_a_slow_network_is_timed_once(monkeypatch):
    passes = []
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
    model.register_forward_hook(lambda *_: passes.append(1))
    monkeypatch.setattr(precision, "SECONDS", 0.0)
    seconds_of_pass(model, (1, 8, 8), (torch.float32,) * 2, CPU)
    once = len(passes)
    monkeypatch.setattr(precision, "SECONDS", 1e9)
    seconds_of_pass(model, (1, 8, 8), (torch.float32,) * 2, CPU)
    assert (once, len(passes) - once) == (2, 2 * precision.ROUNDS)


def test_the_time_a_run_takes_is_said_before_its_first_step(quick, digits, monkeypatch):
    said = []
    run = pretrain(
        quick(), digits, on_start=lambda run, seconds: said.append((run.epoch, run.step, seconds))
    )
    assert said[0][:2] == (0, 0) and 0.02 * run.seconds < said[0][2] < 50 * run.seconds
    monkeypatch.setattr(
        "genscl_lite.train.estimate.seconds_of_pass", lambda *_: [float(precision.ROWS)]
    )
    run.epoch = 0  # 3 batches of 12 images in 2 views, an image a second and a quarter
    assert expected_seconds(run, 30, (1, 8, 8)) == 1.25 * 3 * 24 * 3
    run.epoch, run.seconds = 2, 10.0
    assert expected_seconds(run, 30, (1, 8, 8)) == 5.0


def test_memory_is_kept_where_glibc_is(monkeypatch):
    from genscl_lite.train import memory

    asked = []
    library = SimpleNamespace(mallopt=lambda *setting: asked.append(setting))
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: library)
    for name, settings in (("glibc", [(-3, 2**25), (-1, 2**31 - 1)]), ("", []), ("musl", [])):
        monkeypatch.setattr(memory.platform, "libc_ver", lambda name=name: (name, "2"))
        asked.clear()
        memory.keep_freed_memory()
        assert asked == settings
