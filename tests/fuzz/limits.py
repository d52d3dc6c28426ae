"""What no input may make a parser take: more than ten seconds, or another GiB."""

from __future__ import annotations

import contextlib
import resource
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

SECONDS = 10
MEMORY_BYTES = 2**30


class TooSlow(Exception):
    """The parser was still at it after `SECONDS`."""


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Raise TooSlow after `SECONDS`, and MemoryError where another GiB is asked for."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    earlier = signal.signal(signal.SIGALRM, _too_slow)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY_BYTES, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, earlier)


def _too_slow(number: int, frame: FrameType | None) -> NoReturn:
    raise TooSlow(f"no answer within {SECONDS} s")
