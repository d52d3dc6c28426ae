"""Grouped-query attention, with rotary positions where there are any (arXiv 2305.13245)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.blocks._module import BlockContext, CachedBlock, KeyValue
from nas.blocks._norm import RMSNorm
from nas.blocks.grouped_query_attention.attention import causal_attention
from nas.ir import TransformerShape


class GroupedQueryAttentionBlock(CachedBlock):
    """Attention of `shape` with `kv_heads` key-value heads and `query_heads`, or the shape's."""

    def __init__(
        self, shape: TransformerShape, kv_heads: int, query_heads: int | None = None
    ) -> None:
        super().__init__()
        hidden, dim, queries = shape.hidden_size, shape.head_dim, query_heads or shape.query_heads
        self.query_heads, self.kv_heads, self.head_dim = queries, kv_heads, dim
        self.q_proj = nn.Linear(hidden, queries * dim, bias=shape.qkv_bias)
        self.k_proj = nn.Linear(hidden, kv_heads * dim, bias=shape.qkv_bias)
        self.v_proj = nn.Linear(hidden, kv_heads * dim, bias=shape.qkv_bias)
        self.o_proj = nn.Linear(queries * dim, hidden, bias=shape.output_bias)
        self.q_norm = RMSNorm(dim, shape.norm_eps) if shape.qk_norm else None
        self.k_norm = RMSNorm(dim, shape.norm_eps) if shape.qk_norm else None

    @property
    def output_layer(self) -> nn.Linear:
        return self.o_proj

    def features(self, x: Tensor, context: BlockContext) -> Tensor:
        """What the heads say [batch, tokens, query_heads * head_dim]."""
        return self.heads(x, context, None)[0]

    def forward_cached(
        self, x: Tensor, context: BlockContext, past: KeyValue
    ) -> tuple[Tensor, KeyValue]:
        mixed, present = self.heads(x, context, past)
        return self.o_proj(mixed), present

    def heads(
        self, x: Tensor, context: BlockContext, past: KeyValue | None
    ) -> tuple[Tensor, KeyValue]:
        """Input of the output projection [batch, tokens, query_heads * head_dim], and the cache."""
        query = self._split(self.q_proj(x), self.query_heads)
        key = self._split(self.k_proj(x), self.kv_heads)
        value = self._split(self.v_proj(x), self.kv_heads)
        if self.q_norm is not None and self.k_norm is not None:
            query, key = self.q_norm(query), self.k_norm(key)
        query, key = _rotate(query, context), _rotate(key, context)
        if past is not None:
            key = torch.cat((past.key, key), dim=2)
            value = torch.cat((past.value, value), dim=2)
        if past is None and context.mask is None and context.causal:
            mixed = causal_attention(query, key, value)
        else:
            mixed = F.scaled_dot_product_attention(
                query,
                key,
                value,
                attn_mask=context.mask,
                is_causal=context.causal and context.mask is None,
                enable_gqa=self.kv_heads < self.query_heads,
            )
        return mixed.transpose(1, 2).flatten(2), KeyValue(key, value)

    def _split(self, projected: Tensor, heads: int) -> Tensor:
        heads_first: Tensor = projected.unflatten(-1, (heads, self.head_dim)).transpose(1, 2)
        return heads_first


def _rotate(x: Tensor, context: BlockContext) -> Tensor:
    """Rotary embedding of [batch, heads, tokens, head_dim], halves paired as Llama pairs them."""
    if context.cos is None or context.sin is None:
        return x
    first, second = x.chunk(2, dim=-1)
    turned = torch.cat((-second, first), dim=-1)
    cos, sin = context.cos.unsqueeze(1).to(x.dtype), context.sin.unsqueeze(1).to(x.dtype)
    return x * cos + turned * sin
