"""The trace that ONNX Runtime writes with `enable_profiling`: one event for each node and run."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any

_KERNEL = "_kernel_time"


def is_trace(document: Any) -> bool:
    return isinstance(document, list) and any(_category(event) == "Session" for event in document)


def rows(document: list[dict[str, Any]]) -> Iterator[tuple[str, str, float, list[str]]]:
    """Name, operator, milliseconds of a usual run, and the words that say where it belongs."""
    samples: dict[str, list[float]] = {}
    operators: dict[str, str] = {}
    for event in document:
        name = str(event.get("name", ""))
        if _category(event) == "Node" and name.endswith(_KERNEL):
            name = name.removesuffix(_KERNEL).rstrip("/")
            samples.setdefault(name, []).append(float(event.get("dur", 0)) / 1000)
            operators[name] = str(event.get("args", {}).get("op_name", ""))
    for name, series in samples.items():
        yield name, operators[name], statistics.median(series), [name]


def _category(event: Any) -> str:
    return str(event.get("cat", "")) if isinstance(event, dict) else ""
