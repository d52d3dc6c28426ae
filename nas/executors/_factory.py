"""Executors by the name that the command line gives them."""

from __future__ import annotations

import re

from nas.errors import ConfigError
from nas.executors._base import Executor
from nas.executors._in_process import InProcess
from nas.executors._process_pool import ProcessPool
from nas.executors._ray import RayCluster

EXECUTORS = ("in-process", "process:N", "ray:N", "ray://HOST:PORT")
_MOST_WORKERS = 1024
_RAY = re.compile(
    r"ray:(?P<scheme>//)?(?P<host>auto|[A-Za-z0-9.\-]+:\d{1,5}|\[[0-9A-Fa-f:]+\]:\d{1,5})"
    r"(/(?P<workers>\d+))?"
)


def create_executor(
    name: str, unit_seconds: float | None = None, threads: int | None = None
) -> Executor:
    """The executor called `in-process`, or `process:2` for two workers; raises ConfigError.

    `ray:2`: two workers in a Ray cluster of this machine. `ray:auto`, `ray:HOST:PORT` (from one of
    its nodes) and `ray://HOST:PORT` (by Ray's client, from elsewhere): a cluster that is there, a
    worker a node; `/8` behind it asks for eight.

    `unit_seconds`: a worker that takes longer for a unit is taken for hung. `threads`: of a job; by
    default what there is, shared by the workers.
    """
    kind, _, count = name.partition(":")
    if name == "in-process":
        return InProcess(threads=threads)
    workers = _count(count)
    if kind == "process" and workers:
        return ProcessPool(workers, threads=threads, unit_seconds=unit_seconds)
    if kind == "ray" and workers:
        return RayCluster(workers, threads=threads, unit_seconds=unit_seconds)
    address = _RAY.fullmatch(name)
    if address and (address["workers"] is None or _count(address["workers"])):
        found = ("ray://" if address["scheme"] else "") + address["host"]
        wanted = _count(address["workers"] or "")
        return RayCluster(wanted, address=found, threads=threads, unit_seconds=unit_seconds)
    raise ConfigError(
        f"--executor {name}: no such executor; give {' or '.join(EXECUTORS)}, such as process:2"
    )


def _count(text: str) -> int | None:
    """A number of workers; None for anything else."""
    number = int(text) if text.isdecimal() and len(text) < 6 else 0
    return number if 0 < number <= _MOST_WORKERS else None
