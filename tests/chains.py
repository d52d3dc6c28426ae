"""Small random chains with mixed blocks, for tests of whatever takes a chain."""

from __future__ import annotations

from typing import Any

import torch

from nas.chain import DecoderChain
from nas.ir import (
    Architecture,
    DecoderShape,
    GatedFeedForward,
    GroupedQueryAttention,
    LinearMap,
    Skip,
)

MIXED = Architecture(
    choices={
        "layers.0.attention": Skip(),
        "layers.0.ffn": Skip(),
        "layers.1.attention": LinearMap(),
        "layers.1.ffn": GatedFeedForward(width=20),
        "layers.2.attention": GroupedQueryAttention(kv_heads=1, query_heads=2),
        "layers.2.ffn": LinearMap(),
    }
)
"""For a shape of four layers; the last keeps the teacher's blocks."""


def tiny_shape(**overrides: Any) -> DecoderShape:
    """Four layers of width 32 with the vocabulary of `tests.models.tiny_tokenizer`."""
    settings: dict[str, Any] = {
        "family": "llama",
        "layers": 4,
        "hidden_size": 32,
        "query_heads": 4,
        "kv_heads": 2,
        "head_dim": 8,
        "ffn_width": 48,
        "vocab_size": 264,
        "max_positions": 128,
        "tied_embeddings": True,
        "norm_eps": 1e-5,
        "rope": {"rope_type": "default", "rope_theta": 10000.0},
        "bos_token_id": 256,
        "eos_token_ids": (257,),
    }
    return DecoderShape(**{**settings, **overrides})


def tiny_chain(
    shape: DecoderShape | None = None, architecture: Architecture = MIXED, seed: int = 0
) -> DecoderChain:
    """A frozen chain in eval mode whose weights, biases and norms all matter."""
    chain = DecoderChain(shape or tiny_shape(), architecture).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for parameter in chain.parameters():
        spread = torch.randn(parameter.shape, generator=generator)
        parameter.copy_(1 + 0.2 * spread if parameter.ndim == 1 else 0.25 * spread)
    return chain


def tiny_ids(rows: int = 3, tokens: int = 12, seed: int = 1) -> torch.Tensor:
    """Random token ids [rows, tokens]."""
    return torch.randint(0, 256, (rows, tokens), generator=torch.Generator().manual_seed(seed))
