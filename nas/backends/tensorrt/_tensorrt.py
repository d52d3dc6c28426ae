"""TensorRT from 10.13 on: builds for the GPU that it runs on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from nas.backends import _gpu
from nas.backends.tensorrt._base import EngineBackend, refuse_bfloat16
from nas.backends.tensorrt._network import NetworkFile
from nas.errors import CapabilityError

_FIRST = (10, 13)


class TensorRt(EngineBackend):
    """There is nothing to aim: an engine is for the GPU at hand."""

    name = "tensorrt"
    title = "TensorRT"
    extra = "tensorrt"
    environment = ""
    program = "trtexec"
    _where = " here"

    def load(self) -> Any:
        """Raises CapabilityError for a release before 10.13 too."""
        trt = super().load()
        numbers = tuple(int(n) for n in re.findall(r"\d+", trt.__version__)[:2])
        if numbers < _FIRST:
            raise CapabilityError(
                f"tensorrt {trt.__version__} is too old; nas takes 10.13 and later: "
                f"pip install -U -e '.[tensorrt]'"
            )
        return trt

    def sms(self) -> tuple[int, ...]:
        self.load()
        found = _gpu.local_sm()
        if found is None:
            raise CapabilityError(
                "export.formats: tensorrt builds an engine on the GPU that it is for, and there is "
                "none here; export on that machine, or ask for tensorrt_rtx, which builds on a CPU"
            )
        return (found,)

    def refuse(self, network: NetworkFile, sm: int, dtype: str) -> None:
        if dtype == "bfloat16":
            refuse_bfloat16(sm)

    def aim(self, config: Any, sms: Sequence[int]) -> None:
        """Nothing to set."""
