"""Executors by the name that the command line gives them."""

from __future__ import annotations

from nas.errors import ConfigError
from nas.executors._base import Executor
from nas.executors._in_process import InProcess
from nas.executors._process_pool import ProcessPool

EXECUTORS = ("in-process", "process:N")
_MOST_WORKERS = 1024


def create_executor(name: str, unit_seconds: float | None = None) -> Executor:
    """The executor called `in-process`, or `process:2` for two workers; raises ConfigError.

    `unit_seconds`: a worker that takes longer for a unit is taken for hung.
    """
    kind, _, count = name.partition(":")
    if name == "in-process":
        return InProcess()
    if kind == "process" and count.isdecimal() and len(count) < 6:
        workers = int(count)
        if 0 < workers <= _MOST_WORKERS:
            return ProcessPool(workers, unit_seconds=unit_seconds)
    raise ConfigError(
        f"--executor {name}: no such executor; give {' or '.join(EXECUTORS)}, such as process:2"
    )
