"""Profiles and layer information of TensorRT and TensorRT-RTX.

A profile is a list: first `{"count": runs}`, then a row a layer with `averageMs` (`timeMs` is the
sum over the runs). Layer information is an object with `Layers`, a list of names or, with detailed
verbosity, of objects whose `Metadata` names the ONNX nodes; beside it stand `Bindings` up to
TensorRT 10, `I/O Tensors` from 11 on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nas.errors import ConfigError

_ONNX = re.compile(r"\[ONNX Layer: ([^\]]+)\]")
_TENSORS = ("I/O Tensors", "Bindings")

LayerInfo = Mapping[str, tuple[str, str]]
"""Layer -> its type and its metadata."""


def is_profile(document: Any) -> bool:
    return isinstance(document, list) and any(
        isinstance(row, dict) and ("averageMs" in row or "timeMs" in row) for row in document
    )


def read_layer_info(document: Any, path: Path) -> LayerInfo:
    """Raises ConfigError for a file of neither schema."""
    if not isinstance(document, dict) or not isinstance(document.get("Layers"), list):
        raise ConfigError(f"{path}: no layer information of TensorRT: it has no list `Layers`")
    if not any(name in document for name in _TENSORS):
        known = " nor ".join(f"`{name}`" for name in _TENSORS)
        raise ConfigError(f"{path}: no layer information of TensorRT: it has neither {known}")
    found = {}
    for layer in document["Layers"]:
        if isinstance(layer, str):  # without detailed verbosity
            found[layer] = ("", "")
        elif isinstance(layer, dict) and "Name" in layer:
            metadata = str(layer.get("Metadata") or "")
            found[str(layer["Name"])] = (str(layer.get("LayerType", "")), metadata)
    return found


def rows(
    document: list[dict[str, Any]], known: LayerInfo
) -> Iterator[tuple[str, str, float, list[str]]]:
    """Name, type, mean milliseconds of a run, and the words that say where it belongs."""
    runs = next((int(row["count"]) for row in document if "count" in row), 1) or 1
    for row in document:
        if "name" not in row:
            continue
        name = str(row["name"])
        kind, metadata = known.get(name, ("", ""))
        ms = float(row["averageMs"]) if "averageMs" in row else float(row["timeMs"]) / runs
        yield name, kind, ms, [*_ONNX.findall(metadata), name]
