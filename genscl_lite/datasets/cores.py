"""CPU cores that this process may use, and the share of each of several processes that work side by side."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

SIDE_BY_SIDE = (
    "GENSCL_SIDE_BY_SIDE"  # so many kernels ``genscl reproduce`` has started, they are told
)


def usable_cores(root: str | Path = "/") -> int:
    """Return how many cores this process may use, at least 1: the least of its affinity and of all quotas.

    Quotas are those of its control groups, from its own up to the highest, as containers have them; parts of
    a core do not count. ``root`` is the folder of ``proc`` and ``sys``.
    """
    affinity = getattr(os, "sched_getaffinity", lambda process: range(os.cpu_count() or 1))
    count = getattr(os, "process_cpu_count", lambda: len(affinity(0)))  # from Python 3.13 on
    return max(1, int(min([count() or 1, *_quotas(Path(root))])))


def _quotas(root: Path) -> Iterator[float]:
    """Give each quota in cores, of control groups of version 2 and of version 1."""
    with suppress(OSError):  # no Linux
        for line in (
            (root / "proc/self/cgroup").read_text().splitlines()
        ):  # "0::/a/b" or "4:cpu,cpuacct:/a/b"
            _, controllers, group = line.split(":", 2)
            if controllers and "cpu" not in controllers.split(","):
                continue
            own = PurePosixPath(group.lstrip("/"))  # in a container often as the host sees it
            for mount in (controllers, "cpu" if controllers else "unified"):
                for folder in (
                    root / "sys/fs/cgroup" / mount / above for above in (own, *own.parents)
                ):
                    for names in (["cpu.max"], ["cpu.cfs_quota_us", "cpu.cfs_period_us"]):
                        with suppress(OSError, ValueError):  # not there, or "max"
                            quota, period = " ".join(
                                (folder / name).read_text() for name in names
                            ).split()
                            if int(quota) > 0 and int(period) > 0:
                                yield int(quota) / int(period)


def share_of_cores(processes: int | None = None) -> int:
    """Return how many cores each of so many processes has, at least 1.

    None: as many processes as torchrun or ``genscl reproduce``, which started this one, have started here.
    """
    started = (_whole(os.environ.get(name)) for name in ("LOCAL_WORLD_SIZE", SIDE_BY_SIDE))
    return max(1, usable_cores() // (processes or max(started)))


@contextmanager
def limited_threads(processes: int):
    """Let each of so many processes that are started inside have its share of cores as threads.

    A smaller number that the environment holds is kept.
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
