"""The most memory that this process has held at a time, since it was last forgotten."""

from __future__ import annotations

import contextlib
import resource
from pathlib import Path

_PROCESS = Path("/proc/self")
_HIGH_WATER_MARK = "5"
"""What proc(5) says to write into `clear_refs` for that mark alone to be set back."""


def forget_peak() -> None:
    """Start anew, where the system can; elsewhere the peak stays that of the whole process."""
    with contextlib.suppress(OSError):
        (_PROCESS / "clear_refs").write_text(_HIGH_WATER_MARK, encoding="ascii")


def peak_mib() -> float:
    """Resident memory at its highest, mapped files included, in MiB."""
    with contextlib.suppress(OSError):
        for line in (_PROCESS / "status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
