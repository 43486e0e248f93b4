"""Each process's share of the CPU cores when several work side by side."""

import os
import re
from contextlib import contextmanager

import joblib

SIDE_BY_SIDE = "GENSCL_SIDE_BY_SIDE"  # tells kernels how many of them ``genscl reproduce`` started


def share_of_cores(processes: int | None = None) -> int:
    """Return how many cores each of so many processes has, at least 1.

    None: as many processes as torchrun or ``genscl reproduce``, which started this one, have started here.
    Affinity and the quota of a container count.
    """
    started = (_whole(os.environ.get(name)) for name in ("LOCAL_WORLD_SIZE", SIDE_BY_SIDE))
    return max(1, joblib.cpu_count() // (processes or max(started)))


@contextmanager
def limited_threads(processes: int):
    """Let each of so many processes started inside use its share of cores as threads.

    A smaller number in the environment is kept.
    """
    share, before = share_of_cores(processes), dict(os.environ)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        if name in os.environ or name == "OMP_NUM_THREADS":  # which the others follow
            os.environ[name] = str(min(share, _whole(os.environ.get(name), share)))
    os.environ[SIDE_BY_SIDE] = str(processes)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _whole(text: str | None, otherwise: int = 1) -> int:
    """Read a number above 0 as OpenMP does: of "4,2" the first."""
    found = re.fullmatch(r"\s*0*([1-9]\d{0,8})\s*(,.*)?", text or "")
    return int(found[1]) if found else otherwise
