"""Durations and progress lines as people read them, in plain ASCII so that logs stay clean."""

from __future__ import annotations

import math

_AT_LEAST = ("speedup", "tokens_per_s", "throughput_tokens_per_s")
"""Budgets that ask for at least so much; all others allow at most so much."""


def duration(seconds: float) -> str:
    """Such as `0.4 s`, `12 s`, `3 min 05 s`, `2 h 07 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def size_mib(mib: float) -> str:
    """Such as `0.3 MiB`, `120 MiB`, `1.4 GiB`."""
    if mib >= 1024:
        return f"{mib / 1024:.1f} GiB"
    return f"{mib:.0f} MiB" if mib >= 10 else f"{mib:.1f} MiB"


def more_is_tighter(budget: str) -> bool:
    """Of a budget's name, such as `speedup.decode` or `scenarios.chat.tokens_per_s`."""
    opening, _, rest = budget.partition(".")
    limit = rest.partition(".")[2] if opening == "scenarios" else budget
    return limit.partition(".")[0] in _AT_LEAST


def feasible(budget: str, value: float) -> str:
    """Six figures of a tightest value, rounded so that it can still be met when typed in."""
    if not value:
        return "0"
    step = 10.0 ** (math.floor(math.log10(abs(value))) - 5)
    steps = value / step
    whole = math.floor(steps + 1e-6) if more_is_tighter(budget) else math.ceil(steps - 1e-6)
    return number(whole * step)


def number(value: float) -> str:
    """Six significant figures, no trailing zeros."""
    return f"{value:.6g}"


def finished_line(title: str, total: int, seconds: float) -> str:
    """The line that a task leaves behind."""
    return f"{title}: {total} of {total} in {duration(seconds)}"
