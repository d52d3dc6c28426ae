"""Residual networks over pictures as ONNX: whole, and their parts for measurement.

Graphs are written node by node: a convolution is one node, and nothing has to be traced.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from nas.backends.onnx._compose import Composer
from nas.backends.pictures import (
    ConvLayer,
    Padded,
    Residual,
    opening_block,
    plain_blocks,
    plain_stem,
    slot_block,
)
from nas.blocks import build_block
from nas.chain import ConvChain, openings_of
from nas.errors import PassError
from nas.ir import BlockSpec, ConvShape, SlotKind

if TYPE_CHECKING:
    import onnx_ir as ir

INPUT, OUTPUT = "pixel_values", "logits"


def compose_residual(chain: ConvChain, dtype: str, opset: int) -> ir.Model:
    """`pixel_values` -> `logits`, in memory; weights are read when it is written."""
    shape, composer = chain.shape, Composer("classifier", dtype, opset)
    graph = _Graph(composer)
    side = shape.image_side
    state = composer.add_input(INPUT, ("batch", 3, side, side))
    state = graph.stem(state, chain.stem)
    for block in plain_blocks(chain):
        state = graph.residual(state, block)
    logits = graph.head(state, chain.head)
    composer.add_output(logits, OUTPUT, ("batch", shape.classes))
    return composer.model()


def residual_stack(
    shape: ConvShape,
    slot_kind: SlotKind,
    spec: BlockSpec,
    copies: int,
    *,
    dtype: str,
    seed: int,
    opset: int,
    device: str,
) -> ir.Model:
    """`copies` of one block in a row, each with its own random weights: `state`
    [batch, channels, side, side] -> `next_state`. Raises PassError for a skip.

    A convolution stands before them, so that they find the state as they would in a network, in the
    layout that the runtime gives to what a convolution computes.
    """
    stage, composer = shape.stage(slot_kind), Composer("stack", dtype, opset)
    dims = ("batch", stage.channels, stage.side, stage.side)
    state, graph = composer.add_input("state", dims), _Graph(composer)
    with torch.random.fork_rng(devices=[]), torch.device(device):
        torch.manual_seed(seed)
        state = graph.stem(state, nn.Conv2d(stage.channels, stage.channels, 3, padding=1))
        for i in range(copies):
            block = build_block(shape, slot_kind, spec)
            if block is None:
                raise PassError("a skipped slot has no graph; it costs nothing by definition")
            state = graph.residual(state, slot_block(block, f"copies.{i}"))
    composer.add_output(state, "next_state", dims)
    return composer.model()


def stem_model(shape: ConvShape, *, dtype: str, seed: int, opset: int, device: str) -> ir.Model:
    """The stem and every block that opens a stage, one after the other: what stands before the head
    of a network whose slots are all skipped. `pixel_values` -> `state`."""
    composer = Composer("prologue", dtype, opset)
    side, last = shape.image_side, shape.stages[-1]
    state, graph = composer.add_input(INPUT, ("batch", 3, side, side)), _Graph(composer)
    with torch.random.fork_rng(devices=[]), torch.device(device):
        torch.manual_seed(seed)
        half = (shape.stem_kernel - 1) // 2
        stride = 1 if shape.stem_kernel == 3 else 2
        stem = nn.Conv2d(3, shape.stem_channels, shape.stem_kernel, stride, half)
        openings = [one for group in openings_of(shape) for one in group]
    state = graph.stem(state, stem)
    for i, opening in enumerate(openings):
        state = graph.residual(state, opening_block(opening, f"openings.{i}"))
    composer.add_output(state, "state", ("batch", last.channels, last.side, last.side))
    return composer.model()


def classifier_head_model(
    shape: ConvShape, *, dtype: str, seed: int, opset: int, device: str
) -> ir.Model:
    """`state` [batch, channels, side, side] -> `logits` [batch, classes]."""
    composer, last = Composer("epilogue", dtype, opset), shape.stages[-1]
    state = composer.add_input("state", ("batch", last.channels, last.side, last.side))
    with torch.random.fork_rng(devices=[]), torch.device(device):
        torch.manual_seed(seed)
        head = nn.Linear(last.channels + 1, shape.classes, bias=False)
    composer.add_output(_Graph(composer).head(state, head), OUTPUT, ("batch", shape.classes))
    return composer.model()


class _Graph:
    """Writes the nodes of residual networks. What stands outside the slots is named as a prologue
    or an epilogue, so that profiles find it."""

    def __init__(self, composer: Composer) -> None:
        self._composer = composer

    def stem(self, x: ir.Value, stem: nn.Conv2d) -> ir.Value:
        state = self._relu(self._conv(x, plain_stem(stem), "prologue."), "prologue.stem")
        if stem.kernel_size[0] == 3:
            return state
        sizes = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4}
        return self._op("MaxPool", "prologue.pool", [state], **sizes)

    def residual(self, x: ir.Value, block: Residual) -> ir.Value:
        prefix = "prologue." if block.slot is None else ""
        name, branch = f"{prefix}{block.name}", x
        for conv in block.branch:
            branch = self._conv(branch, conv, prefix)
            if conv.relu:
                branch = self._relu(branch, f"{prefix}{conv.name}")
        shortcut = x
        if isinstance(block.shortcut, ConvLayer):
            shortcut = self._conv(x, block.shortcut, prefix)
        elif isinstance(block.shortcut, Padded):
            shortcut = self._padded(x, block.shortcut, name)
        return self._relu(self._op("Add", f"{name}.add", [branch, shortcut]), f"{name}.add")

    def head(self, state: ir.Value, head: nn.Linear) -> ir.Value:
        mean = self._op("GlobalAveragePool", "epilogue.pool", [state])
        pooled = self._op("Flatten", "epilogue.flatten", [mean])
        weight = self._composer.add_weight("epilogue.head.weight", head.weight[:, :-1])
        bias = self._composer.add_weight("epilogue.head.bias", head.weight[:, -1])
        return self._op("Gemm", "epilogue.head", [pooled, weight, bias], transB=1)

    def _conv(self, x: ir.Value, conv: ConvLayer, prefix: str) -> ir.Value:
        name, kernel = f"{prefix}{conv.name}", conv.weight.shape[-1]
        inputs = [x, self._composer.add_weight(f"{name}.weight", conv.weight)]
        if conv.bias is not None:
            inputs.append(self._composer.add_weight(f"{name}.bias", conv.bias))
        sizes = {
            "kernel_shape": [kernel] * 2,
            "strides": [conv.stride] * 2,
            "pads": [kernel // 2] * 4,
        }
        return self._op("Conv", name, inputs, group=conv.groups, **sizes)

    def _padded(self, x: ir.Value, padded: Padded, name: str) -> ir.Value:
        """Every other pixel, zeros around its channels: a convolution of zeros and ones.

        `Slice` and `Pad` would be exact too, but ONNX Runtime keeps maps in blocks of channels
        between convolutions and the sums behind them alone: everything up to the next stage would
        change its layout at each block.
        """
        outputs = padded.before + padded.inputs + padded.after
        weight = torch.zeros(outputs, padded.inputs, 1, 1)
        own = torch.arange(padded.inputs)
        weight[padded.before + own, own] = 1.0
        return self._conv(x, ConvLayer(f"{name}.shortcut", weight, None, stride=padded.stride), "")

    def _relu(self, x: ir.Value, name: str) -> ir.Value:
        return self._op("Relu", f"{name}.relu", [x])

    def _op(self, kind: str, name: str, inputs: list[ir.Value], **attributes: Any) -> ir.Value:
        return self._composer.add_op(kind, name, inputs, attributes)
