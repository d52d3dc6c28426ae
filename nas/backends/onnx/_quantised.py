"""Matrices of eight bits, and of half precision, in a composed graph.

Half precision: `MatMul` of float16 between two `Cast`. Dynamic: `DynamicQuantizeLinear`,
`MatMulInteger` and the two steps, which ONNX Runtime fuses into one operator. Weights alone:
`DequantizeLinear` and `MatMul`, which it turns into `MatMulNBits`; the file itself holds standard
operators.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from nas.backends.onnx._graph import GraphBuilder
from nas.blocks import quantised_layers, weight_levels
from nas.errors import CapabilityError
from nas.ir import BlockSpec, Precision, precision_of

if TYPE_CHECKING:
    import onnx_ir as ir


@dataclass(frozen=True)
class QuantisedWeight:
    """The weight [out, in] of a layer that rounds, in floating point."""

    weight: Tensor
    precision: Precision

    def halves(self) -> Tensor:
        """In float16 [in, out], as they are stored."""
        return self.weight.detach().to("cpu", torch.float16).T.contiguous()

    def levels(self) -> Tensor:
        """Whole numbers [in, out], as they are stored."""
        return weight_levels(self.weight.detach())[0].to("cpu", torch.int8).T.contiguous()

    def steps(self) -> Tensor:
        """The step of each output channel [out]."""
        return weight_levels(self.weight.detach())[1].to("cpu", torch.float32)


Weight = Tensor | QuantisedWeight


def weights_of(module: nn.Module) -> dict[str, Weight]:
    """All parameters of a slot by name, those of layers that round as such."""
    found: dict[str, Weight] = dict(module.named_parameters())
    for name, layer in quantised_layers(module).items():
        found[f"{name}.weight"] = QuantisedWeight(layer.weight, layer.precision)
    return found


def require_float32(spec: BlockSpec, dtype: str) -> None:
    """Raise CapabilityError for a block that rounds in a network that is not float32."""
    if precision_of(spec) != "float" and dtype != "float32":
        raise CapabilityError(
            f"a block of precision {precision_of(spec)} stands in float32 networks alone, not in "
            f"{dtype}; set precision: float in the search space"
        )


class QuantisedProducts:
    """Products with weights that are rounded, in one instance of a template."""

    def __init__(self, graph: GraphBuilder, prefix: str) -> None:
        self._graph, self._prefix = graph, prefix
        self._inputs: dict[ir.Value, Mapping[str, ir.Value]] = {}

    def product(self, x: ir.Value, name: str, weight: QuantisedWeight) -> ir.Value:
        """`x @ weight.T`; `name` is the weight's."""
        name, graph = f"{self._prefix}{name}", self._graph
        if weight.precision == "float16":
            size = weight.weight.T.shape
            halves = graph.add_lazy(f"{name}.float16", weight.halves, size, "FLOAT16")
            (narrow,) = self._node("MatMul", name, [self._entered_half(x, name), halves])
            return self._node("Cast", f"{name}/wide", [narrow], to=1)[0]  # 1: float32
        levels = graph.add_lazy(f"{name}.int8", weight.levels, weight.weight.T.shape, "INT8")
        steps = graph.add_lazy(f"{name}.step", weight.steps, weight.weight.shape[:1], "FLOAT")
        if weight.precision == "int8":
            (wide,) = self._node("DequantizeLinear", name, [levels, steps], axis=1)
            return self._node("MatMul", name, [x, wide])[0]
        entered = self._entered(x, name)
        (whole,) = self._node("MatMulInteger", name, [entered["levels"], levels, entered["zero"]])
        (wide,) = self._node("Cast", name, [whole], to=1)  # 1: float32
        (step,) = self._node("Mul", f"{name}/step", [entered["step"], steps])
        return self._node("Mul", name, [wide, step])[0]

    def _entered_half(self, x: ir.Value, name: str) -> ir.Value:
        """`x` in float16, once for all products that it enters."""
        if x not in self._inputs:
            (half,) = self._node("Cast", f"{name}/half", [x], to=10)  # 10: float16
            self._inputs[x] = {"half": half}
        return self._inputs[x]["half"]

    def _entered(self, x: ir.Value, name: str) -> Mapping[str, ir.Value]:
        """`x` in whole numbers, once for all products that it enters."""
        if x not in self._inputs:
            values = self._node("DynamicQuantizeLinear", name, [x], outputs=3)
            self._inputs[x] = dict(zip(("levels", "step", "zero"), values, strict=True))
        return self._inputs[x]

    def _node(
        self, operator: str, name: str, inputs: list[ir.Value], outputs: int = 1, **attributes: Any
    ) -> list[ir.Value]:
        return self._graph.add_operator(operator, f"{name}/{operator}", inputs, outputs, attributes)
