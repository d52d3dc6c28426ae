"""Two convolutions of 3x3 with fewer channels between them."""

from __future__ import annotations

import torch

from nas._numerics import autocast
from nas.blocks._base import BlockKind
from nas.blocks._channels import elimination_order, features_of
from nas.blocks._data import Built, SlotData
from nas.blocks._pictures import TAPS, convolution_flops
from nas.blocks._ridge import Moments, fit_output
from nas.blocks.basic_convolution.module import BasicConvolutionBlock
from nas.ir import BasicConvolution, ConvShape, SlotKind


class BasicConvolutionKind(BlockKind[ConvShape, BasicConvolution]):
    """Channels of the teacher's block are given up whole, all nine taps, by what the second
    convolution loses when it is fitted anew to those that are left."""

    def module(
        self, shape: ConvShape, slot_kind: SlotKind, spec: BasicConvolution
    ) -> BasicConvolutionBlock:
        stage = shape.stage(slot_kind)
        return BasicConvolutionBlock(stage.channels, spec.width, stage.side)

    def parameters(self, shape: ConvShape, slot_kind: SlotKind, spec: BasicConvolution) -> int:
        channels = shape.stage(slot_kind).channels
        return 2 * TAPS * channels * spec.width + spec.width + channels

    def flops(
        self,
        shape: ConvShape,
        slot_kind: SlotKind,
        spec: BasicConvolution,
        tokens: int,
        context_tokens: int,
    ) -> float:
        stage = shape.stage(slot_kind)
        return 2 * tokens * convolution_flops(stage.channels, spec.width, TAPS, stage.side)

    @torch.no_grad()
    def initialise(self, data: SlotData, specs: tuple[BasicConvolution, ...]) -> list[Built]:
        teacher = data.teacher
        assert isinstance(teacher, BasicConvolutionBlock)
        full = teacher.conv2
        moments = Moments.zeros(full.in_features, full.out_features, data.x)
        for x, y, emphasis in data.fitted():
            with autocast(x.device.type):
                features = teacher.features(x, data.context)
            moments.add(features, y, emphasis)
        widths = sorted({spec.width for spec in specs}, reverse=True)
        weight = data.felt(full.weight)
        kept = elimination_order(moments.gram, weight, widths, data.ridge, features=TAPS)
        built = []
        for spec in specs:
            channels = kept[spec.width]
            taps = features_of(channels, TAPS)
            block = BasicConvolutionBlock(full.out_features, spec.width, teacher.side)
            block.to(data.x.device).load_state_dict(
                {
                    "conv1.weight": teacher.conv1.weight[channels],
                    "conv1.bias": _bias(teacher)[channels],
                    "conv2.weight": full.weight[:, taps],
                    "conv2.bias": full.bias,
                }
            )
            sliced = data.error(block)
            fit_output(block.conv2, moments.of(taps), data.ridge)
            built.append(Built(spec, block, data.error(block), sliced))
        return built


def _bias(teacher: BasicConvolutionBlock) -> torch.Tensor:
    assert teacher.conv1.bias is not None
    return teacher.conv1.bias
