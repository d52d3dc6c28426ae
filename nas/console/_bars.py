"""Progress as bars, for terminals."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Column
from rich.text import Text

from nas._words import duration, finished_line
from nas.console._plain import SHORTEST_S
from nas.progress import Advance


class _TimeLeft(ProgressColumn):
    """Such as `1 min 20 s left`; empty until it can be told."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        left = task.time_remaining
        return Text("" if left is None else f"{duration(left)} left", style="dim")


class BarProgress:
    """One bar a task while it runs, one line when it has ended; nothing else moves."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = Progress(
            TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True)),
            BarColumn(bar_width=24, complete_style="cyan", finished_style="cyan"),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.completed:.0f} of {task.total:.0f}", style="dim"),
            _TimeLeft(),
            console=console,
            transient=True,
            refresh_per_second=5,
        )

    def say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False)

    @contextlib.contextmanager
    def task(self, title: str, total: int) -> Iterator[Advance]:
        started = time.monotonic()
        if not self._bars.tasks:
            self._bars.start()
        bar = self._bars.add_task(title, total=max(total, 1))
        try:
            yield lambda steps: self._bars.update(bar, advance=steps)
        finally:
            self._bars.remove_task(bar)
            if not self._bars.tasks:
                self._bars.stop()
        seconds = time.monotonic() - started
        if seconds >= SHORTEST_S:
            self.say(finished_line(title, total, seconds))
