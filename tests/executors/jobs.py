"""Functions that workers are asked for in tests."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

Given = Mapping[str, Tensor]
Facts = Mapping[str, Any]


def doubled(
    tensors: Given, facts: Facts, resident: Any
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Twice each tensor, plus the resident's offset."""
    offset = 0.0 if resident is None else resident["offset"]
    print("this goes to the log")
    return {name: 2 * tensor + offset for name, tensor in tensors.items()}, {"saw": dict(facts)}


def resident(tensors: Given, facts: Facts) -> dict[str, float]:
    """Leaves a mark for each time that it is made."""
    marks = Path(facts["marks"])
    (marks / f"{os.getpid()}-{time.monotonic_ns()}").touch()
    return {"offset": float(tensors["offset"])}


def broken(tensors: Given, facts: Facts, resident: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    raise ValueError("seven")


def dies(tensors: Given, facts: Facts, resident: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Ends its worker as often as `times`, then answers."""
    if _seen(facts) < facts["times"]:
        os.kill(os.getpid(), facts.get("signal", signal.SIGKILL))
        time.sleep(30)
    return dict(tensors), {}


def hangs(tensors: Given, facts: Facts, resident: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Sleeps as often as `times`, then answers."""
    if _seen(facts) < facts["times"]:
        time.sleep(60)
    return dict(tensors), {}


def starved(
    tensors: Given, facts: Facts, resident: Any
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    if _seen(facts) < facts["times"]:
        raise MemoryError("no more")
    return dict(tensors), {}


def full(tensors: Given, facts: Facts, resident: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def stops(tensors: Given, facts: Facts, resident: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Answers, and stops its worker in the moment after."""
    _seen(facts)
    code = f"import os, time; time.sleep(1); os.kill({os.getpid()}, {int(signal.SIGSTOP)})"
    subprocess.Popen([sys.executable, "-c", code])
    return dict(tensors), {}


def threads(
    tensors: Given, facts: Facts, resident: Any
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    return {}, {"threads": torch.get_num_threads()}


def _seen(facts: Facts) -> int:
    """How often this was called before, over all processes."""
    marks = Path(facts["marks"])
    count = len(list(marks.iterdir()))
    (marks / f"{os.getpid()}-{time.monotonic_ns()}").touch()
    return count
