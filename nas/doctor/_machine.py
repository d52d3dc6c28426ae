"""Processor, memory, disk and engine builder of this machine."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

_GIB = 2**30
_CPUINFO = Path("/proc/cpuinfo")
OLDEST_PYTHON = (3, 11)


def machine_facts(folder: Path) -> Iterator[tuple[str, str]]:
    """Name and value, in the order in which one wants to read them; `folder`: whose disk counts."""
    memory = psutil.virtual_memory()
    yield "python", f"{platform.python_version()} at {sys.executable}"
    yield "system", f"{platform.system()} {platform.release()} {platform.machine()}"
    yield "cores", str(_usable_cores())
    yield "memory", f"{memory.available / _GIB:.1f} GiB free of {memory.total / _GIB:.1f}"
    disk = shutil.disk_usage(folder)
    yield "disk", f"{disk.free / _GIB:.1f} GiB free of {disk.total / _GIB:.1f} at {folder}"
    yield "bfloat16", bfloat16_units(_cpu_flags(_CPUINFO))


def bfloat16_units(flags: frozenset[str]) -> str:
    """What the processor has for bfloat16, in words."""
    if "amx_bf16" in flags:
        return "AMX tiles: distillation runs in bfloat16"
    if "avx512_bf16" in flags:
        return "AVX-512 BF16: distillation runs in bfloat16"
    return "none: distillation runs in float32"


def python_is_recent() -> bool:
    return sys.version_info >= OLDEST_PYTHON


def _cpu_flags(path: Path) -> frozenset[str]:
    if not path.is_file():
        return frozenset()
    text = path.read_text(encoding="utf-8", errors="replace")
    found = re.search(r"^flags\s*:\s*(.*)$", text, flags=re.MULTILINE)
    return frozenset(found.group(1).split()) if found else frozenset()


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
