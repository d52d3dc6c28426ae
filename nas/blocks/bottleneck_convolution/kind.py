"""Convolutions of 1x1, 3x3 and 1x1, narrower than the teacher's or in place of its two of 3x3."""

from __future__ import annotations

import torch
from torch import Tensor

from nas._numerics import autocast
from nas.blocks._base import BlockKind
from nas.blocks._channels import elimination_order
from nas.blocks._data import Built, SlotData
from nas.blocks._pictures import TAPS, convolution_flops
from nas.blocks._ridge import Moments, fit_output
from nas.blocks.basic_convolution.module import BasicConvolutionBlock
from nas.blocks.bottleneck_convolution.module import BottleneckConvolutionBlock
from nas.ir import BottleneckConvolution, ConvShape, SlotKind


class BottleneckConvolutionKind(BlockKind[ConvShape, BottleneckConvolution]):
    """Channels behind the 3x3 are the teacher's, those that a refitted last layer misses least.

    Channels before it: of a teacher that is a bottleneck, its own; of one with two convolutions of
    3x3, channels of the state, which a 1x1 passes on as they are, since no state is negative. In
    both they are those whose power, times the weights that read them, is largest.
    """

    def module(
        self, shape: ConvShape, slot_kind: SlotKind, spec: BottleneckConvolution
    ) -> BottleneckConvolutionBlock:
        stage = shape.stage(slot_kind)
        return BottleneckConvolutionBlock(stage.channels, spec.width, stage.side)

    def parameters(self, shape: ConvShape, slot_kind: SlotKind, spec: BottleneckConvolution) -> int:
        channels, width = shape.stage(slot_kind).channels, spec.width
        return 2 * channels * width + TAPS * width**2 + 2 * width + channels

    def flops(
        self,
        shape: ConvShape,
        slot_kind: SlotKind,
        spec: BottleneckConvolution,
        tokens: int,
        context_tokens: int,
    ) -> float:
        stage, width = shape.stage(slot_kind), spec.width
        ends = 2 * convolution_flops(stage.channels, width, 1, stage.side)
        return tokens * (ends + convolution_flops(width, width, TAPS, stage.side))

    @torch.no_grad()
    def initialise(self, data: SlotData, specs: tuple[BottleneckConvolution, ...]) -> list[Built]:
        teacher = data.teacher
        gram = _gram_behind(data)
        widths = sorted({spec.width for spec in specs}, reverse=True)
        kept = elimination_order(gram, _readers(teacher), widths, data.ridge)
        return [self._made(data, spec, kept[spec.width]) for spec in specs]

    def _made(self, data: SlotData, spec: BottleneckConvolution, behind: Tensor) -> Built:
        teacher, channels = data.teacher, data.x.shape[-1]
        side = _side(teacher)
        block = BottleneckConvolutionBlock(channels, spec.width, side).to(data.x.device)
        if isinstance(teacher, BottleneckConvolutionBlock):
            _narrow(block, teacher, data, behind)
        else:
            assert isinstance(teacher, BasicConvolutionBlock)
            _from_basic(block, teacher, data, behind)
        sliced = data.error(block)
        moments = Moments.zeros(spec.width, channels, data.x)
        for x, y, emphasis in data.fitted():
            with autocast(x.device.type):
                features = block.features(x, data.context)
            moments.add(features, y, emphasis)
        fit_output(block.conv3, moments, data.ridge)
        return Built(spec, block, data.error(block), sliced)


def _side(teacher: object) -> int:
    assert isinstance(teacher, (BasicConvolutionBlock, BottleneckConvolutionBlock))
    return teacher.side


def _gram_behind(data: SlotData) -> Tensor:
    """Products of the channels behind the teacher's 3x3 [width, width]."""
    teacher, total = data.teacher, data.x.new_zeros((), dtype=torch.float64)
    for x, _, _ in data.fitted():
        with autocast(x.device.type):
            if isinstance(teacher, BasicConvolutionBlock):
                rows = teacher.inner(x).permute(0, 2, 3, 1)
            else:
                rows = teacher.features(x, data.context)
        flat = rows.flatten(0, -2).float()
        total = total + flat.T @ flat
    return total


def _readers(teacher: object) -> Tensor:
    """What reads a channel behind the 3x3 [outputs, width]; of nine taps their sum."""
    if isinstance(teacher, BottleneckConvolutionBlock):
        return teacher.conv3.weight
    assert isinstance(teacher, BasicConvolutionBlock)
    summed: Tensor = teacher.conv2.weight.unflatten(1, (-1, TAPS)).sum(-1)
    return summed


def _strongest(values: Tensor, readers: Tensor, count: int) -> Tensor:
    """The `count` channels of `values` [..., channels] with the largest power times the squared
    weights that read them [.., channels, ..., ...]; ascending."""
    power = values.flatten(0, -2).float().pow(2).mean(0)
    weight = readers.pow(2).sum((0, *range(2, readers.ndim)))
    found: Tensor = (power * weight).topk(count).indices.sort().values
    return found


def _narrow(
    block: BottleneckConvolutionBlock,
    teacher: BottleneckConvolutionBlock,
    data: SlotData,
    behind: Tensor,
) -> None:
    some = next(data.fitted())[0]
    before = _strongest(torch.relu(teacher.conv1(some)), teacher.conv2.weight, len(behind))
    block.conv1.weight.copy_(teacher.conv1.weight[before])
    block.conv1.bias.copy_(teacher.conv1.bias[before])
    _copy_conv(block.conv2, teacher.conv2, behind, before)
    block.conv3.weight.copy_(teacher.conv3.weight[:, behind])
    block.conv3.bias.copy_(teacher.conv3.bias)


def _from_basic(
    block: BottleneckConvolutionBlock,
    teacher: BasicConvolutionBlock,
    data: SlotData,
    behind: Tensor,
) -> None:
    some = next(data.fitted())[0]
    before = _strongest(some, teacher.conv1.weight, len(behind))
    block.conv1.weight.zero_()[torch.arange(len(before)), before] = 1.0
    block.conv1.bias.zero_()
    _copy_conv(block.conv2, teacher.conv1, behind, before)
    block.conv3.weight.copy_(_readers(teacher)[:, behind])
    block.conv3.bias.copy_(teacher.conv2.bias)


def _copy_conv(to: torch.nn.Conv2d, of: torch.nn.Conv2d, rows: Tensor, columns: Tensor) -> None:
    assert to.bias is not None
    assert of.bias is not None
    to.weight.copy_(of.weight[rows][:, columns])
    to.bias.copy_(of.bias[rows])
