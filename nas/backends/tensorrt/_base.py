"""What TensorRT and TensorRT-RTX do alike, and the few places where they differ."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from nas._imports import require
from nas.backends.tensorrt._network import NetworkFile
from nas.errors import CapabilityError, ConfigError


class EngineBackend(ABC):
    """A builder of engines.

    `name` is the Python module and the format in `export.formats`; `title` is for people; `extra`
    installs it; `environment` stands before polygraphy's command; `program` times an engine.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    extra: ClassVar[str]
    environment: ClassVar[str]
    program: ClassVar[str]

    def load(self) -> Any:
        """The module; raises CapabilityError with the command that installs it."""
        return require(self.name, extra=self.extra)

    @property
    def version(self) -> str:
        """The release that is installed; engines hold for no other."""
        return str(self.load().__version__)

    @abstractmethod
    def sms(self) -> tuple[int, ...]:
        """Compute capabilities that engines can be built for here, such as 89 for an RTX 4090.

        Raises CapabilityError where the builder cannot work here at all."""

    @abstractmethod
    def refuse(self, network: NetworkFile, sm: int, dtype: str) -> None:
        """Raise CapabilityError for what the builder is known to fail on, with the reason."""

    @abstractmethod
    def aim(self, config: Any, sms: Sequence[int]) -> None:
        """Set what a builder's configuration needs to build for all of `sms`."""

    def require_sm(self, sm: int) -> None:
        """Raise CapabilityError where no engine for `sm` can be built here."""
        known = self.sms()
        if sm not in known:
            raise CapabilityError(
                f"export.sm: {self.title} {self.version} builds no engine for SM{sm}"
                f"{self._where}; it builds for {', '.join(map(str, known))}; for other GPUs serve "
                f"the ONNX file or the Hugging Face folder"
            )

    def check(self, network: NetworkFile, sm: int, dtype: str) -> None:
        """Raises CapabilityError for an SM or a precision that the builder does not do, and
        ConfigError where the ONNX file is not in `dtype`: precision lives in the file, the builder
        casts nothing."""
        self.require_sm(sm)
        self.refuse(network, sm, dtype)
        if network.dtype != dtype:
            raise ConfigError(
                f"{network.path}: its weights are {network.dtype}, the engine is to be {dtype}; "
                f"export the ONNX file in {dtype} first"
            )

    def network_flags(self) -> int:
        """Types as in the file. From TensorRT 11 on there is nothing else, and the flag may go."""
        known = self.load().NetworkDefinitionCreationFlag.__members__
        return 1 << int(known["STRONGLY_TYPED"]) if "STRONGLY_TYPED" in known else 0

    _where: ClassVar[str] = ""
    """Where `sms` depends on the machine: that it does."""


FIRST_BFLOAT16 = 80
"""Ampere; Volta and Turing have no bfloat16 units."""


def refuse_bfloat16(sm: int) -> None:
    """Raise CapabilityError for a GPU without bfloat16 units."""
    if sm < FIRST_BFLOAT16:
        name = " (Turing)" if sm == 75 else ""
        raise CapabilityError(
            f"export.engine_dtype: SM{sm}{name} has no bfloat16 units; choose float16"
        )
