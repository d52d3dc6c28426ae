"""Layers that round, computed in the network's own format as a runtime computes them in fewer bits.

Eight bits, as ONNX Runtime has them in whole numbers. Weights: symmetric, one step for each output
channel, 127 levels either way. What enters the layer:

- `int8_dynamic`: 256 levels over the range of the whole input, as `DynamicQuantizeLinear` of ONNX
  has it. Its tensor is one sequence here: the runtime takes one range for a batch.
- `int8`: each run of 32 channels of a token has its own symmetric step. That is how the runtime
  multiplies weights of eight bits (`MatMulNBits` at its default accuracy, into which it turns
  `DequantizeLinear` and `MatMul`), though what is stored of such a block is weights alone.

`float16`, as a GPU has it: weights, what enters and what leaves are halves, and what is summed
between is float32.

Gradients pass the rounding as if it were not there (straight-through, arXiv 1308.3432).
"""

from __future__ import annotations

import copy
from typing import Any, Self, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.ir import Precision

ModuleT = TypeVar("ModuleT", bound=nn.Module)

_WEIGHT_LEVELS = 127
_ACTIVATION_LEVELS = 255
_STEP_BYTES = 4
_WEIGHT_BYTES: dict[Precision, int] = {"float16": 2, "int8": 1, "int8_dynamic": 1}
_BEYOND = 2.0**40
RUN = 32
"""Channels of a token that share a step in a layer of precision `int8`."""


class QuantisedLinear(nn.Linear):
    """A linear layer whose `weight` is rounded whenever it is used.

    The parameter itself stays in floating point: that is what is trained, and refitted. While
    `exact_inputs` is set only the weights are rounded.
    """

    precision: Precision
    exact_inputs = False

    @classmethod
    def of(cls, layer: nn.Linear, precision: Precision) -> Self:
        """A layer that shares the parameters of `layer`."""
        made = cls.__new__(cls)
        nn.Module.__init__(made)
        made.in_features, made.out_features = layer.in_features, layer.out_features
        made.weight, made.bias = layer.weight, layer.bias
        made.precision = precision
        return made

    def forward(self, x: Tensor) -> Tensor:
        return self._in_half(x) if self.precision == "float16" else self._in_eight_bits(x)

    def _in_half(self, x: Tensor) -> Tensor:
        """Halves, multiplied and summed in the format of `x`: in float32 the products are exact and
        sums are those of a GPU that accumulates in float32. In float16 itself a processor would
        take many times as long, and sum in another way."""
        if self.weight.dtype == torch.float16:  # see `hold_halves`
            y = F.linear(x.half(), self.weight).to(x.dtype)
        elif self.exact_inputs:
            y = F.linear(x, as_half(self.weight).to(x.dtype))
        else:
            y = as_half(F.linear(as_half(x), as_half(self.weight).to(x.dtype)))
        return y if self.bias is None else (y + self.bias).to(y.dtype)

    def _in_eight_bits(self, x: Tensor) -> Tensor:
        levels, step = weight_levels(self.weight)
        if self.exact_inputs:
            inputs = x
        elif self.precision == "int8_dynamic":
            inputs, input_step = sequence_levels(x)
            step = step * input_step
        else:
            inputs = rounded_runs(x)
        y = F.linear(inputs.to(x.dtype), levels.to(x.dtype))
        scaled = y * step
        if self.bias is not None:
            scaled = scaled + self.bias
        return scaled.to(y.dtype)


def as_half(x: Tensor) -> Tensor:
    """`x` rounded to float16, in its own format.

    What is beyond float16 is infinite in a runtime, and the network's answers are no numbers then.
    Here it is so large that it drowns everything that it is added to: scores show it, and can still
    be compared.
    """
    halves = x.detach().half().to(x.dtype)
    return _straight_through(x, halves.nan_to_num(torch.nan, _BEYOND, -_BEYOND))


