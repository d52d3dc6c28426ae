"""One ONNX graph that grows: inputs, outputs, weights read late, nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from nas._imports import require
from nas.backends.onnx._template import DTYPES, Dims

if TYPE_CHECKING:
    import onnx_ir as ir

_IR_VERSION = 10


class GraphBuilder:
    """Grows one graph. Every method that makes a value returns it, to be passed on."""

    def __init__(self, name: str, dtype: str, opset: int) -> None:
        self._ir = require("onnx_ir", extra="cpu")
        self._dtype = DTYPES[dtype]
        self._opset = opset
        self._graph = self._ir.Graph([], [], nodes=[], opset_imports={"": opset}, name=name)
        self._constants: dict[tuple[object, ...], ir.Value] = {}

    def add_input(self, name: str, dims: Dims, kind: str | None = None) -> ir.Value:
        """A graph input; `kind` is an ONNX type name (`INT64`), by default the model's type."""
        value = self._ir.Value(
            name=name,
            shape=self._ir.Shape(dims),
            type=self._ir.TensorType(self._kind(kind)),
        )
        self._graph.inputs.append(value)
        return value

    def add_output(self, value: ir.Value, name: str, dims: Dims) -> None:
        """Make `value` an output under `name`."""
        value.name, value.shape = name, self._ir.Shape(dims)
        value.type = self._ir.TensorType(self._kind(None))
        self._graph.outputs.append(value)

    def add_weight(self, name: str, tensor: Tensor, transpose: bool = False) -> ir.Value:
        """An initializer in the model's type, read from `tensor` only when the file is written."""

        def read() -> Tensor:
            source = tensor.detach().T if transpose else tensor.detach()
            return source.to("cpu", self._dtype).contiguous()

        return self.add_lazy(name, read, tensor.T.shape if transpose else tensor.shape)

    def add_lazy(
        self, name: str, read: Callable[[], Tensor], shape: Sequence[int], kind: str | None = None
    ) -> ir.Value:
        """An initializer of ONNX type `kind` (by default the model's), read when it is written."""
        adapters = require("onnx_ir.tensor_adapters", extra="cpu")
        lazy = self._ir.LazyTensor(
            lambda: adapters.TorchTensor(read(), name=name),
            dtype=self._kind(kind),
            shape=self._ir.Shape(shape),
            name=name,
        )
        return self._register(name, lazy)

    def add_node(self, node: ir.Node, name: str, inputs: Sequence[ir.Value | None]) -> ir.Node:
        """A copy of `node` on other inputs, its outputs named after `name`."""
        outputs = [self._ir.Value(name=f"{name}:{i}") for i in range(len(node.outputs))]
        attributes = list(node.attributes.values())
        copy = self._ir.Node(
            node.domain, node.op_type, inputs, attributes, outputs=outputs, name=name
        )
        self._graph.append(copy)
        return copy

    def add_op(
        self, kind: str, name: str, inputs: Sequence[ir.Value], attributes: Mapping[str, Any]
    ) -> ir.Value:
        """The output of a new node."""
        output = self._ir.Value(name=f"{name}:0")
        node = self._ir.node(kind, inputs, attributes=attributes, outputs=[output], name=name)
        self._graph.append(node)
        return output

    def add_numbers(self, numbers: Sequence[int]) -> ir.Value:
        """Whole numbers, such as the axes of a node."""
        return self.add_constant(self._ir.tensor(list(numbers), dtype=self._ir.DataType.INT64))

    def add_operator(
        self,
        operator: str,
        name: str,
        inputs: Sequence[ir.Value],
        outputs: int,
        attributes: Mapping[str, Any],
    ) -> list[ir.Value]:
        """A new node of ONNX's own domain; its outputs."""
        values = [self._ir.Value(name=f"{name}:{i}") for i in range(outputs)]
        given = self._ir.convenience.convert_attributes(attributes)
        self._graph.append(self._ir.Node("", operator, inputs, given, outputs=values, name=name))
        return values

    def add_constant(self, tensor: ir.TensorProtocol) -> ir.Value:
        """A small constant, shared by all instances that use an equal one."""
        array = tensor.numpy()
        key = (tensor.dtype, array.shape, array.tobytes())
        if key not in self._constants:
            name = f"constant.{len(self._constants)}"
            self._constants[key] = self._register(name, self._ir.tensor(array, name=name))
        return self._constants[key]

    def model(self) -> ir.Model:
        """The finished model."""
        return self._ir.Model(self._graph, ir_version=_IR_VERSION, producer_name="nas")

    def _register(self, name: str, tensor: ir.TensorProtocol) -> ir.Value:
        kind = self._ir.TensorType(tensor.dtype)
        value = self._ir.Value(name=name, shape=tensor.shape, type=kind, const_value=tensor)
        self._graph.register_initializer(value)
        return value

    def _kind(self, name: str | None) -> ir.DataType:
        kinds = self._ir.DataType
        names: dict[str, str] = {"float32": "FLOAT", "float16": "FLOAT16", "bfloat16": "BFLOAT16"}
        return kinds[name or names[str(self._dtype).removeprefix("torch.")]]
