"""The GPU of this machine, as torch or the driver tells of it.

A torch without CUDA may stand on a machine with a GPU, so that the driver is asked as well.
"""

from __future__ import annotations

import os
import subprocess


def local_sm() -> int | None:
    """Compute capability of the first GPU that this process sees, such as 89; None without one."""
    import torch

    if torch.cuda.is_available():
        major, minor = torch.cuda.get_device_capability()
        return 10 * major + minor
    answer = _driver_says("compute_cap")
    return int(answer.replace(".", "")) if "." in answer else None


def gpu_name() -> str:
    """Such as `NVIDIA GeForce RTX 4090`; `GPU` where nothing tells."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return _driver_says("name") or "GPU"


def free_bytes() -> int | None:
    """Memory of the first GPU that this process may still take; None where nothing tells."""
    import torch

    if torch.cuda.is_available():
        kept = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
        return int(torch.cuda.mem_get_info()[0]) + kept
    number, _, unit = _driver_says("memory.free").partition(" ")
    return int(number) * 2**20 if unit == "MiB" and number.isdigit() else None


def _driver_says(what: str) -> str:
    """The answer for the first GPU that this process sees; empty without a driver or a GPU."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
    if visible in ("", "-1"):
        return ""
    command = ["nvidia-smi", f"--query-gpu={what}", "--format=csv,noheader", f"--id={visible}"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return ""
    lines = found.stdout.strip().splitlines()
    return lines[0] if lines else ""
