"""How much memory this process may still take."""

from __future__ import annotations

import contextlib
import ctypes
import resource
from collections.abc import Iterator
from pathlib import Path

import psutil
import torch

_CGROUP = Path("/sys/fs/cgroup")
_M_MMAP_THRESHOLD = -3  # malloc.h
_OWN_MAPPING = 4 * 2**20


def memory_at_hand(device: str = "cpu") -> int:
    """Bytes: the least of what the machine, its control group and the process's limits leave."""
    if torch.device(device).type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    left: list[int] = [psutil.virtual_memory().available, *_limits()]
    return max(0, min(left))


def return_freed_memory() -> None:
    """From now on, arrays over 4 MiB go back to the system when they are freed.

    glibc would raise that bound to 32 MiB as soon as one of this size is freed, and keep what a
    pass leaves between smaller arrays: more than a slot. Fresh memory costs time, so this is for
    teachers that do not fit. Nothing happens with another C library.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _OWN_MAPPING)


def _limits() -> Iterator[int]:
    own = psutil.Process().memory_info()
    for kind, taken in ((resource.RLIMIT_DATA, _data_bytes()), (resource.RLIMIT_AS, own.vms)):
        limit = resource.getrlimit(kind)[0]
        if limit != resource.RLIM_INFINITY:
            yield limit - taken
    with contextlib.suppress(OSError, ValueError):  # no control groups, or no limit ("max")
        limit = int((_CGROUP / "memory.max").read_text(encoding="ascii"))
        yield limit - int((_CGROUP / "memory.current").read_text(encoding="ascii"))


def _data_bytes() -> int:
    """What counts for RLIMIT_DATA: private memory that may be written to."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmData:"):
                return 1024 * int(line.split()[1])
    return 0
