"""A ViT-like network whose layers differ, as written by the student compiler nas.

Each slot is `state + branch(norm(state))`; a skipped slot is nothing.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.activations import ACT2FN
from transformers.modeling_outputs import BaseModelOutputWithPooling, ImageClassifierOutput
from transformers.utils import can_return_tuple

from .configuration_nas_vision import NasVisionConfig


class NasVisionEmbedding(nn.Module):
    """Patches as tokens, behind those that every picture has, at their positions."""

    def __init__(self, config: NasVisionConfig) -> None:
        super().__init__()
        hidden, side = config.hidden_size, config.patch_size
        places = (config.image_size // side) ** 2 + config.prefix_tokens
        self.projection = nn.Conv2d(config.num_channels, hidden, side, side)
        self.cls_token = self.distillation_token = None
        if config.prefix_tokens > 0:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, hidden))
        if config.prefix_tokens > 1:
            self.distillation_token = nn.Parameter(torch.zeros(1, 1, hidden))
        self.position_embeddings = nn.Parameter(torch.zeros(1, places, hidden))

    def forward(self, pixel_values: Tensor) -> Tensor:
        pixel_values = pixel_values.to(self.projection.weight.dtype)
        patches = self.projection(pixel_values).flatten(2).transpose(1, 2)
        both = (self.cls_token, self.distillation_token)
        prefix = [token.expand(len(patches), -1, -1) for token in both if token is not None]
        return torch.cat((*prefix, patches), dim=1) + self.position_embeddings


class NasVisionAttention(nn.Module):
    """Attention of all places to all; `query_heads` share `kv_heads`."""

    def __init__(self, config: NasVisionConfig, query_heads: int, kv_heads: int) -> None:
        super().__init__()
        self.query_heads, self.kv_heads, self.head_dim = query_heads, kv_heads, config.head_dim
        hidden, query, kept = (
            config.hidden_size,
            *(heads * config.head_dim for heads in (query_heads, kv_heads)),
        )
        self.q_proj = nn.Linear(hidden, query, bias=config.qkv_bias)
        self.k_proj = nn.Linear(hidden, kept, bias=config.qkv_bias)
        self.v_proj = nn.Linear(hidden, kept, bias=config.qkv_bias)
        self.o_proj = nn.Linear(query, hidden)

    def forward(self, state: Tensor) -> Tensor:
        query, key, value = (
            projection(state).unflatten(-1, (heads, self.head_dim)).transpose(1, 2)
            for projection, heads in (
                (self.q_proj, self.query_heads),
                (self.k_proj, self.kv_heads),
                (self.v_proj, self.kv_heads),
            )
        )
        mixed = F.scaled_dot_product_attention(
            query, key, value, enable_gqa=self.kv_heads < self.query_heads
        )
        update: Tensor = self.o_proj(mixed.transpose(1, 2).flatten(2))
        return update


class NasVisionFeedForward(nn.Module):
    """`down(act(up(x)))`."""

    def __init__(self, config: NasVisionConfig, width: int) -> None:
        super().__init__()
        self.up_proj = nn.Linear(config.hidden_size, width)
        self.down_proj = nn.Linear(width, config.hidden_size)
        self.act_fn = ACT2FN[config.hidden_act]

    def forward(self, state: Tensor) -> Tensor:
        update: Tensor = self.down_proj(self.act_fn(self.up_proj(state)))
        return update


class NasVisionLinear(nn.Module):
    """One linear layer in place of a block."""

    def __init__(self, config: NasVisionConfig) -> None:
        super().__init__()
        self.proj = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, state: Tensor) -> Tensor:
        update: Tensor = self.proj(state)
        return update


class NasVisionSlot(nn.Module):
    """A norm and the branch behind it."""

    def __init__(self, config: NasVisionConfig, block: dict[str, Any]) -> None:
        super().__init__()
        self.norm: nn.Module | None = None
        self.branch: nn.Module | None = None
        if block["kind"] == "skip":
            return
        self.norm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        if block["kind"] == "gqa":
            self.branch = NasVisionAttention(config, block["query_heads"], block["kv_heads"])
        elif block["kind"] == "ffn":
            self.branch = NasVisionFeedForward(config, block["width"])
        else:
            self.branch = NasVisionLinear(config)

    def forward(self, state: Tensor) -> Tensor:
        if self.branch is None or self.norm is None:
            return state
        update: Tensor = self.branch(self.norm(state))
        return state + update


class NasVisionModel(PreTrainedModel):  # type: ignore[misc]
    """Embedding, slots and the last norm."""

    config_class = NasVisionConfig
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    _no_split_modules = ["NasVisionSlot"]  # noqa: RUF012

    def __init__(self, config: NasVisionConfig) -> None:
        super().__init__(config)
        self.embed = NasVisionEmbedding(config)
        self.slots = nn.ModuleList(NasVisionSlot(config, block) for block in config.blocks or ())
        self.norm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The layer that reads patches."""
        return self.embed.projection

    @can_return_tuple  # type: ignore[untyped-decorator]
    def forward(self, pixel_values: Tensor, **kwargs: Any) -> BaseModelOutputWithPooling:
        """Last states [batch, places, hidden], normed unless it pools first, and `pooler_output`
        [batch, width], of normalised pictures [batch, 3, side, side]."""
        state = self.embed(pixel_values)
        for slot in self.slots:
            state = slot(state)
        before, config = self.config.prefix_tokens, self.config
        if not config.pools_first:
            state = self.norm(state)
        if config.pooling == "mean":
            read = state[:, before:].mean(1)
        else:
            read = state[:, : 2 if config.pooling == "both" else 1].flatten(1)
        read = self.norm(read) if config.pools_first else read
        return BaseModelOutputWithPooling(last_hidden_state=state, pooler_output=read)


class NasVisionForImageClassification(NasVisionModel):
    """The network and its classifier."""

    def __init__(self, config: NasVisionConfig) -> None:
        super().__init__(config)
        width = config.hidden_size * (2 if config.pooling == "both" else 1)
        self.classifier = nn.Linear(width, config.num_labels)
        self.post_init()

    @can_return_tuple  # type: ignore[untyped-decorator]
    def forward(
        self, pixel_values: Tensor, labels: Tensor | None = None, **kwargs: Any
    ) -> ImageClassifierOutput:
        """Logits [batch, classes] of normalised pictures [batch, 3, side, side]; `labels`
        [batch]."""
        kwargs.pop("return_dict", None)
        logits = self.classifier(super().forward(pixel_values, **kwargs).pooler_output)
        loss = None if labels is None else F.cross_entropy(logits, labels)
        return ImageClassifierOutput(loss=loss, logits=logits)


__all__ = ["NasVisionForImageClassification", "NasVisionModel"]
