"""The best linear convolution for a block: ridge regression, reduced in rank."""

from __future__ import annotations

import torch

from nas.blocks._base import BlockKind
from nas.blocks._data import Built, SlotData
from nas.blocks._pictures import TAPS, as_pictures, convolution_flops, patches
from nas.blocks._ridge import Moments, solve_affine
from nas.blocks.low_rank_convolution.module import LowRankConvolutionBlock
from nas.ir import ConvShape, LowRankConvolution, SlotKind


class LowRankConvolutionKind(BlockKind[ConvShape, LowRankConvolution]):
    """Of all linear maps of patches of 3x3 with this rank, the one with the least squared error:
    the full regression, projected on the leading directions of what it predicts (reduced-rank
    regression; Izenman 1975, doi 10.1016/0047-259X(75)90042-1)."""

    def module(
        self, shape: ConvShape, slot_kind: SlotKind, spec: LowRankConvolution
    ) -> LowRankConvolutionBlock:
        stage = shape.stage(slot_kind)
        return LowRankConvolutionBlock(stage.channels, spec.rank, stage.side)

    def parameters(self, shape: ConvShape, slot_kind: SlotKind, spec: LowRankConvolution) -> int:
        channels = shape.stage(slot_kind).channels
        if spec.rank is None:
            return TAPS * channels**2 + channels
        return (TAPS + 1) * channels * spec.rank + channels

    def flops(
        self,
        shape: ConvShape,
        slot_kind: SlotKind,
        spec: LowRankConvolution,
        tokens: int,
        context_tokens: int,
    ) -> float:
        stage = shape.stage(slot_kind)
        if spec.rank is None:
            return tokens * convolution_flops(stage.channels, stage.channels, TAPS, stage.side)
        return tokens * convolution_flops(stage.channels, spec.rank, TAPS + 1, stage.side)

    @torch.no_grad()
    def initialise(self, data: SlotData, specs: tuple[LowRankConvolution, ...]) -> list[Built]:
        channels, side = data.x.shape[-1], round(data.x.shape[1] ** 0.5)
        moments = Moments.zeros(TAPS * channels, channels, data.x)
        for x, y, emphasis in data.fitted():
            moments.add(patches(as_pictures(x, side)), y, emphasis)
        weight, bias = solve_affine(moments, data.ridge)
        mean = moments.feature_sum / (moments.count or 1)
        centred = moments.gram - (moments.count or 1) * torch.outer(mean, mean)
        predicted = weight.double() @ centred.double() @ weight.double().T
        _, directions = torch.linalg.eigh(predicted)  # ascending
        built = []
        for spec in specs:
            block = LowRankConvolutionBlock(channels, spec.rank, side).to(data.x.device)
            block.conv2.bias.copy_(bias)
            if block.conv1 is None:
                block.conv2.weight.copy_(weight)
            else:
                kept = directions[:, -block.conv1.out_channels :].to(weight.dtype)
                block.conv1.weight.copy_((kept.T @ weight).unflatten(1, (-1, 3, 3)))
                block.conv2.weight.copy_(kept)
                # the part of the mean that the directions left out lose
                lost = (weight - kept @ (kept.T @ weight)) @ mean.to(weight.dtype)
                block.conv2.bias.add_(lost)
            error = data.error(block)
            built.append(Built(spec, block, error, error))
        return built
