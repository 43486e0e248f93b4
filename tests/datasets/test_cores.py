"""Cores shared out among processes, with what was inherited."""

import multiprocessing
import os

import joblib
import pytest
import torch

from genscl_lite.datasets import cores
from genscl_lite.datasets.images import ImageFiles
from genscl_lite.train import processes

NAMES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "LOCAL_WORLD_SIZE",
    "WORLD_SIZE",
    cores.SIDE_BY_SIDE,
)


@pytest.fixture
def machine(monkeypatch):
    """Pretend to have so many cores, and an environment of these variables alone; all of it is undone."""

    def pretend(count=64, **environment):
        monkeypatch.setattr(joblib, "cpu_count", lambda: count)
        for name in NAMES:
            monkeypatch.setenv(name, "")  # so that it is put back also where it was not there
            monkeypatch.delenv(name)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)

    return pretend


@pytest.mark.parametrize(
    "inherited, count, workers, threads",
    [
        (None, 2, 2, "1"), ("2", 2, 2, "1"), ("1", 2, 2, "1"), ("64", 2, 2, "1"), ("64", 2, 1, "2"), ("1", 64, 4, "1"),
        ("2", 64, 4, "2"), ("64", 64, 4, "16"), (None, 2, 8, "1"), ("abc", 8, 2, "4"), ("4,2", 16, 2, "4"), ("", 8, 2, "4"),
        ("0", 8, 2, "4"), ("-3", 8, 2, "4"), (" 3 ", 8, 2, "3"), ("9" * 5000, 8, 2, "4"),
    ],
)  # fmt: skip
def test_kernels_have_no_more_threads_than_cores(inherited, count, workers, threads, machine):
    """A smaller number that is inherited stays, a larger one does not, and nonsense is passed over."""
    names = NAMES[:3]
    machine(count, **({} if inherited is None else dict.fromkeys(names, inherited)))
    before = dict(os.environ)
    with cores.limited_threads(workers):
        assert [os.environ.get(name) for name in names] == [
            threads,
            *[None if inherited is None else threads] * 2,
        ]
    assert dict(os.environ) == before


@pytest.mark.parametrize(
    "count, environment, threads, decoders, at_most",
    [
        (2, {}, 2, 2, 2),
        (64, {}, 32, 16, 64),  # torch began with 32
        (64, {"LOCAL_WORLD_SIZE": "8"}, 8, 8, 8),
        (4, {"LOCAL_WORLD_SIZE": "8"}, 1, 1, 1),
        (12, {cores.SIDE_BY_SIDE: "4"}, 3, 3, 3),
        (12, {"LOCAL_WORLD_SIZE": "nonsense"}, 12, 12, 12),
    ],
)
def test_processes_and_what_decodes_for_them_share_the_cores(
    count, environment, threads, decoders, at_most, machine, monkeypatch
):
    machine(count, **environment)
    given = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 32)
    monkeypatch.setattr(torch, "set_num_threads", given.append)
    processes.start_processes()
    assert given == [threads]
    workers = [ImageFiles(".", ["a"], 8, workers=asked).workers for asked in (None, 1000, 1, 0)]
    assert workers == [decoders, at_most, 1, 0]


def count_on_one_core(inherited, pipe):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    os.environ["OMP_NUM_THREADS"] = inherited
    torch.set_num_threads(64)
    processes.start_processes()
    with cores.limited_threads(2):
        pipe.send((cores.share_of_cores(1), torch.get_num_threads(), os.environ["OMP_NUM_THREADS"]))


@pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="no process can be bound to a core"
)
@pytest.mark.parametrize("inherited", ["64", "abc"])
def test_a_process_on_one_core_and_its_children_have_one_thread(inherited):
    fork = multiprocessing.get_context("fork")
    ours, theirs = fork.Pipe(duplex=False)
    process = fork.Process(target=count_on_one_core, args=(inherited, theirs))
    process.start()
    process.join(60)
    assert process.exitcode == 0 and ours.recv() == (1, 1, "1")
