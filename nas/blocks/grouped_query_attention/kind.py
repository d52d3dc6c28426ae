"""Fewer heads: pooled or left out, then a closed-form output projection."""

from __future__ import annotations

import torch
from torch import Tensor

from nas._numerics import autocast
from nas.blocks._base import BlockKind
from nas.blocks._data import Built, SlotData
from nas.blocks._module import unfilled
from nas.blocks._ridge import Moments
from nas.blocks.grouped_query_attention.module import GroupedQueryAttentionBlock
from nas.blocks.grouped_query_attention.selection import columns, kept_heads
from nas.ir import GroupedQueryAttention, SlotKind, TransformerShape, as_transformer


class GroupedQueryAttentionKind(BlockKind[TransformerShape, GroupedQueryAttention]):
    """Attention with fewer heads.

    All query heads on fewer key-value heads: these are pooled. Fewer query heads: the teacher's own
    heads are kept, first by whole groups down to the key-value heads that are asked for, then the
    same number in each group.
    """

    def module(
        self, shape: TransformerShape, slot_kind: SlotKind, spec: GroupedQueryAttention
    ) -> GroupedQueryAttentionBlock:
        return GroupedQueryAttentionBlock(shape, spec.kv_heads, spec.query_heads)

    def parameters(
        self, shape: TransformerShape, slot_kind: SlotKind, spec: GroupedQueryAttention
    ) -> int:
        query, kept = _widths(shape, spec)
        weights = 2 * shape.hidden_size * (query + kept)
        biases = (query + 2 * kept) * shape.qkv_bias + shape.hidden_size * shape.output_bias
        return weights + biases + 2 * shape.head_dim * shape.qk_norm

    def flops(
        self,
        shape: TransformerShape,
        slot_kind: SlotKind,
        spec: GroupedQueryAttention,
        tokens: int,
        context_tokens: int,
    ) -> float:
        query, kept = _widths(shape, spec)
        places = shape.pixels(slot_kind)
        rows, seen = tokens * places, context_tokens * places
        return 4.0 * rows * shape.hidden_size * (query + kept) + 4.0 * rows * seen * query

    def cached_values_per_token(self, shape: TransformerShape, spec: GroupedQueryAttention) -> int:
        return 2 * spec.kv_heads * shape.head_dim

    @torch.no_grad()
    def initialise(self, data: SlotData, specs: tuple[GroupedQueryAttention, ...]) -> list[Built]:
        teacher = data.teacher
        assert isinstance(teacher, GroupedQueryAttentionBlock)
        fewer = any(spec.query_heads is not None for spec in specs)
        features = _head_moments(data, teacher) if fewer else None
        built = []
        for spec in specs:
            if spec.query_heads is None or features is None:
                block = _pooled(as_transformer(data.shape), teacher, spec.kv_heads)
                moments = _head_moments(data, block)
            else:
                heads = kept_heads(
                    as_transformer(data.shape),
                    features.gram,
                    data.felt(teacher.o_proj.weight),
                    spec,
                    data.ridge,
                )
                block = _with_heads(as_transformer(data.shape), teacher, heads)
                moments = features.of(columns(heads.flatten(), as_transformer(data.shape).head_dim))
            sliced, error = data.refit(block, moments)
            built.append(Built(spec, block, error, sliced))
        return built


def _widths(shape: TransformerShape, spec: GroupedQueryAttention) -> tuple[int, int]:
    """Channels of all query heads and of all key-value heads."""
    queries = spec.query_heads or shape.query_heads
    return queries * shape.head_dim, spec.kv_heads * shape.head_dim


def _pooled(
    shape: TransformerShape, teacher: GroupedQueryAttentionBlock, kv_heads: int
) -> GroupedQueryAttentionBlock:
    """Key and value heads averaged over neighbouring groups (arXiv 2305.13245, section 2.1)."""
    device = teacher.q_proj.weight.device
    block = unfilled(lambda: GroupedQueryAttentionBlock(shape, kv_heads), device)
    state = teacher.state_dict()
    for name in _of("k", "v"):
        if name in state:
            heads = state[name].unflatten(0, (kv_heads, -1, shape.head_dim))
            state[name] = heads.mean(dim=1).flatten(0, 1)
    block.load_state_dict(state)
    return block


def _with_heads(
    shape: TransformerShape, teacher: GroupedQueryAttentionBlock, heads: Tensor
) -> GroupedQueryAttentionBlock:
    """The teacher's block with only the query heads [kv_heads, group], and what they look at."""
    device, (kv_heads, group) = teacher.q_proj.weight.device, heads.shape
    block = unfilled(lambda: GroupedQueryAttentionBlock(shape, kv_heads, kv_heads * group), device)
    query = columns(heads.flatten(), shape.head_dim)
    groups = heads[:, 0] // (shape.query_heads // shape.kv_heads)
    key_value = columns(groups, shape.head_dim)
    state = teacher.state_dict()
    for rows, names in ((query, _of("q")), (key_value, _of("k", "v"))):
        for name in names:
            if name in state:
                state[name] = state[name][rows]
    state["o_proj.weight"] = state["o_proj.weight"][:, query]
    block.load_state_dict(state)
    return block


def _of(*projections: str) -> list[str]:
    return [f"{p}_proj.{part}" for p in projections for part in ("weight", "bias")]


def _head_moments(data: SlotData, block: GroupedQueryAttentionBlock) -> Moments:
    """What the block's heads say, against what the teacher's block gave."""
    width = block.query_heads * as_transformer(data.shape).head_dim
    moments = Moments.zeros(width, as_transformer(data.shape).hidden_size, data.x)
    for x, y, emphasis in data.fitted():
        with autocast(x.device.type):
            features = block.features(x, data.context)
        moments.add(features, y, emphasis)
    return moments
