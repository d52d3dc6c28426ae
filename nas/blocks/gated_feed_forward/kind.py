"""Narrower feed-forward: channels kept by what they contribute, then a refitted down projection."""

from __future__ import annotations

import torch
from torch import Tensor

from nas._numerics import autocast
from nas.blocks._base import BlockKind
from nas.blocks._data import Built, SlotData
from nas.blocks._ridge import Moments, solve
from nas.blocks.gated_feed_forward.module import GatedFeedForwardBlock
from nas.blocks.gated_feed_forward.selection import elimination_order
from nas.ir import DecoderShape, GatedFeedForward, SlotKind


class GatedFeedForwardKind(BlockKind[GatedFeedForward]):
    """Gated feed-forward with fewer intermediate channels."""

    slot_kinds = ("ffn",)

    def module(
        self, shape: DecoderShape, slot_kind: SlotKind, spec: GatedFeedForward
    ) -> GatedFeedForwardBlock:
        return GatedFeedForwardBlock(shape, spec.width)

    def parameters(self, shape: DecoderShape, slot_kind: SlotKind, spec: GatedFeedForward) -> int:
        biases = (2 * spec.width + shape.hidden_size) * shape.ffn_bias
        return 3 * shape.hidden_size * spec.width + biases

    def flops(
        self, shape: DecoderShape, spec: GatedFeedForward, tokens: int, context_tokens: int
    ) -> float:
        return 6.0 * tokens * shape.hidden_size * spec.width

    @torch.no_grad()
    def initialise(self, data: SlotData, specs: tuple[GatedFeedForward, ...]) -> list[Built]:
        teacher = data.teacher
        assert isinstance(teacher, GatedFeedForwardBlock)
        moments = _intermediate_moments(data, teacher)
        widths = sorted({spec.width for spec in specs}, reverse=True)
        kept = elimination_order(moments.gram, teacher.down_proj.weight, widths, data.ridge)
        built = []
        for spec in specs:
            channels = kept[spec.width]
            block = _sliced(data.shape, teacher, channels)
            sliced = data.error(block)
            gram = moments.gram[channels][:, channels]
            block.down_proj.weight.copy_(solve(gram, moments.cross[channels], data.ridge))
            built.append(Built(spec, block, data.error(block), sliced))
        return built


def _intermediate_moments(data: SlotData, teacher: GatedFeedForwardBlock) -> Moments:
    """One pass gives the Gram matrix that every width needs."""
    moments = Moments.zeros(data.shape.ffn_width, data.shape.hidden_size, data.x)
    bias = teacher.down_proj.bias if data.shape.ffn_bias else data.y.new_zeros(())
    for x, y in data.fitted():
        with autocast(x.device.type):
            features = teacher.features(x, data.context)
        moments.add(features, y - bias)
    return moments


def _sliced(
    shape: DecoderShape, teacher: GatedFeedForwardBlock, channels: Tensor
) -> GatedFeedForwardBlock:
    """The teacher's block with only `channels`."""
    block = GatedFeedForwardBlock(shape, len(channels)).to(teacher.up_proj.weight.device)
    state = teacher.state_dict()
    for name in ("gate_proj.weight", "up_proj.weight", "gate_proj.bias", "up_proj.bias"):
        if name in state:
            state[name] = state[name][channels]
    state["down_proj.weight"] = state["down_proj.weight"][:, channels]
    block.load_state_dict(state)
    return block
