"""A module that stands in for `tensorrt` where there is no GPU: it takes the calls of a release and
no others, and writes them down.

What a class offers is what the bindings of that release have; a name that is not there raises
AttributeError, as it would there. `test_engines.py` holds the names against those of TensorRT-RTX,
whose bindings come from the same source.
"""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Any

import numpy as np
import onnx

Call = tuple[Any, ...]
_OLD_FLAGS = ("EXPLICIT_BATCH", "STRONGLY_TYPED")


class Severity(enum.Enum):
    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2
    INFO = 3
    VERBOSE = 4


class StandIn:
    """`tensorrt` in a release; `sys.modules` takes it as a module.

    `calls`: what was called, in order. `fails`: no engine comes out of a build.
    """

    def __init__(self, version: str) -> None:
        self.__version__ = version
        self.calls: list[Call] = []
        self.fails = False
        names = _OLD_FLAGS if version.startswith("10.") else ("STRONGLY_TYPED",)
        self.NetworkDefinitionCreationFlag = enum.Enum("Flag", names, start=0, type=int)
        self.ProfilingVerbosity = enum.Enum("Verbosity", ("LAYER_NAMES_ONLY", "NONE", "DETAILED"))
        self.ILogger = type("ILogger", (), {"Severity": Severity})
        self.Builder = type("Builder", (_Builder,), {"__slots__": (), "trt": self})
        self.OnnxParser = type("OnnxParser", (_OnnxParser,), {"__slots__": (), "trt": self})

    def called(self, name: str) -> list[Call]:
        """Arguments of all calls of a name."""
        return [call[1:] for call in self.calls if call[0] == name]


class _Builder:
    __slots__ = ("_log",)
    trt: StandIn

    def __init__(self, log: Any) -> None:
        self._log = log

    def create_network(self, flags: int = 0) -> _Network:
        self.trt.calls.append(("create_network", flags))
        return _Network()

    def create_builder_config(self) -> _Config:
        return _Config(self.trt)

    def create_optimization_profile(self) -> _Profile:
        return _Profile(self.trt)

    def build_serialized_network(self, network: _Network, config: _Config) -> Any:
        self.trt.calls.append(("build", network.path, config.profiling_verbosity.name))
        self._log.log(Severity.VERBOSE, "building")
        self._log.log(Severity.INFO, "built" if not self.trt.fails else "gave up")
        self._log.log(Severity.WARNING, "a warning")
        if self.trt.fails:
            self._log.log(Severity.ERROR, "no kernel was found")
            return None
        # An IHostMemory: a buffer that knows its size.
        return np.frombuffer(b"an engine", np.uint8).copy()


class _Config:
    __slots__ = ("_trt", "profiling_verbosity")

    def __init__(self, trt: StandIn) -> None:
        self._trt = trt
        self.profiling_verbosity = trt.ProfilingVerbosity.LAYER_NAMES_ONLY

    def add_optimization_profile(self, profile: _Profile) -> int:
        self._trt.calls.append(("profile", profile.shapes))
        return len(self._trt.called("profile")) - 1


class _Profile:
    __slots__ = ("shapes",)

    def __init__(self, trt: StandIn) -> None:
        self.shapes: dict[str, tuple[Any, ...]] = {}

    def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:
        self.shapes[input] = (min, opt, max)


class _Tensor:
    __slots__ = ("_names", "name", "shape")

    def __init__(self, value: Any) -> None:
        dims = value.type.tensor_type.shape.dim
        self.name = value.name
        self.shape = tuple(-1 if dim.dim_param else dim.dim_value for dim in dims)
        self._names = [dim.dim_param for dim in dims]

    def get_dimension_name(self, index: int) -> str:
        return self._names[index]


class _Network:
    __slots__ = ("inputs", "path")

    def __init__(self) -> None:
        self.inputs: list[_Tensor] = []
        self.path = ""

    @property
    def num_inputs(self) -> int:
        return len(self.inputs)

    def get_input(self, index: int) -> _Tensor:
        return self.inputs[index]


class _Error:
    __slots__ = ("_node",)

    def __init__(self, node: Any) -> None:
        self._node = node

    def desc(self) -> str:
        return "no importer"

    def node_name(self) -> str:
        return str(self._node.name)

    def node_operator(self) -> str:
        return str(self._node.op_type)


class _OnnxParser:
    __slots__ = ("_errors", "_network")
    trt: StandIn

    def __init__(self, network: _Network, logger: Any) -> None:
        self._network = network
        self._errors: list[_Error] = []

    def parse_from_file(self, path: str) -> bool:
        model = onnx.load(path)
        self._network.path = Path(path).name
        self._network.inputs = [_Tensor(value) for value in model.graph.input]
        self._errors = [_Error(node) for node in model.graph.node if node.domain]
        return not self._errors

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> _Error:
        return self._errors[index]


OFFERED = {
    "Builder": _Builder,
    "IBuilderConfig": _Config,
    "IOptimizationProfile": _Profile,
    "ITensor": _Tensor,
    "INetworkDefinition": _Network,
    "ParserError": _Error,
    "OnnxParser": _OnnxParser,
}
"""Classes of the bindings, and what stands in for each."""
