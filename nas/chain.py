"""The network as a chain: embed -> slots -> final norm -> head.

Capture walks it once, streaming holds one slot at a time, scoring starts in the middle, assembly
swaps a branch. Teacher and student are both a `DecoderChain`; they differ in their architecture.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from nas.blocks import Block, BlockContext, CachedBlock, KeyValue, build_block
from nas.blocks._norm import RMSNorm
from nas.errors import PassError
from nas.ir import Architecture, DecoderShape
from nas.ir import Slot as SlotId


class SlotModule(nn.Module):
    """`state + branch(norm(state))`; a skipped slot has neither branch nor norm."""

    def __init__(self, norm: RMSNorm, branch: Block | None) -> None:
        super().__init__()
        self.norm = norm if branch is not None else None
        self.branch = branch

    def forward(self, state: Tensor, context: BlockContext) -> Tensor:
        if self.branch is None or self.norm is None:
            return state
        update: Tensor = self.branch(self.normed(state), context)
        return state + update.to(state.dtype)

    def normed(self, state: Tensor) -> Tensor:
        """Input of the branch. Under autocast it is cast once here, not once in each projection."""
        assert self.norm is not None
        x: Tensor = self.norm(state)
        kind = state.device.type
        if torch.is_autocast_enabled(kind):
            return x.to(torch.get_autocast_dtype(kind))
        return x

    def forward_cached(
        self, state: Tensor, context: BlockContext, past: KeyValue
    ) -> tuple[Tensor, KeyValue]:
        """One step of a slot whose branch caches."""
        update, present = self.cached_branch.forward_cached(self.normed(state), context, past)
        return state + update.to(state.dtype), present

    @property
    def caches(self) -> bool:
        return isinstance(self.branch, CachedBlock)

    @property
    def cached_branch(self) -> CachedBlock:
        """The branch of a slot that caches."""
        assert isinstance(self.branch, CachedBlock)
        return self.branch


class DecoderChain(nn.Module):
    """A decoder-only language model of `shape` with the blocks of `architecture`.

    Parameter names: `embed.weight`, `slots.{k}.norm.weight`, `slots.{k}.branch.*`, `norm.weight`
    and, where the embeddings are not tied, `head.weight`; slot k is `shape.slots()[k]`.
    """

    def __init__(self, shape: DecoderShape, architecture: Architecture | None = None) -> None:
        super().__init__()
        self.shape = shape
        self.architecture = architecture or Architecture()
        self.embed = nn.Embedding(shape.vocab_size, shape.hidden_size)
        self.slots = nn.ModuleList(
            SlotModule(
                RMSNorm(shape.hidden_size, shape.norm_eps),
                build_block(shape, slot.kind, shape.resolve(slot, spec)),
            )
            for slot, spec in self.architecture.items(shape)
        )
        self.norm = RMSNorm(shape.hidden_size, shape.norm_eps)
        self.head = nn.Linear(shape.hidden_size, shape.vocab_size, bias=False)
        if shape.tied_embeddings:
            self.head.weight = self.embed.weight
        self.rotary = rotary_embedding(shape)
        self.residual_dtype: torch.dtype | None = None

    def in_dtype(self, dtype: torch.dtype) -> DecoderChain:
        """The chain itself where its weights are in `dtype`, else a copy in `dtype`.

        In the copy the residual stream and the rotary frequencies stay float32: rounded frequencies
        would turn late positions by whole radians.
        """
        if self.norm.weight.dtype == dtype:
            return self
        # Each weight is copied once, in its new format: a copy in the old one may not fit.
        weights: dict[int, Any] = {
            id(p): nn.Parameter(p.detach().to(dtype), requires_grad=p.requires_grad)
            for p in self.parameters()
        }
        converted = copy.deepcopy(self, weights)
        converted.residual_dtype = torch.float32
        return converted

    def whole(self) -> DecoderChain:
        """The chain with all of its weights in memory; see `StreamedChain`."""
        return self

    @property
    def slot_ids(self) -> tuple[SlotId, ...]:
        return self.shape.slots()

    def slot(self, k: int) -> SlotModule:
        """The module of slot k."""
        return cast(SlotModule, self.slots[k])

    def teacher_branch(self, k: int) -> Block:
        """The branch of slot k of a network that skips nothing; PassError otherwise."""
        branch = self.slot(k).branch
        if branch is None:
            raise PassError(f"{self.slot_ids[k].id} is skipped; a teacher has every block")
        return branch

    def forward(self, ids: Tensor) -> Tensor:
        """Token ids [batch, tokens] to logits [batch, tokens, vocab]."""
        return self.logits(self.run(self.embed_tokens(ids), self.context(ids)))

    def embed_tokens(self, ids: Tensor) -> Tensor:
        """The residual stream before slot 0, in `residual_dtype` where that is set."""
        state: Tensor = self.embed(ids)
        return state if self.residual_dtype is None else state.to(self.residual_dtype)

    def run(
        self,
        state: Tensor,
        context: BlockContext,
        start: int = 0,
        stop: int | None = None,
        tap: Callable[[int, Tensor], None] | None = None,
    ) -> Tensor:
        """Slots `start` to `stop` (exclusive); `tap(k, state)` sees the state after each slot k."""
        for k in range(start, len(self.slots) if stop is None else stop):
            state = self.slot(k)(state, context)
            if tap is not None:
                tap(k, state)
        return state

    def final_hidden(self, state: Tensor) -> Tensor:
        """The normed state that the head reads."""
        hidden: Tensor = self.norm(state)
        return hidden

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
                entries.append(slot.cached_branch.empty_cache(batch))
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
