"""Writing models: complete under their final name, or not there at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from nas._imports import require
from nas._scratch import remove, sibling
from nas.errors import PassError

if TYPE_CHECKING:
    import onnx_ir as ir

_INLINE_BYTES = 1024  # larger tensors go to the data file
_PAGE = 4096  # external data starts where it can be mapped


def save_model(model: ir.Model, path: Path) -> Path:
    """Write `path` and, beside it, `path` + `.data` with the weights; returns the latter.

    Both appear by rename after a complete write, the data first. Raises PassError when the disk
    refuses, leaving what was there before.
    """
    onnx_ir = require("onnx_ir", extra="cpu")
    data, folder = path.with_name(path.name + ".data"), sibling(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir()
        onnx_ir.save(
            model, folder / path.name, external_data=data.name, size_threshold_bytes=_INLINE_BYTES
        )
        for name in (data.name, path.name):
            (folder / name).touch()  # no data beside a model of small tensors alone
            _flush(folder / name)
            os.replace(folder / name, path.parent / name)
    except OSError as error:
        raise PassError(f"{path}: the ONNX file could not be written: {error}") from error
    finally:
        remove(folder)
    return data


def save_structure(model: ir.Model, path: Path, weights: str) -> int:
    """Write `path` alone; its weights are to lie in the file `weights` beside it.

    Any numbers of the model's type will do, so several models may share that file. Returns the
    bytes that it must hold. Raises PassError when the disk refuses.
    """
    onnx_ir = require("onnx_ir", extra="cpu")
    end = 0
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if not isinstance(tensor, onnx_ir.LazyTensor):
            continue  # a constant of the graph
        value.const_value = onnx_ir.ExternalTensor(
            weights, end, tensor.nbytes, tensor.dtype, shape=tensor.shape, name=tensor.name
        )
        end += -(-tensor.nbytes // _PAGE) * _PAGE
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        onnx_ir.save(model, path)
    except OSError as error:
        raise PassError(f"{path}: the ONNX file could not be written: {error}") from error
    return end


def _flush(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
