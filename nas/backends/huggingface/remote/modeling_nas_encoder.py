"""A BERT-like encoder whose layers differ, as written by the student compiler nas.

Each slot is `norm(state + branch(state))`; a skipped slot is its norm.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.activations import ACT2FN
from transformers.modeling_outputs import BaseModelOutput, MaskedLMOutput
from transformers.utils import can_return_tuple

from .configuration_nas_encoder import NasEncoderConfig


class NasEncoderAttention(nn.Module):
    """Attention of all tokens to all that are not padding; `query_heads` share `kv_heads`."""

    def __init__(self, config: NasEncoderConfig, query_heads: int, kv_heads: int) -> None:
        super().__init__()
        self.query_heads, self.kv_heads, self.head_dim = query_heads, kv_heads, config.head_dim
        hidden, query, kept = (
            config.hidden_size,
            *(heads * config.head_dim for heads in (query_heads, kv_heads)),
        )
        self.q_proj = nn.Linear(hidden, query, bias=config.qkv_bias)
        self.k_proj = nn.Linear(hidden, kept, bias=config.qkv_bias)
        self.v_proj = nn.Linear(hidden, kept, bias=config.qkv_bias)
        self.o_proj = nn.Linear(query, hidden, bias=config.output_bias)

    def forward(self, state: Tensor, mask: Tensor | None) -> Tensor:
        query, key, value = (
            projection(state).unflatten(-1, (heads, self.head_dim)).transpose(1, 2)
            for projection, heads in (
                (self.q_proj, self.query_heads),
                (self.k_proj, self.kv_heads),
                (self.v_proj, self.kv_heads),
            )
        )
        mixed = F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, enable_gqa=self.kv_heads < self.query_heads
        )
        update: Tensor = self.o_proj(mixed.transpose(1, 2).flatten(2))
        return update


class NasEncoderFeedForward(nn.Module):
    """`down(act(up(x)))`."""

    def __init__(self, config: NasEncoderConfig, width: int) -> None:
        super().__init__()
        self.up_proj = nn.Linear(config.hidden_size, width, bias=config.ffn_bias)
        self.down_proj = nn.Linear(width, config.hidden_size, bias=config.ffn_bias)
        self.act_fn = ACT2FN[config.hidden_act]

    def forward(self, state: Tensor, mask: Tensor | None) -> Tensor:
        update: Tensor = self.down_proj(self.act_fn(self.up_proj(state)))
        return update


class NasEncoderLinear(nn.Module):
    """One linear layer in place of a block."""

    def __init__(self, config: NasEncoderConfig) -> None:
        super().__init__()
        self.proj = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, state: Tensor, mask: Tensor | None) -> Tensor:
        update: Tensor = self.proj(state)
        return update


class NasEncoderSlot(nn.Module):
    """A branch and the norm behind it."""

    def __init__(self, config: NasEncoderConfig, block: dict[str, Any]) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.branch: nn.Module | None = None
        if block["kind"] == "gqa":
            self.branch = NasEncoderAttention(config, block["query_heads"], block["kv_heads"])
        elif block["kind"] == "ffn":
            self.branch = NasEncoderFeedForward(config, block["width"])
        elif block["kind"] == "linear":
            self.branch = NasEncoderLinear(config)

    def forward(self, state: Tensor, mask: Tensor | None) -> Tensor:
        if self.branch is not None:
            state = state + self.branch(state, mask)
        normed: Tensor = self.norm(state)
        return normed


class NasEncoderModel(PreTrainedModel):  # type: ignore[misc]
    """Embeddings and slots."""

    config_class = NasEncoderConfig
    _no_split_modules = ["NasEncoderSlot"]  # noqa: RUF012

    def __init__(self, config: NasEncoderConfig) -> None:
        super().__init__(config)
        self.embed = nn.Embedding(config.vocab_size, config.hidden_size)
        self.positions = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        if config.type_vocab_size:
            self.types: nn.Embedding | None = nn.Embedding(
                config.type_vocab_size, config.hidden_size
            )
        else:
            self.types = None
        self.embed_norm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.slots = nn.ModuleList(NasEncoderSlot(config, block) for block in config.blocks or ())
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The embedding of the tokens."""
        return self.embed

    @can_return_tuple  # type: ignore[untyped-decorator]
    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        **kwargs: Any,
    ) -> BaseModelOutput:
        """Last states [batch, tokens, hidden] of ids [batch, tokens]."""
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)
        state = self.embed(input_ids) + self.positions(positions)
        if self.types is not None:
            if token_type_ids is None:
                token_type_ids = torch.zeros_like(input_ids)
            state = state + self.types(token_type_ids)
        state = self.embed_norm(state)
        mask = None if attention_mask is None else attention_mask.bool()[:, None, None, :]
        for slot in self.slots:
            state = slot(state, mask)
        return BaseModelOutput(last_hidden_state=state)


class NasEncoderHead(nn.Module):
    """`norm(act(dense(state)))`, and the bias of the logits."""

    def __init__(self, config: NasEncoderConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        self.act_fn = ACT2FN[config.hidden_act]

    def forward(self, state: Tensor) -> Tensor:
        read: Tensor = self.norm(self.act_fn(self.dense(state)))
        return read


class NasEncoderForMaskedLM(NasEncoderModel):
    """The encoder and the head that tells masked tokens through the embeddings."""

    def __init__(self, config: NasEncoderConfig) -> None:
        super().__init__(config)
        self.head = NasEncoderHead(config)
        self.post_init()

    @can_return_tuple  # type: ignore[untyped-decorator]
    def forward(
        self, input_ids: Tensor, labels: Tensor | None = None, **kwargs: Any
    ) -> MaskedLMOutput:
        """Logits [batch, tokens, vocab] of ids [batch, tokens]; `labels` as ids, -100 where no loss
        is wanted."""
        kwargs.pop("return_dict", None)
        state = super().forward(input_ids, **kwargs).last_hidden_state
        logits = F.linear(self.head(state), self.embed.weight, self.head.bias)
        loss = None
        if labels is not None:
            loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten())
        return MaskedLMOutput(loss=loss, logits=logits)


__all__ = ["NasEncoderForMaskedLM", "NasEncoderModel"]
