"""The machine that this process runs on, as a record."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import psutil

from nas.report._records import Environment

PACKAGES = (
    "torch",
    "transformers",
    "safetensors",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "tensorrt-rtx-cu12",
    "tensorrt",
    "pulp",
    "highspy",
    "numpy",
    "pydantic",
)


def this_environment(packages: Iterable[str] = PACKAGES) -> Environment:
    """Describe this machine; of `packages`, those that are installed."""
    return Environment(
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.release()} {platform.machine()}",
        cpu=_cpu_model(Path("/proc/cpuinfo")),
        cores=_usable_cores(),
        memory_gib=round(psutil.virtual_memory().total / 2**30, 2),
        packages=dict(_versions(packages)),
    )


def _versions(packages: Iterable[str]) -> Iterable[tuple[str, str]]:
    for package in packages:
        try:
            yield package, metadata.version(package)
        except metadata.PackageNotFoundError:
            continue


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu_model(cpuinfo: Path) -> str:
    """The processor's own name on Linux, what Python knows of it elsewhere."""
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name" and value.strip():
                return value.strip()
    return platform.processor() or platform.machine() or "unknown"
