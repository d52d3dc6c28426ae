"""Fewer key-value heads: mean-pooled projections, then a closed-form output projection."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas._numerics import autocast
from nas.blocks._base import BlockKind
from nas.blocks._data import Built, SlotData
from nas.blocks._ridge import Moments, solve
from nas.blocks.grouped_query_attention.module import GroupedQueryAttentionBlock
from nas.ir import DecoderShape, GroupedQueryAttention, SlotKind


class GroupedQueryAttentionKind(BlockKind[GroupedQueryAttention]):
    """Attention with all query heads and fewer key-value heads."""

    slot_kinds = ("attention",)

    def module(
        self, shape: DecoderShape, slot_kind: SlotKind, spec: GroupedQueryAttention
    ) -> GroupedQueryAttentionBlock:
        return GroupedQueryAttentionBlock(shape, spec.kv_heads)

    def parameters(
        self, shape: DecoderShape, slot_kind: SlotKind, spec: GroupedQueryAttention
    ) -> int:
        query, kept = shape.query_heads * shape.head_dim, spec.kv_heads * shape.head_dim
        weights = 2 * shape.hidden_size * (query + kept)
        biases = (query + 2 * kept) * shape.qkv_bias + shape.hidden_size * shape.output_bias
        return weights + biases + 2 * shape.head_dim * shape.qk_norm

    def flops(
        self,
        shape: DecoderShape,
        spec: GroupedQueryAttention,
        tokens: int,
        context_tokens: int,
    ) -> float:
        query, kept = shape.query_heads * shape.head_dim, spec.kv_heads * shape.head_dim
        projections = 4.0 * tokens * shape.hidden_size * (query + kept)
        return projections + 4.0 * tokens * context_tokens * query

    def cached_values_per_token(self, shape: DecoderShape, spec: GroupedQueryAttention) -> int:
        return 2 * spec.kv_heads * shape.head_dim

    @torch.no_grad()
    def initialise(self, data: SlotData, specs: tuple[GroupedQueryAttention, ...]) -> list[Built]:
        teacher = data.teacher
        assert isinstance(teacher, GroupedQueryAttentionBlock)
        built = []
        for spec in specs:
            block = _pooled(data.shape, teacher, spec.kv_heads)
            sliced = data.error(block)
            _refit_output(data, block)
            built.append(Built(spec, block, data.error(block), sliced))
        return built


def _pooled(
    shape: DecoderShape, teacher: GroupedQueryAttentionBlock, kv_heads: int
) -> GroupedQueryAttentionBlock:
    """Key and value heads averaged over neighbouring groups (arXiv 2305.13245, section 2.1)."""
    block = GroupedQueryAttentionBlock(shape, kv_heads).to(teacher.q_proj.weight.device)
    state = teacher.state_dict()
    for name in ("k_proj.weight", "v_proj.weight", "k_proj.bias", "v_proj.bias"):
        if name in state:
            heads = state[name].unflatten(0, (kv_heads, -1, shape.head_dim))
            state[name] = heads.mean(dim=1).flatten(0, 1)
    block.load_state_dict(state)
    return block


def _refit_output(data: SlotData, block: GroupedQueryAttentionBlock) -> None:
    """Least squares for the output projection on what the pooled heads now produce."""
    width = data.shape.query_heads * data.shape.head_dim
    moments = Moments.zeros(width, data.shape.hidden_size, data.x)
    for x, y in data.fitted():
        with autocast(x.device.type):
            features = block.heads(x, data.context, None)[0]
        moments.add(features.float(), y - _bias(block.o_proj, y))
    block.o_proj.weight.copy_(solve(moments.gram, moments.cross, data.ridge))


def _bias(layer: nn.Linear, like: Tensor) -> Tensor:
    return layer.bias if layer.bias is not None else like.new_zeros(())
