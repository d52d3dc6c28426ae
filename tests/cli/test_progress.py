"""Progress: plain lines off a terminal, bars on one."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from nas._words import duration, size_mib
from nas.console import PlainProgress
from nas.console._bars import BarProgress


class Clock:
    """Time that passes only when told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_plain_lines_come_at_most_every_five_seconds_with_share_and_time_left() -> None:
    lines: list[str] = []
    clock = Clock()

    with PlainProgress(lines.append, clock=clock).task("build", 40) as advance:
        for _ in range(40):
            clock.now += 0.5
            advance(1)

    assert lines == [
        "build: 25 % (10 of 40), 15 s left",
        "build: 50 % (20 of 40), 10 s left",
        "build: 75 % (30 of 40), 5.0 s left",
        "build: 40 of 40 in 20 s",
    ]


def test_a_short_task_leaves_no_line() -> None:
    lines: list[str] = []
    clock = Clock()

    with PlainProgress(lines.append, clock=clock).task("score", 3) as advance:
        clock.now += 0.9
        advance(3)

    assert lines == []


def test_two_tasks_at_once_are_told_apart() -> None:
    lines: list[str] = []
    clock = Clock()
    progress = PlainProgress(lines.append, clock=clock)

    with progress.task("outer", 2) as outer, progress.task("inner", 4) as inner:
        clock.now += 6
        inner(1)
        outer(1)

    assert lines[:2] == ["inner: 25 % (1 of 4), 18 s left", "outer: 50 % (1 of 2), 6.0 s left"]


def test_a_task_that_fails_does_not_say_that_it_ended() -> None:
    lines: list[str] = []
    clock = Clock()

    def fail() -> None:
        with PlainProgress(lines.append, clock=clock).task("build", 4):
            clock.now += 60
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert lines == []


def test_a_task_of_nothing_does_not_divide_by_it() -> None:
    with PlainProgress(lambda _: None).task("none", 0) as advance:
        advance(0)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_bar_fits_its_terminal_and_clears_itself(width: int) -> None:
    terminal = io.StringIO()
    console = Console(file=terminal, force_terminal=True, width=width, no_color=True)
    progress = BarProgress(console)

    with progress.task("distill student and baselines", 240) as advance:
        advance(60)
        progress._bars.refresh()
        progress.say("a line in between")
    progress.say("after")

    shown = terminal.getvalue()
    assert "25 %" in shown
    assert "a line in between" in shown
    assert shown.endswith("after\n")
    assert not progress._bars.live.is_started


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.96, "10 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (7620, "2 h 07 min"),
    ],
)
def test_durations_in_words(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("mib", "text"), [(0.26, "0.3 MiB"), (120.4, "120 MiB"), (1536, "1.5 GiB")]
)
def test_sizes_in_words(mib: float, text: str) -> None:
    assert size_mib(mib) == text
