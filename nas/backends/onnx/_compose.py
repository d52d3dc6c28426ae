"""Puts templates together into one model, each instance with weights of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from nas._imports import require
from nas.backends.onnx._quantised import QuantisedProducts, QuantisedWeight, Weight
from nas.backends.onnx._template import DTYPES, Dims, Template
from nas.errors import PassError

if TYPE_CHECKING:
    import onnx_ir as ir

_IR_VERSION = 10
_CACHE_PARTS = ("key", "value")


class Composer:
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

    def add_ids(self, names: Sequence[str], cached: bool) -> list[ir.Value]:
        """Whole inputs [batch, sequence_length]; the mask spans the past where there is a cache."""
        length = {"attention_mask": "total_sequence_length"} if cached else {}
        return [
            self.add_input(name, ("batch", length.get(name, "sequence_length")), "INT64")
            for name in names
        ]

    def add_past(self, index: int, dims: Dims) -> list[ir.Value]:
        """Inputs `past_key_values.{index}.key|value`."""
        return [self.add_input(f"past_key_values.{index}.{part}", dims) for part in _CACHE_PARTS]

    def add_present(self, index: int, values: Sequence[ir.Value], past: Dims) -> None:
        """Outputs `present.{index}.key|value`; `past` holds the dimensions of the past."""
        batch, heads, _, head_dim = past
        for part, value in zip(_CACHE_PARTS, values, strict=True):
            dims = (batch, heads, "total_sequence_length", head_dim)
            self.add_output(value, f"present.{index}.{part}", dims)

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

    def instantiate(
        self,
        template: Template,
        prefix: str,
        inputs: Sequence[ir.Value],
        weights: Mapping[str, Weight | ir.Value],
    ) -> list[ir.Value]:
        """Copy a template's nodes. `weights` are tensors, or values that are in the graph already.

        A weight that the template only transposes is stored transposed; one that is rounded brings
        the operators that multiply by it.
        """
        if template.opset != self._opset:
            raise PassError(f"{prefix}: opset {template.opset} in a graph of {self._opset}")
        missing = set(template.weight_names) - set(weights)
        if missing:
            raise PassError(f"{prefix}: no weight for {sorted(missing)}")
        scope = _Scope(self, prefix, dict(zip(template.inputs, inputs, strict=True)), weights)
        for node in template.graph:
            scope.copy(node)
        return [scope.resolve(value) for value in template.graph.outputs]

    def model(self) -> ir.Model:
        """The finished model."""
        return self._ir.Model(self._graph, ir_version=_IR_VERSION, producer_name="nas")

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

    def _register(self, name: str, tensor: ir.TensorProtocol) -> ir.Value:
        kind = self._ir.TensorType(tensor.dtype)
        value = self._ir.Value(name=name, shape=tensor.shape, type=kind, const_value=tensor)
        self._graph.register_initializer(value)
        return value

    def _kind(self, name: str | None) -> ir.DataType:
        kinds = self._ir.DataType
        names: dict[str, str] = {"float32": "FLOAT", "float16": "FLOAT16", "bfloat16": "BFLOAT16"}
        return kinds[name or names[str(self._dtype).removeprefix("torch.")]]


class _Scope:
    """One instance of a template: its values as values of the composed graph."""

    def __init__(
        self,
        composer: Composer,
        prefix: str,
        bound: Mapping[str, ir.Value],
        weights: Mapping[str, Weight | ir.Value],
    ) -> None:
        self._composer, self._prefix = composer, prefix
        self._bound, self._weights = dict(bound), weights
        self._copied: dict[ir.Value, ir.Value] = {}
        self._quantised, self._products = dict[Any, str](), QuantisedProducts(composer, prefix)

    def copy(self, node: ir.Node) -> None:
        """Add a copy of `node`, or nothing where it only transposes a weight of this instance."""
        if node.op_type == "Transpose" and node.inputs[0].is_graph_input():
            tensor = self._weights.get(node.inputs[0].name)
            if isinstance(tensor, QuantisedWeight):
                self._quantised[node.outputs[0]] = node.inputs[0].name
                return
            if isinstance(tensor, Tensor):
                name = f"{self._prefix}{node.inputs[0].name}.T"
                self._copied[node.outputs[0]] = self._composer.add_weight(name, tensor, True)
                return
        if node.op_type == "MatMul" and node.inputs[1] in self._quantised:
            name, x = self._quantised[node.inputs[1]], self.resolve(node.inputs[0])
            weight = self._weights[name]
            assert isinstance(weight, QuantisedWeight)
            self._copied[node.outputs[0]] = self._products.product(x, name, weight)
            return
        inputs = [None if value is None else self.resolve(value) for value in node.inputs]
        copy = self._composer.add_node(node, f"{self._prefix}{node.name}", inputs)
        self._copied.update(zip(node.outputs, copy.outputs, strict=True))

    def resolve(self, value: ir.Value) -> ir.Value:
        """The composed graph's value for one of the template's."""
        if value in self._copied:
            return self._copied[value]
        if value.const_value is not None:
            return self._composer.add_constant(value.const_value)
        if value.name not in self._bound:
            weight = self._weights[value.name]
            if isinstance(weight, QuantisedWeight) or value in self._quantised:
                raise PassError(f"{self._prefix}{value.name}: no product to round")
            name = f"{self._prefix}{value.name}"
            self._bound[value.name] = (
                self._composer.add_weight(name, weight) if isinstance(weight, Tensor) else weight
            )
        return self._bound[value.name]
