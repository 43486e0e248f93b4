import copy
from types import SimpleNamespace

import pytest
import torch

from genscl_lite.train import estimate, precision
from genscl_lite.train.estimate import expected_seconds, seconds_of_pass
from genscl_lite.train.loop import pretrain
from genscl_lite.train.networks import build_encoder
from genscl_lite.train.precision import choose_precision, flops_of_pass
from genscl_lite.train.state import new_run

CPU = torch.device("cpu")


@pytest.fixture
def processor(monkeypatch):
    """A processor with these capabilities, for which no network is too small to gain."""

    def make(**capabilities):
        others = {"avx2": True, "cpu_name": "bf16"}
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: others | capabilities)
        monkeypatch.setattr(precision, "FEW_FLOPS", 0)

    return make


@pytest.mark.parametrize(("capabilities", "expected"), [
    ({"amx_bf16": True}, torch.bfloat16),
    ({"avx512_bf16": True, "amx_bf16": False}, torch.bfloat16),
    ({"amx_bf16": False}, torch.float32),  # it would be emulated
    ({}, torch.float32),
])  # fmt: skip
def test_auto_is_bfloat16_if_the_processor_multiplies_in_it(
    capabilities, expected, processor, quick
):
    processor(**capabilities)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
    for asked, got in (
        ("auto", expected),
        ("float32", torch.float32),
        ("bfloat16", torch.bfloat16),
    ):
        assert choose_precision(quick(precision=asked), model, (1, 8, 8), CPU) == got


@pytest.mark.parametrize("has", [True, False])
def test_a_gpu_answers_for_itself(has, quick, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has)
    chosen = choose_precision(quick(precision="auto"), None, (1, 8, 8), torch.device("cuda"))
    assert chosen == (torch.bfloat16 if has else torch.float32)


def test_one_process_that_lacks_it_is_enough_for_float32(processor, quick, monkeypatch):
    processor(amx_bf16=True)
    monkeypatch.setattr(precision.processes, "any_process", lambda lacks, device: True)
    model = build_encoder("convnet_small", 3)
    assert choose_precision(quick(precision="auto"), model, (3, 32, 32), CPU) == torch.float32


def test_small_networks_stay_in_float32(processor, quick, monkeypatch):
    few = precision.FEW_FLOPS
    processor(amx_bf16=True)
    monkeypatch.setattr(precision, "FEW_FLOPS", few)
    small, large = build_encoder("resnet_small", 1), build_encoder("convnet_small", 3)
    linear = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
    assert flops_of_pass(linear, (1, 8, 8)) == 2 * 64 * 3
    assert choose_precision(quick(precision="auto"), small, (1, 8, 8), CPU) == torch.float32
    assert choose_precision(quick(precision="auto"), large, (3, 32, 32), CPU) == torch.bfloat16


def test_a_run_keeps_the_precision_it_was_begun_with(processor, quick, digits, tmp_path):
    processor(amx_bf16=True)
    whole = pretrain(quick(precision="auto"), digits, tmp_path / "whole")
    assert whole.dtype == torch.bfloat16
    pretrain(
        quick(precision="auto"),
        digits,
        tmp_path / "cut",
        on_epoch=lambda run: copy_first(tmp_path, run),
    )
    processor()  # as if it went on elsewhere
    resumed = pretrain(quick(precision="auto"), digits, tmp_path / "first")
    assert resumed.dtype == torch.bfloat16 and resumed.epoch == 3
    assert [row["loss"] for row in resumed.log] == [row["loss"] for row in whole.log]


def copy_first(tmp_path, run):
    if run.epoch == 1:
        target = tmp_path / "first"
        target.mkdir()
        for name in ("config.json", "checkpoint.pt"):
            (target / name).write_bytes((tmp_path / "cut" / name).read_bytes())


def test_timing_changes_neither_the_model_nor_what_is_drawn(quick, digits):
    model = new_run(quick(precision="float32"), digits, None, CPU).model
    before, drawn = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    assert 0 < seconds_of_pass(model, (1, 8, 8), torch.float32, CPU) < 10
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), drawn)


def test_a_slow_network_is_timed_once(monkeypatch):
    passes = []
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
    model.register_forward_hook(lambda *_: passes.append(1))
    monkeypatch.setattr(estimate, "SECONDS", 0.0)
    seconds_of_pass(model, (1, 8, 8), torch.float32, CPU)
    once = len(passes)
    monkeypatch.setattr(estimate, "SECONDS", 1e9)
    seconds_of_pass(model, (1, 8, 8), torch.float32, CPU)
    assert (once, len(passes) - once) == (1, estimate.ROUNDS)


def test_all_processes_time_equally_many_passes(monkeypatch):
    """They wait for each other in BatchNorm, so none may stop by its own clock."""
    passes, asked = [], []
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
    model.register_forward_hook(lambda *_: passes.append(1))
    monkeypatch.setattr(
        estimate.processes, "any_process", lambda says, _: asked.append(says) or len(asked) == 3
    )
    seconds_of_pass(model, (1, 8, 8), torch.float32, CPU)
    assert len(passes) == 3


def test_the_time_a_run_takes_is_said_before_its_first_step(quick, digits, monkeypatch):
    said = []
    run = pretrain(
        quick(), digits, on_start=lambda run, seconds: said.append((run.epoch, run.step, seconds))
    )
    assert said[0][:2] == (0, 0) and 0.02 * run.seconds < said[0][2] < 50 * run.seconds
    monkeypatch.setattr(estimate, "seconds_of_pass", lambda *words: float(words[-1]))
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
