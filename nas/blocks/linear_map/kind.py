"""A linear block: ridge regression of the branch's output on its input."""

from __future__ import annotations

import torch

from nas.blocks._base import BlockKind
from nas.blocks._data import Built, SlotData
from nas.blocks._module import unfilled
from nas.blocks._ridge import Moments, fit_output
from nas.blocks.feed_forward.module import FeedForwardBlock
from nas.blocks.gated_feed_forward.module import GatedFeedForwardBlock
from nas.blocks.grouped_query_attention.module import GroupedQueryAttentionBlock
from nas.blocks.linear_map.module import LinearMapBlock
from nas.ir import ChainShape, LinearMap, SlotKind


class LinearMapKind(BlockKind[ChainShape, LinearMap]):
    """One linear layer."""

    def module(self, shape: ChainShape, slot_kind: SlotKind, spec: LinearMap) -> LinearMapBlock:
        return LinearMapBlock(shape.state_width(slot_kind))

    def parameters(self, shape: ChainShape, slot_kind: SlotKind, spec: LinearMap) -> int:
        width = shape.state_width(slot_kind)
        return width * (width + 1)

    def flops(
        self,
        shape: ChainShape,
        slot_kind: SlotKind,
        spec: LinearMap,
        tokens: int,
        context_tokens: int,
    ) -> float:
        return 2.0 * tokens * shape.pixels(slot_kind) * shape.state_width(slot_kind) ** 2

    @torch.no_grad()
    def initialise(self, data: SlotData, specs: tuple[LinearMap, ...]) -> list[Built]:
        hidden = data.x.shape[-1]
        sliced = data.error(_product(data))
        moments = Moments.zeros(hidden, hidden, data.x)
        for x, y, emphasis in data.fitted():
            moments.add(x, y, emphasis)
        block = unfilled(lambda: LinearMapBlock(hidden), data.x.device)
        fit_output(block.proj, moments, data.ridge)
        return [Built(spec, block, data.error(block), sliced) for spec in specs]


def _product(data: SlotData) -> LinearMapBlock:
    """The paper's start (arXiv 2411.19146): W_down W_up, and W_o W_v with the heads repeated."""
    block = unfilled(lambda: LinearMapBlock(data.x.shape[-1]), data.x.device)
    teacher = data.teacher
    if isinstance(teacher, GroupedQueryAttentionBlock):
        value = teacher.v_proj.weight.unflatten(0, (teacher.kv_heads, teacher.head_dim))
        repeats = teacher.query_heads // teacher.kv_heads
        weight = teacher.o_proj.weight @ value.repeat_interleave(repeats, dim=0).flatten(0, 1)
    elif isinstance(teacher, (GatedFeedForwardBlock, FeedForwardBlock)):
        weight = teacher.down_proj.weight @ teacher.up_proj.weight
    else:  # convolutions mix neighbours, which one matrix a pixel cannot: from nothing
        weight = torch.zeros_like(block.proj.weight)
    block.proj.weight.copy_(weight)
    block.proj.bias.zero_()
    return block
