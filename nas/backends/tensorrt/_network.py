"""What decides an engine about an ONNX file, read without loading its weights."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas._documents import brief
from nas._imports import require
from nas.errors import ArtifactError


@dataclass(frozen=True)
class NetworkFile:
    """An ONNX file on disk.

    `digest` is the SHA-256 of the file and its external data; `dtype` is that of its largest
    floating-point weight, which is what its matrix products run in. Matrices of float32 make a
    network float32, whatever some of its blocks are in.
    """

    path: Path
    opset: int
    dtype: str
    digest: str


def read_network(path: Path) -> NetworkFile:
    """Raises ArtifactError where the file is torn, or data that it refers to is missing or outside
    its folder."""
    onnx = require("onnx", extra="rtx")
    decode_error: type[Exception] = require("google.protobuf.message", extra="rtx").DecodeError
    try:
        model = onnx.load(str(path), load_external_data=False)
        digest = _digest([path, *_data_files(onnx, model, path.parent)])
    except (OSError, ValueError, RuntimeError, decode_error) as error:
        raise ArtifactError(f"{path}: not a whole ONNX file: {error}; export it again") from error
    opsets = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    if not opsets:
        raise ArtifactError(f"{path}: not an ONNX file (no operator set); export it again")
    return NetworkFile(path, max(opsets), _dtype(onnx, model), digest)


def _data_files(onnx: Any, model: Any, folder: Path) -> list[Path]:
    names = {
        entry.value
        for tensor in model.graph.initializer
        if tensor.data_location == onnx.TensorProto.EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location"
    }
    inside = folder.resolve()
    files = [folder / name for name in sorted(names)]
    for file in files:
        if not file.resolve().is_relative_to(inside):
            raise ValueError(
                f"its weights are said to lie in {brief(str(file))}, outside its folder"
            )
    return files


def _digest(paths: list[Path]) -> str:
    whole = hashlib.sha256()
    for path in paths:
        with path.open("rb") as handle:
            whole.update(hashlib.file_digest(handle, "sha256").digest())
    return whole.hexdigest()


def _dtype(onnx: Any, model: Any) -> str:
    proto = onnx.TensorProto
    names = {proto.FLOAT: "float32", proto.FLOAT16: "float16", proto.BFLOAT16: "bfloat16"}
    weights = [t for t in model.graph.initializer if t.data_type in names]
    wide = [t for t in weights if t.data_type == proto.FLOAT and sum(d > 1 for d in t.dims) > 1]
    largest = max(wide or weights, key=lambda tensor: math.prod(tensor.dims), default=None)
    return "none" if largest is None else names[largest.data_type]
