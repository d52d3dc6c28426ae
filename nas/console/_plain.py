"""Progress as plain lines, for logs and pipes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from nas._words import duration, finished_line
from nas.progress import Advance

SHORTEST_S = 1.0
"""A task that took less leaves no line behind."""


class PlainProgress:
    """At most one line in `every_s` seconds a task, with percentage and time left."""

    def __init__(
        self,
        write: Callable[[str], None],
        *,
        every_s: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._write = write
        self._every_s = every_s
        self._clock = clock

    def say(self, text: str) -> None:
        self._write(text)

    @contextlib.contextmanager
    def task(self, title: str, total: int) -> Iterator[Advance]:
        started = last = self._clock()
        done = 0

        def advance(steps: int) -> None:
            nonlocal done, last
            done += steps
            now = self._clock()
            if now - last >= self._every_s and done < total:
                last = now
                self._write(_line(title, done, total, now - started))

        yield advance
        seconds = self._clock() - started
        if seconds >= SHORTEST_S:
            self._write(finished_line(title, total, seconds))


def _line(title: str, done: int, total: int, seconds: float) -> str:
    left = seconds / done * (total - done) if done else None
    text = f"{title}: {100 * done // total} % ({done} of {total})"
    return text if left is None else f"{text}, {duration(left)} left"
