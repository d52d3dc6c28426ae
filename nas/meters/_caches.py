"""Emptying the processor's caches between timed runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

_SYSTEM = Path("/sys/devices/system/cpu/cpu0/cache")
_FALLBACK = 64 * 2**20


class CacheEvictor:
    """Reads a buffer of twice the last-level cache, so that what a run needs comes from memory."""

    def __init__(self, cache_bytes: int | None = None) -> None:
        import numpy as np

        size = last_level_cache_bytes() if cache_bytes is None else cache_bytes
        self._buffer = np.ones(2 * size // 8, dtype=np.float64)

    def __call__(self) -> None:
        self._buffer.max()

    def before(self, run: Callable[[], float]) -> Callable[[], float]:
        """`run` with the caches emptied first; the emptying is no part of its time."""

        def evicted() -> float:
            self()
            return run()

        return evicted


def last_level_cache_bytes(folder: Path = _SYSTEM) -> int:
    """Size of the largest cache that the system tells of; 64 MiB where it tells of none."""
    sizes = [path.read_text(encoding="ascii").strip() for path in folder.glob("index*/size")]
    units = {"K": 2**10, "M": 2**20}
    known = [int(size[:-1]) * units[size[-1]] for size in sizes if size[-1:] in units]
    return max(known, default=_FALLBACK)
