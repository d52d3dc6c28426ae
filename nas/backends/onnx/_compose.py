"""Puts templates together into one model, each instance with weights of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from nas.backends.onnx._graph import GraphBuilder
from nas.backends.onnx._quantised import QuantisedProducts, QuantisedWeight, Weight
from nas.backends.onnx._template import Dims, Template
from nas.errors import PassError

if TYPE_CHECKING:
    import onnx_ir as ir

_CACHE_PARTS = ("key", "value")


class Composer(GraphBuilder):
    """Also grows by whole templates, and knows what the inputs of our models are called."""

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


class _Scope:
    """One instance of a template: its values as values of the composed graph."""

    def __init__(
        self,
        graph: GraphBuilder,
        prefix: str,
        bound: Mapping[str, ir.Value],
        weights: Mapping[str, Weight | ir.Value],
    ) -> None:
        self._graph, self._prefix = graph, prefix
        self._bound, self._weights = dict(bound), weights
        self._copied: dict[ir.Value, ir.Value] = {}
        self._quantised, self._products = dict[Any, str](), QuantisedProducts(graph, prefix)

    def copy(self, node: ir.Node) -> None:
        """Add a copy of `node`, or nothing where it only transposes a weight of this instance."""
        if node.op_type == "Transpose" and node.inputs[0].is_graph_input():
            tensor = self._weights.get(node.inputs[0].name)
            if isinstance(tensor, QuantisedWeight):
                self._quantised[node.outputs[0]] = node.inputs[0].name
                return
            if isinstance(tensor, Tensor):
                name = f"{self._prefix}{node.inputs[0].name}.T"
                self._copied[node.outputs[0]] = self._graph.add_weight(name, tensor, True)
                return
        if node.op_type == "MatMul" and node.inputs[1] in self._quantised:
            name, x = self._quantised[node.inputs[1]], self.resolve(node.inputs[0])
            weight = self._weights[name]
            assert isinstance(weight, QuantisedWeight)
            self._copied[node.outputs[0]] = self._products.product(x, name, weight)
            return
        inputs = [None if value is None else self.resolve(value) for value in node.inputs]
        copy = self._graph.add_node(node, f"{self._prefix}{node.name}", inputs)
        self._copied.update(zip(node.outputs, copy.outputs, strict=True))

    def resolve(self, value: ir.Value) -> ir.Value:
        """The composed graph's value for one of the template's."""
        if value in self._copied:
            return self._copied[value]
        if value.const_value is not None:
            return self._graph.add_constant(value.const_value)
        if value.name not in self._bound:
            weight = self._weights[value.name]
            if isinstance(weight, QuantisedWeight) or value in self._quantised:
                raise PassError(f"{self._prefix}{value.name}: no product to round")
            name = f"{self._prefix}{value.name}"
            self._bound[value.name] = (
                self._graph.add_weight(name, weight) if isinstance(weight, Tensor) else weight
            )
        return self._bound[value.name]
