"""Causal attention whose backward pass is run many times on one graph."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_MOST_SCORES = 2**23
"""Attention weights that are kept between two backward passes: 16 MiB in bfloat16."""


def pays(query: Tensor) -> bool:
    """Whether `causal_attention` is worth it for a query [batch, heads, tokens, head_dim]."""
    batch, heads, tokens, _ = query.shape
    return (
        torch.is_grad_enabled()
        and query.requires_grad
        and query.device.type == "cpu"
        and query.dtype == torch.bfloat16
        and not torch.is_autocast_enabled("cpu")
        and batch * heads * tokens**2 <= _MOST_SCORES
    )


def causal_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """As torch's own, key-value heads shared by groups of query heads.

    torch's fused backward pass on a CPU takes some eight times its forward pass. Over short
    sequences five plain products are faster, the more so as the weights stay for the next pass.
    """
    mixed: Tensor = _CausalAttention.apply(query, key, value)  # type: ignore[no-untyped-call]
    return mixed


class _CausalAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        shared = key.shape[1] < query.shape[1]
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=shared)
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
