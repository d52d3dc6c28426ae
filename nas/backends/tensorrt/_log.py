"""The builder's messages, kept: they are the only explanation of a failed build."""

from __future__ import annotations

from typing import Any, Protocol


class BuildLog(Protocol):
    """A logger that the builder accepts, with what it was told."""

    lines: list[str]

    def tail(self, count: int = 12) -> str:
        """The last errors and warnings, or the last lines where there are none."""


def new_log(trt: Any) -> BuildLog:
    """A logger that keeps every message as `SEVERITY: text`."""

    class _Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.lines: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            self.lines.append(f"{severity.name}: {message}")

        def tail(self, count: int = 12) -> str:
            grave = [line for line in self.lines if line.startswith(("ERROR", "INTERNAL", "WARN"))]
            return "\n".join((grave or self.lines)[-count:])

    log: BuildLog = _Log()
    return log
