"""TensorRT-RTX: builds on a CPU for GPUs that are named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nas.backends.tensorrt._base import EngineBackend, refuse_bfloat16
from nas.backends.tensorrt._network import NetworkFile
from nas.errors import CapabilityError

_TURING = 75
_LAST_FP32_OPSET = 20


class TensorRtRtx(EngineBackend):
    """Targets are entries of the builder's configuration; one engine may have several."""

    name = "tensorrt_rtx"
    title = "TensorRT-RTX"
    extra = "rtx"
    environment = "POLYGRAPHY_USE_TENSORRT_RTX=1 "
    program = "tensorrt_rtx"

    def sms(self) -> tuple[int, ...]:
        members = self.load().ComputeCapability.__members__
        return tuple(sorted(int(name[2:]) for name in members if name.startswith("SM")))

    def refuse(self, network: NetworkFile, sm: int, dtype: str) -> None:
        if dtype == "bfloat16":
            refuse_bfloat16(sm)
        if dtype == "float32" and sm == _TURING:
            raise CapabilityError(
                "export.engine_dtype: TensorRT-RTX has no float32 matrix products for SM75 "
                "(Turing); choose float16"
            )
        if dtype == "float32" and network.opset > _LAST_FP32_OPSET:
            raise CapabilityError(
                f"{network.path}: TensorRT-RTX builds float32 only up to operator set "
                f"{_LAST_FP32_OPSET}, and this file has {network.opset} (later ones fuse "
                "attention, which it does not do in float32); export at 20, or choose float16"
            )

    def aim(self, config: Any, sms: Sequence[int]) -> None:
        config.num_compute_capabilities = len(sms)
        for index, sm in enumerate(sms):
            config.set_compute_capability(getattr(self.load().ComputeCapability, f"SM{sm}"), index)
