"""Causal attention, with a forward and a backward pass of our own where torch's are slow."""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_MOST_SCORES = 2**23
"""Attention weights that are kept between two backward passes: 16 MiB in bfloat16."""


_ROWS = 64
"""Queries that look at their keys at once."""


def causal_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Each query [batch, heads, tokens, head_dim] sees the keys up to its own place, key-value
    heads shared by groups of query heads. Torch's own does it where it is not slower.

    torch's fused backward pass on a CPU takes some eight times its forward pass. Over short
    sequences five plain products are faster, the more so as the weights stay for the next pass.
    """
    if not (torch.is_grad_enabled() and query.requires_grad):
        return _forward(query, key, value)
    if _backward_pays(query):
        mixed: Tensor = _CausalAttention.apply(query, key, value)  # type: ignore[no-untyped-call]
        return mixed
    return _fused(query, key, value)


def _backward_pays(query: Tensor) -> bool:
    batch, heads, tokens, _ = query.shape
    return (
        query.device.type == "cpu"
        and query.dtype == torch.bfloat16
        and not torch.is_autocast_enabled("cpu")
        and batch * heads * tokens**2 <= _MOST_SCORES
    )


def _forward(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Where bfloat16 is multiplied by vectors and not by tiles, torch's fused kernel takes twice as
    long as plain products over the keys that a block of queries may see."""
    low = query.device.type == "cpu" and query.dtype == torch.bfloat16
    plain = low and query.shape[2] >= _ROWS and _by_vectors()
    return (_by_rows if plain else _fused)(query, key, value)


@functools.cache
def _by_vectors() -> bool:
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16")) and not able.get("amx_bf16")


def _fused(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    shared = key.shape[1] < query.shape[1]
    return F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=shared)


def _by_rows(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    group, tokens = query.shape[1] // key.shape[1], query.shape[2]
    queries = (query * query.shape[-1] ** -0.5).unflatten(1, (-1, group))
    mixed = torch.empty_like(queries)
    later = query.new_full((_ROWS, _ROWS), -torch.inf).triu(1)
    for start in range(0, tokens, _ROWS):
        rows = slice(start, min(start + _ROWS, tokens))
        few = rows.stop - start
        scores = queries[:, :, :, rows].flatten(2, 3) @ key[:, :, : rows.stop].transpose(-1, -2)
        scores.unflatten(2, (group, few))[..., start:].add_(later[:few, :few])
        found = scores.softmax(-1) @ value[:, :, : rows.stop]
        mixed[:, :, :, rows] = found.unflatten(2, (group, few))
    return mixed.flatten(1, 2)


class _CausalAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        mixed = _forward(query, key, value)
        ctx.save_for_backward(query, key, value, mixed)
        ctx.kept = None
        return mixed

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if ctx.kept is None:
            ctx.kept = _kept(*ctx.saved_tensors)
        weights, mixed, query, key, value = ctx.kept
        group = query.shape[2] // key.shape[2]
        grad = _grouped(upstream[0], group)
        # sum over keys of weight times its gradient, by rows of the output instead
        mean = (grad.float() * mixed).sum(-1, keepdim=True).to(grad.dtype)
        scores = (grad @ value).sub_(mean).mul_(weights)
        grad_value = weights.transpose(-1, -2) @ grad
        grad_key = scores.transpose(-1, -2) @ query
        grad_query = (scores @ key).unflatten(2, (group, -1)).flatten(1, 2)
        return grad_query, grad_key, grad_value


def _kept(query: Tensor, key: Tensor, value: Tensor, mixed: Tensor) -> tuple[Tensor, ...]:
    """What all backward passes share: weights and output in float32 by groups, query and key with
    the scale of their products, the value transposed."""
    scale, group = query.shape[-1] ** -0.5, query.shape[1] // key.shape[1]
    queries = _grouped(query, group)
    weights = _weights(queries @ key.transpose(-1, -2), group, scale)
    wide = _grouped(mixed, group).float()
    return weights, wide, queries * scale, key * scale, value.transpose(-1, -2).contiguous()


def _grouped(x: Tensor, group: int) -> Tensor:
    """[batch, KV heads, group * tokens, head_dim]"""
    rows: Tensor = x.unflatten(1, (-1, group)).flatten(2, 3)
    return rows


def _weights(products: Tensor, group: int, scale: float) -> Tensor:
    """Softmax over the keys that a query may see."""
    tokens = products.shape[-1]
    hidden = torch.ones(tokens, tokens, dtype=torch.bool).triu(1).repeat(group, 1)
    found = (products.float() * scale).masked_fill_(hidden, -torch.inf).softmax(-1)
    return found.to(products.dtype)
