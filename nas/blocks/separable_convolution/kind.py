"""Filters of each channel alone, the best that the teacher's first convolution has, then 1x1."""

from __future__ import annotations

import torch
from torch import Tensor

from nas._numerics import autocast
from nas.blocks._base import BlockKind
from nas.blocks._data import Built, SlotData
from nas.blocks._pictures import TAPS, convolution_flops
from nas.blocks._ridge import Moments, fit_output
from nas.blocks.basic_convolution.module import BasicConvolutionBlock
from nas.blocks.bottleneck_convolution.module import BottleneckConvolutionBlock
from nas.blocks.separable_convolution.module import SeparableConvolutionBlock
from nas.ir import ConvShape, SeparableConvolution, SlotKind


class SeparableConvolutionKind(BlockKind[ConvShape, SeparableConvolution]):
    """The `multiplier` filters of a channel are the leading singular vectors of all that the
    teacher's first convolution does with it; the pointwise layer is fitted."""

    def module(
        self, shape: ConvShape, slot_kind: SlotKind, spec: SeparableConvolution
    ) -> SeparableConvolutionBlock:
        stage = shape.stage(slot_kind)
        return SeparableConvolutionBlock(stage.channels, spec.multiplier, stage.side)

    def parameters(self, shape: ConvShape, slot_kind: SlotKind, spec: SeparableConvolution) -> int:
        channels = shape.stage(slot_kind).channels
        wide = spec.multiplier * channels
        return (TAPS + 1) * wide + (wide + 1) * channels

    def flops(
        self,
        shape: ConvShape,
        slot_kind: SlotKind,
        spec: SeparableConvolution,
        tokens: int,
        context_tokens: int,
    ) -> float:
        stage = shape.stage(slot_kind)
        wide = spec.multiplier * stage.channels
        depthwise = convolution_flops(1, wide, TAPS, stage.side)
        return tokens * (depthwise + convolution_flops(wide, stage.channels, 1, stage.side))

    @torch.no_grad()
    def initialise(self, data: SlotData, specs: tuple[SeparableConvolution, ...]) -> list[Built]:
        return [self._made(data, spec) for spec in specs]

    def _made(self, data: SlotData, spec: SeparableConvolution) -> Built:
        teacher, channels = data.teacher, data.x.shape[-1]
        assert isinstance(teacher, (BasicConvolutionBlock, BottleneckConvolutionBlock))
        block = SeparableConvolutionBlock(channels, spec.multiplier, teacher.side)
        block.to(data.x.device)
        filters = _filters(teacher.first_taps(), spec.multiplier)
        block.depthwise.weight.copy_(filters.reshape(-1, 1, 3, 3))
        assert block.depthwise.bias is not None
        block.depthwise.bias.zero_()
        block.pointwise.weight.zero_()
        block.pointwise.bias.zero_()
        sliced = data.error(block)  # that of nothing: a fit is all that the pointwise layer is
        moments = Moments.zeros(block.pointwise.in_features, channels, data.x)
        for x, y, emphasis in data.fitted():
            with autocast(x.device.type):
                features = block.features(x, data.context)
            moments.add(features, y, emphasis)
        fit_output(block.pointwise, moments, data.ridge)
        return Built(spec, block, data.error(block), sliced)


def _filters(taps: Tensor, count: int) -> Tensor:
    """`count` filters [channels, count, 3, 3] that span the most of taps [width, channels, 3, 3];
    where they are fewer, the last is repeated with its sign turned: relu tells them apart."""
    rows = taps.transpose(0, 1).flatten(2)  # [channels, width, 9]
    _, _, right = torch.linalg.svd(rows, full_matrices=False)
    # States are not negative: a filter of mostly positive taps passes relu with more of them.
    turned = right.sum(-1, keepdim=True) < 0
    right = torch.where(turned, -right, right)
    while right.shape[1] < count:
        right = torch.cat((right, -right), dim=1)
    found: Tensor = right[:, :count].unflatten(-1, (3, 3))
    return found
