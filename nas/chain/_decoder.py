"""A decoder-only language model as a chain: embed -> slots -> final norm -> head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nas.blocks import BlockContext, KeyValue
from nas.blocks._norm import RMSNorm
from nas.chain._base import Chain
from nas.chain._slot import make_slots
from nas.ir import Architecture, DecoderShape


class DecoderChain(Chain):
    """A decoder-only language model of `shape` with the blocks of `architecture`.

    Parameter names: `embed.weight`, `slots.{k}.norm.weight`, `slots.{k}.branch.*`, `norm.weight`
    and, where the embeddings are not tied, `head.weight`; slot k is `shape.slots()[k]`.
    """

    shape: DecoderShape

    def __init__(self, shape: DecoderShape, architecture: Architecture | None = None) -> None:
        super().__init__(shape, architecture)
        self.embed = nn.Embedding(shape.vocab_size, shape.hidden_size)
        self.slots = make_slots(shape, self.architecture)
        self.norm = RMSNorm(shape.hidden_size, shape.norm_eps)
        self.head = nn.Linear(shape.hidden_size, shape.vocab_size, bias=False)
        if shape.tied_embeddings:
            self.head.weight = self.embed.weight
        self.rotary = rotary_embedding(shape)

    def forward(self, ids: Tensor) -> Tensor:
        """Token ids [batch, tokens] to logits [batch, tokens, vocab]."""
        return self.logits(self.run(self.embed_tokens(ids), self.context(ids)))

    def embed_tokens(self, ids: Tensor) -> Tensor:
        """The residual stream before slot 0, in `residual_dtype` where that is set."""
        return self._in_residual_dtype(self.embed(ids))

    def final_hidden(self, state: Tensor) -> Tensor:
        """The normed state that the head reads."""
        hidden: Tensor = self.norm(state)
        return hidden

    def exact_hidden(self, state: Tensor) -> Tensor:
        """The final norm at full precision."""
        wide = state.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.norm.eps)
        return wide * self.norm.weight.float()

    def logits(self, state: Tensor) -> Tensor:
        """Logits of a state after the last slot."""
        logits: Tensor = self.head(self.final_hidden(state))
        return logits

    def context(self, ids: Tensor) -> BlockContext:
        """Positions and mask of a fresh, unpadded batch."""
        batch, tokens = ids.shape
        positions = torch.arange(tokens, device=ids.device).expand(batch, tokens)
        cos, sin = self.angles(positions)
        window = self.shape.sliding_window
        mask = None
        if window is not None and tokens > window:
            distance = positions[0, :, None] - positions[0, None, :]
            mask = ((distance >= 0) & (distance < window))[None, None]
        return BlockContext(cos, sin, mask)

    def angles(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Rotary cos and sin [batch, tokens, head_dim] of positions [batch, tokens]."""
        cos, sin = self.rotary(self.norm.weight, positions)
        return cos, sin

    def cached_context(self, attention_mask: Tensor, tokens: int) -> BlockContext:
        """Positions and mask of the last `tokens` columns of a padding mask [batch, past + tokens].

        Positions count the unmasked tokens before each, as transformers does for left padding.
        """
        total = attention_mask.shape[1]
        positions = (attention_mask.long().cumsum(-1) - 1).clamp(min=0)[:, total - tokens :]
        cos, sin = self.angles(positions)
        column = torch.arange(total, device=attention_mask.device)
        row = column[total - tokens :, None]
        visible = column[None, :] <= row
        if self.shape.sliding_window is not None:
            visible = visible & (row - column[None, :] < self.shape.sliding_window)
        mask = visible[None, None] & attention_mask.bool()[:, None, None, :]
        return BlockContext(cos, sin, mask)

    def empty_cache(self, batch: int) -> list[KeyValue]:
        """A cache of no tokens, one entry for each slot that caches."""
        entries = []
        for k in range(len(self.slots)):
            slot = self.slot(k)
            if slot.caches:
                entries.append(slot.cached_branch.empty_cache(batch, self.dtype))
        return entries

    def forward_cached(
        self, ids: Tensor, attention_mask: Tensor, past: Sequence[KeyValue]
    ) -> tuple[Tensor, list[KeyValue]]:
        """Logits of `ids` [batch, tokens] after `past`, and the extended cache."""
        context = self.cached_context(attention_mask, ids.shape[1])
        state, waiting, presents = self.embed_tokens(ids), list(past), []
        for k in range(len(self.slots)):
            slot = self.slot(k)
            if slot.caches:
                state, present = slot.forward_cached(state, context, waiting.pop(0))
                presents.append(present)
            else:
                state = slot(state, context)
        return self.logits(state), presents


def rotary_embedding(shape: DecoderShape) -> nn.Module:
    """transformers' own rotary module, so that every rope variant is computed as it computes it."""
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    settings: dict[str, Any] = {
        "hidden_size": shape.hidden_size,
        "num_attention_heads": 1,  # the angles depend on head_dim alone
        "head_dim": shape.head_dim,
        "max_position_embeddings": shape.max_positions,
        "rope_parameters": dict(shape.rope) or {"rope_type": "default", "rope_theta": 10000.0},
    }
    rotary: nn.Module = LlamaRotaryEmbedding(LlamaConfig(**settings))
    return rotary
