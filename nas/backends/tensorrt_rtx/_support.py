"""Which GPU, precision and operator set the builder takes."""

from __future__ import annotations

from typing import Any

from nas._imports import require
from nas.backends.tensorrt_rtx._network import NetworkFile
from nas.errors import CapabilityError, ConfigError

_TURING = 75
_LAST_FP32_OPSET = 20


def load_tensorrt_rtx() -> Any:
    """The package; raises CapabilityError with the command that installs it."""
    return require("tensorrt_rtx", extra="rtx")


def supported_sms() -> tuple[int, ...]:
    """Compute capabilities that the installed builder targets, such as 89 for an RTX 4090."""
    members = load_tensorrt_rtx().ComputeCapability.__members__
    return tuple(sorted(int(name[2:]) for name in members if name.startswith("SM")))


def require_sm(sm: int) -> None:
    """Raise CapabilityError where the installed builder does not target `sm`, or is not there."""
    if sm not in supported_sms():
        known = ", ".join(str(n) for n in supported_sms())
        raise CapabilityError(
            f"export.sm: TensorRT-RTX {load_tensorrt_rtx().__version__} builds no engine for "
            f"SM{sm}; it builds for {known}; for other GPUs serve the ONNX file or the "
            "Hugging Face folder"
        )


def check_support(network: NetworkFile, sm: int, dtype: str) -> None:
    """Refuse what the builder is known to fail on, with the reason.

    Raises CapabilityError for an SM or a precision that the builder does not do, and ConfigError
    where the ONNX file is not in `dtype`: precision lives in the file, the builder casts nothing.
    """
    require_sm(sm)
    if dtype == "bfloat16" and sm == _TURING:
        raise CapabilityError(
            "export.engine_dtype: SM75 (Turing) has no bfloat16 units; choose float16"
        )
    if dtype == "float32" and sm == _TURING:
        raise CapabilityError(
            "export.engine_dtype: TensorRT-RTX has no float32 matrix products for SM75 (Turing); "
            "choose float16"
        )
    if dtype == "float32" and network.opset > _LAST_FP32_OPSET:
        raise CapabilityError(
            f"{network.path}: TensorRT-RTX builds float32 only up to operator set "
            f"{_LAST_FP32_OPSET}, and this file has {network.opset} (later ones fuse attention, "
            "which it does not do in float32); export at 20, or choose float16"
        )
    if network.dtype != dtype:
        raise ConfigError(
            f"{network.path}: its weights are {network.dtype}, the engine is to be {dtype}; "
            f"export the ONNX file in {dtype} first"
        )
