"""Writing models: complete under their final name, or not there at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from nas._imports import require
from nas.errors import PassError

if TYPE_CHECKING:
    import onnx_ir as ir

_INLINE_BYTES = 1024  # larger tensors go to the data file


def save_model(model: ir.Model, path: Path) -> Path:
    """Write `path` and, beside it, `path` + `.data` with the weights; returns the latter.

    Both appear by rename after a complete write, the data first. Raises PassError when the disk
    refuses, leaving what was there before.
    """
    onnx_ir = require("onnx_ir", extra="cpu")
    data = path.with_name(path.name + ".data")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as folder:
            written = Path(folder) / path.name
            onnx_ir.save(
                model, written, external_data=data.name, size_threshold_bytes=_INLINE_BYTES
            )
            for name in (data.name, path.name):
                if not (Path(folder) / name).exists():
                    (Path(folder) / name).touch()  # a model of small tensors alone
                _flush(Path(folder) / name)
                os.replace(Path(folder) / name, path.parent / name)
    except OSError as error:
        raise PassError(f"{path}: the ONNX file could not be written: {error}") from error
    return data


def _flush(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
