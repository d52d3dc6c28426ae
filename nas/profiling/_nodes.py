"""Times of single nodes out of what a runtime wrote, each with its part of the decoder."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas._documents import load_json
from nas.errors import ConfigError
from nas.profiling import _onnxruntime, _tensorrt

_LONGEST_MS = 1e9
_PART = re.compile(r"(layers\.\d+\.(?:attention|ffn|stage\d+)|prologue|epilogue)\.")


Row = tuple[str, str, float, Sequence[str]]
"""Name, operator, milliseconds of a run, and the words that say where it belongs."""


@dataclass(frozen=True)
class NodeTime:
    """Milliseconds of a node in a usual run. `parts`: those of the decoder that it computes, in
    their order, such as `layers.7.ffn`; a fused node may span several, and one that the runtime
    put in may belong to none."""

    name: str
    operator: str
    ms: float
    parts: tuple[str, ...]


def read_node_times(path: Path, layer_info: Path | None = None) -> tuple[NodeTime, ...]:
    """Nodes in the order of their running, from a profile of ONNX Runtime (its JSON trace) or of
    TensorRT (`--exportProfile` of trtexec or Polygraphy's profiler).

    `layer_info`: TensorRT's layer information (`--exportLayerInfo`) for the same engine, in the
    schema with `Bindings` or the later one with `I/O Tensors`; it says what fused layers hold.
    Raises ConfigError for a file that is not there, or is neither.
    """
    document = _load(path)
    try:
        found = tuple(_placed(_rows(path, document, layer_info)))
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        raise ConfigError(f"{path}: not a profile that a runtime wrote: {error!r}") from error
    if not found:
        raise ConfigError(f"{path}: no node was timed; profile at least one run")
    return found


def _rows(path: Path, document: Any, layer_info: Path | None) -> Iterable[Row]:
    if _tensorrt.is_profile(document):
        known = _tensorrt.read_layer_info(_load(layer_info), layer_info) if layer_info else {}
        return _tensorrt.rows(document, known)
    if _onnxruntime.is_trace(document):
        if layer_info is not None:
            raise ConfigError(f"{path}: a trace of ONNX Runtime needs no layer information")
        return _onnxruntime.rows(document)
    raise ConfigError(
        f"{path}: neither a trace of ONNX Runtime nor a profile of TensorRT; give what "
        f"enable_profiling or --exportProfile wrote"
    )


def _placed(rows: Iterable[Row]) -> Iterable[NodeTime]:
    """A node that names no part stands in the part of the node before it: runtimes put casts and
    transposes in, which serve what is beside them."""
    last: tuple[str, ...] = ()
    for name, operator, ms, words in rows:
        if not 0 <= ms <= _LONGEST_MS:  # so that NaN fails too
            raise ValueError(f"{name} takes {ms} ms")
        parts = tuple(dict.fromkeys(part for word in words for part in _PART.findall(word)))
        last = parts or last[-1:]
        yield NodeTime(name, operator, ms, last)


def _load(path: Path) -> Any:
    try:
        return load_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except (OSError, ValueError, json.JSONDecodeError) as error:
        raise ConfigError(f"{path}: not a JSON file: {error}") from error
