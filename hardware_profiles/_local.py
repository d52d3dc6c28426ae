"""The machine at hand: read from the system; its speed measured only where somebody asks."""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from hardware_profiles._profile import HardwareProfile

_GIB = 1024**3
# Columns that the matrix kernels of ONNX Runtime's CPU provider take at once.
_WIDTH_MULTIPLES = {"avx512f": 32, "avx2": 16}


def local_profile() -> HardwareProfile:
    """Cores, memory and processor of this machine; no peak and no bandwidth (nothing is run)."""
    model, vendor, flags = _processor()
    cores = _usable_cores()
    return HardwareProfile(
        name="local",
        description=f"{model}, {cores} core{'s' if cores > 1 else ''}",
        vendor=vendor,
        kind="cpu",
        cores=cores,
        memory_gib=round(_usable_memory() / _GIB, 2),
        efficiency=1.0,
        launch_overhead_us=5.0,
        width_multiple=next((w for flag, w in _WIDTH_MULTIPLES.items() if flag in flags), 16),
        sources={
            "cores": "processor affinity of this process",
            "memory_gib": "the system's memory, or the control group's limit where it is lower",
            "width_multiple": "columns a matrix kernel of ONNX Runtime takes at once here",
            "link": "none; one machine",
            "launch_overhead_us": "rule of thumb for one operator of ONNX Runtime",
        },
    )


def with_measured_figures(profile: HardwareProfile) -> HardwareProfile:
    """`profile` of this machine with float32 peak and read bandwidth measured (about a second)."""
    measured = {
        "peak_tflops": {"float32": _matmul_tflops()},
        "bandwidth_gb_per_s": _read_gb_per_s(),
        "sources": {
            **profile.sources,
            "peak_tflops": "numpy matrix product of 1536 x 1536, best of several, measured here",
            "bandwidth_gb_per_s": "numpy dot product over 512 MiB, best of several, measured here",
        },
    }
    return HardwareProfile.model_validate({**profile.model_dump(), **measured})


def _processor() -> tuple[str, str, frozenset[str]]:
    """Model, vendor and feature flags; less is known where there is no /proc/cpuinfo."""
    path = Path("/proc/cpuinfo")
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    fields = dict(re.findall(r"^([^\t:]+?)\s*:\s*(.*)$", text, flags=re.MULTILINE))
    model = fields.get("model name") or platform.processor() or platform.machine() or "CPU"
    model = re.sub(r"\((?:R|TM)\)", "", model, flags=re.IGNORECASE)
    vendor = {"GenuineIntel": "Intel", "AuthenticAMD": "AMD"}.get(fields.get("vendor_id", ""), "")
    return " ".join(model.split()), vendor or "unknown", frozenset(fields.get("flags", "").split())


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return psutil.cpu_count(logical=False) or 1


def _usable_memory() -> int:
    total = int(psutil.virtual_memory().total)
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text(encoding="ascii").strip() if limit.is_file() else "max"
    return total if text == "max" else min(total, int(text))


def _matmul_tflops(size: int = 1536) -> float:
    import numpy as np

    a = np.random.default_rng(0).standard_normal((size, size), dtype=np.float32)
    return 2 * size**3 / _best_seconds(lambda: a @ a) / 1e12


def _read_gb_per_s(mib: int = 512) -> float:
    import numpy as np

    buffer = np.ones(mib * 2**18, dtype=np.float32)
    return buffer.nbytes / _best_seconds(lambda: np.dot(buffer, buffer)) / 1e9


def _best_seconds(work: Callable[[], object], repeats: int = 5) -> float:
    """Least of several: anything above it is interference."""
    work()
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best
