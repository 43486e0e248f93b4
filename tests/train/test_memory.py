"""What is done where memory is small, and where the compiler is broken."""

import os
import subprocess
import sys
import warnings
from contextlib import suppress

import pytest
import torch
from torch import nn

from genscl_lite.runs.finish import finish_run
from genscl_lite.train import loop, memory, processes, state
from genscl_lite.train.loop import pretrain
from genscl_lite.train.state import new_model, wants_compile


def short_of_memory(monkeypatch, most):
    """Let kNN run out of memory with more than ``most`` test images at a time."""
    knn, tried = loop.knn_accuracy, []

    def small(*words, chunk):
        tried.append(chunk)
        if chunk > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return knn(*words, chunk=chunk)

    monkeypatch.setattr(loop, "knn_accuracy", small)
    return tried


def test_fewer_images_are_tested_at_a_time(quick, digits, monkeypatch):
    config = quick("supcon", epochs=2)
    expected = pretrain(config, digits).log[-1]["knn_accuracy"]
    tried = short_of_memory(monkeypatch, most=300)
    with pytest.warns(UserWarning, match="memory: too little on cpu to test 1000 images at a time"):
        run = pretrain(config, digits)
    assert tried == [1000, 250] and run.log[-1]["knn_accuracy"] == expected


@pytest.mark.filterwarnings("ignore:memory")
def test_all_is_saved_where_nothing_helps(quick, digits, tmp_path, monkeypatch):
    """Nothing is trained again; the run ends as one that was never short of memory."""
    config = quick("supcon", epochs=2, checkpoint_every=9)
    expected = pretrain(config, digits)
    with monkeypatch.context() as patched:
        short_of_memory(patched, most=0)
        with pytest.raises(MemoryError, match="out of memory on cpu .* 1 of 2 epochs and 3 steps"):
            pretrain(config, digits, tmp_path)
        with pytest.raises(MemoryError):
            pretrain(config, digits, tmp_path)
    monkeypatch.setattr(loop, "train_step", None)
    run = pretrain(config, digits, tmp_path)
    kept = ("loss", "kl", "knn_accuracy", "learning_rate")
    assert [run.log[-1][k] for k in kept] == [expected.log[-1][k] for k in kept]
    pairs = zip(run.model.state_dict().values(), expected.model.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


class Crowded(nn.Sequential):
    """Has room for so many images at a time."""

    def __init__(self, most):
        torch.manual_seed(3)
        super().__init__(nn.Flatten(), nn.Linear(64, 8))
        self.most = most

    def forward(self, images):
        if len(images) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().forward(images)


@pytest.mark.filterwarnings("ignore:memory")
@pytest.mark.parametrize("read_out", ["converged", "sgd"])
def test_what_was_trained_is_tested_where_memory_is_small(read_out, quick, digits, tmp_path):
    config = quick("supcon", arch="custom", read_out=read_out)
    roomy, small = (
        finish_run(pretrain(config, digits, encoder=Crowded(most)), digits, tmp_path / str(most))
        for most in (10**6, 60)
    )
    assert small["accuracy_last"] == pytest.approx(roomy["accuracy_last"], abs=0.01)
    assert small["accuracy_noise"] == pytest.approx(roomy["accuracy_noise"], abs=0.01)


def test_an_estimate_needs_no_more_than_a_step(quick, digits):
    expected = []
    config = quick("supcon", arch="custom", batch_size=6, eval_every=9)
    with warnings.catch_warnings(action="ignore"), suppress(MemoryError):  # of the tests at the end
        pretrain(config, digits, encoder=Crowded(12), on_start=lambda *its: expected.append(its[1]))
    assert expected[0] > 0


def test_one_of_several_processes_does_not_wait_for_the_others_to_save(quick, digits, monkeypatch):
    run, saved = pretrain(quick(epochs=2), digits), []
    assert "are saved" in memory.batch_too_large(run, lambda: saved.append(1)) and saved == [1]
    monkeypatch.setattr(processes, "world_size", lambda: 2)
    assert "are saved" not in memory.batch_too_large(run, lambda: saved.append(2)) and saved == [1]


def without_batch_norm():
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.GroupNorm(2, 8), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2)
    )


@pytest.mark.parametrize("method", ["genscl_mix", "ce", "genscl_kd", "simclr"])
def test_micro_batches_change_nothing_but_rounding(quick, digits, method, monkeypatch):
    """The largest input of the network is the micro batch; without dropout, which draws anew for each piece."""
    if method == "genscl_kd":
        from genscl_lite.distillation import Teacher

        torch.manual_seed(4)
        teacher = Teacher(new_model(quick("ce"), digits))
    else:
        teacher = None
    runs, seen = [], []
    for micro_batch in (0, 7):
        encoder = without_batch_norm()[:-1]
        encoder.register_forward_pre_hook(lambda _, x: seen.append((_.training, len(x[0]))))
        config = quick(method, arch="custom", micro_batch=micro_batch, learning_rate=0.01)
        seen.clear()
        runs.append(pretrain(config, digits, encoder=encoder, teacher=teacher))
        assert max(n for training, n in seen if training) == (micro_batch or 24)
    for row, other in zip(*(run.log for run in runs), strict=True):
        assert row["loss"] == pytest.approx(other["loss"], rel=1e-4)
    pairs = zip(*(run.model.parameters() for run in runs), strict=True)
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in pairs)


def test_micro_batches_need_images_by_themselves(quick, digits):
    with pytest.raises(ValueError, match="micro_batch: encoder.stem.1 is a BatchNorm"):
        pretrain(quick(micro_batch=4), digits)
    with pytest.raises(ValueError, match="micro_batch: genscl_mix_queue contrasts with a queue"):
        quick("genscl_mix_queue", micro_batch=4)
    encoder = new_model(quick(), digits).encoder
    frozen = quick("ce", arch="custom", encoder_lr_scale=0.0, micro_batch=4)
    assert pretrain(frozen, digits, encoder=encoder).epoch == 3


def test_a_broken_compiler_is_one_line(quick, digits, monkeypatch):
    """Always is an error, auto goes on without."""

    def broken(*_, **__):
        raise RuntimeError("no compiler\nand much more")

    monkeypatch.setattr(torch, "compile", broken)
    monkeypatch.setattr(state, "flops_of_pass", lambda *_: 1e12)
    state.why_not_compiled.cache_clear()
    gpu, words = torch.device("cuda"), (new_model(quick(), digits), digits.image_shape)
    with pytest.raises(ValueError, match=r"compile: torch.compile does not work .* no compiler\);"):
        wants_compile(quick(compile="always"), *words, gpu)
    with pytest.warns(UserWarning, match="compile: not done, .*RuntimeError: no compiler"):
        assert not wants_compile(quick(), *words, gpu)
    state.why_not_compiled.cache_clear()


@pytest.mark.slow
def test_the_command_line_says_so(tmp_path):
    words = "digits --only supcon --seeds 1 -p epochs=1 -p warmup_epochs=0 -p compile=always"
    run = subprocess.run(
        [sys.executable, "-m", "genscl_lite", "train", *words.split(), "--out", "x"],
        cwd=tmp_path,
        env=os.environ
        | {"CXX": "/nonexistent", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 2
    assert run.stderr.splitlines()[-1].startswith("error: compile: torch.compile does not work")
    assert "Traceback" not in run.stderr