def weight_levels(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Whole numbers [out, in] from -127 to 127, in float32, and the step of each channel [out]."""
    wide = weight.float()
    step = wide.detach().abs().amax(dim=1) / _WEIGHT_LEVELS
    step = torch.where(step > 0, step, torch.ones_like(step))
    return _rounded(wide / step[:, None]), step


def sequence_levels(x: Tensor) -> tuple[Tensor, Tensor]:
    """Whole numbers, in float32, less their zero point, and the step of each sequence [batch, 1, 1]
    of inputs [batch, tokens, channels].

    The formula of ONNX's DynamicQuantizeLinear: the range always holds zero, which has a level.
    """
    wide = x.float()
    inner = tuple(range(1, x.dim()))
    low = wide.detach().amin(dim=inner, keepdim=True).clamp(max=0)
    high = wide.detach().amax(dim=inner, keepdim=True).clamp(min=0)
    step = (high - low) / _ACTIVATION_LEVELS
    step = torch.where(step > 0, step, torch.ones_like(step))
    zero = (-low / step).round().clamp(0, _ACTIVATION_LEVELS)
    scaled = wide / step
    levels = (scaled.detach().round() + zero).clamp(0, _ACTIVATION_LEVELS) - zero
    return _straight_through(scaled, levels), step


def rounded_runs(x: Tensor) -> Tensor:
    """`x` [..., channels] in float32, each run of `RUN` channels on 127 levels either way."""
    channels = x.shape[-1]
    runs = F.pad(x.float(), (0, -channels % RUN)).unflatten(-1, (-1, RUN))
    step = runs.detach().abs().amax(dim=-1, keepdim=True) / _WEIGHT_LEVELS
    step = torch.where(step > 0, step, torch.ones_like(step))
    return (_rounded(runs / step) * step).flatten(-2)[..., :channels]


def _rounded(x: Tensor) -> Tensor:
    return _straight_through(x, x.detach().round())


def _straight_through(x: Tensor, rounded: Tensor) -> Tensor:
    """`rounded`, with the gradient of `x`."""
    return x + (rounded - x.detach()) if x.requires_grad else rounded


def quantise(block: nn.Module, precision: Precision) -> None:
    """Put a layer that rounds, on the same parameters, in the place of each linear one."""
    for module in list(block.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear:
                setattr(module, name, QuantisedLinear.of(child, precision))


@torch.no_grad()
def on_levels(layer: QuantisedLinear) -> Tensor:
    """The weight that the layer computes with [out, in], in float32."""
    if layer.precision == "float16":
        return as_half(layer.weight.float())
    levels, step = weight_levels(layer.weight)
    return levels * step[:, None]


@torch.no_grad()
def settle_on_levels(block: nn.Module) -> None:
    """Make the weights of all layers that round what they compute with."""
    for layer in quantised_layers(block).values():
        layer.weight.copy_(on_levels(layer))


def quantised_layers(module: nn.Module) -> dict[str, QuantisedLinear]:
    """The layers that round in a module, by name."""
    return {n: m for n, m in module.named_modules() if isinstance(m, QuantisedLinear)}


def with_exact_inputs(module: ModuleT) -> ModuleT:
    """A copy on the same parameters whose layers round weights alone."""
    shared: dict[int, Any] = {id(p): p for p in module.parameters()}
    other = copy.deepcopy(module, shared)
    for layer in quantised_layers(other).values():
        layer.exact_inputs = True
    return other


def dequantised(module: ModuleT) -> ModuleT:
    """A copy in which layers that round become linear ones with the weights that they compute with,
    and round nothing. All other parameters are shared."""
    shared: dict[int, Any] = {id(p): p for p in module.parameters()}
    other = copy.deepcopy(module, shared)
    for name, layer in quantised_layers(other).items():
        plain = nn.Linear(layer.in_features, layer.out_features, bias=False, device="meta")
        plain.weight = nn.Parameter(on_levels(layer).to(layer.weight.dtype), requires_grad=False)
        plain.bias = layer.bias
        owner, _, leaf = name.rpartition(".")
        setattr(other.get_submodule(owner), leaf, plain)
    return other


def converted_parameters(module: nn.Module, dtype: torch.dtype) -> dict[int, nn.Parameter]:
    """Copies of all parameters in `dtype`, by the identity of each.

    The weights of layers that round stay what they are, in float32: rounded to bfloat16 first they
    would have other levels. Those of eight bits bfloat16 itself holds exactly; of halves it loses
    three bits, as it does of floats.
    """
    kept = {id(layer.weight) for layer in quantised_layers(module).values()}
    return {
        id(p): p
        if id(p) in kept
        else nn.Parameter(p.detach().to(dtype), requires_grad=p.requires_grad)
        for p in module.parameters()
    }


def convert(module: nn.Module, dtype: torch.dtype) -> None:
    """The same in place."""
    changed = converted_parameters(module, dtype)
    for parameter in module.parameters():
        parameter.data = changed[id(parameter)].data


@torch.no_grad()
def hold_halves(module: nn.Module) -> None:
    """Keep the weights of layers of half precision in it, as a runtime does; they are then
    multiplied in it, too. To be timed: such layers give no gradients, and overflow."""
    for layer in quantised_layers(module).values():
        if layer.precision == "float16":
            layer.weight.data = layer.weight.half()


def bytes_of(block: nn.Module, float_bytes: int) -> int:
    """What the weights of a block take in a runtime's file: for each weight of a layer that rounds
    two bytes, or one where it has eight bits and four for each step; `float_bytes` for every other
    number."""
    found = float_bytes * sum(p.numel() for p in block.parameters())
    for layer in quantised_layers(block).values():
        found += layer.weight.numel() * (_WEIGHT_BYTES[layer.precision] - float_bytes)
        found += 0 if layer.precision == "float16" else layer.out_features * _STEP_BYTES
    return found
