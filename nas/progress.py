"""Progress, as passes report it. The command line decides how it looks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Protocol

Advance = Callable[[int], None]


class Progress(Protocol):
    """Where passes say what they do."""

    def say(self, text: str) -> None:
        """One line about what was found or done."""

    def task(self, title: str, total: int) -> contextlib.AbstractContextManager[Advance]:
        """A piece of work of `total` steps; the context's value advances it by n."""


class SilentProgress:
    """Says nothing: for library use and tests."""

    def say(self, text: str) -> None:
        del text

    @contextlib.contextmanager
    def task(self, title: str, total: int) -> Iterator[Advance]:
        del title, total

        def advance(steps: int) -> None:
            del steps

        yield advance
