"""Memory that a training step frees and needs again at once: kept by the process, not given back."""

import ctypes
import platform

M_MMAP_THRESHOLD, M_TRIM_THRESHOLD = -3, -1  # names and numbers of malloc.h
LARGEST_MMAP_THRESHOLD = 2**25  # bytes; glibc takes no more
NEVER = 2**31 - 1


def keep_freed_memory() -> None:
    """Let glibc keep freed memory instead of returning it to the system; elsewhere do nothing.

    A step on a CPU frees and allocates the same tensors of some megabytes again and again, and a new page is
    cleared at its first use: a tenth of a step of ``convnet_small``. It takes both settings, as setting one
    stops glibc from adapting the other. The process keeps them, and as much memory as it ever needed.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)
        libc.mallopt(M_TRIM_THRESHOLD, NEVER)
