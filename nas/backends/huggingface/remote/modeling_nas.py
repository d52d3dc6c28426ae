"""A Llama-like decoder whose layers differ, as written by the student compiler nas.

Each layer has an attention branch (grouped-query attention, one linear layer, or nothing) and a
feed-forward branch (gated, one linear layer, or nothing), as `per_layer_config` says. Only layers
with attention use the key-value cache, and they number its entries without gaps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache, GenerationMixin, PreTrainedModel
from transformers.activations import ACT2FN
from transformers.cache_utils import Cache
from transformers.masking_utils import create_causal_mask, create_sliding_window_causal_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.llama.modeling_llama import (
    LlamaRMSNorm,
    LlamaRotaryEmbedding,
    apply_rotary_pos_emb,
    eager_attention_forward,
)
from transformers.utils import can_return_tuple
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .configuration_nas import NasConfig


class NasAttention(nn.Module):
    """Grouped-query attention with rotary positions. `layer_idx` is its entry in the cache."""

    def __init__(self, model_config: NasConfig, config: NasConfig, layer_idx: int) -> None:
        super().__init__()
        # the model's own: the layer's copy would not follow set_attn_implementation
        self.config = model_config
        self.layer_idx = layer_idx
        self.head_dim = config.head_dim
        self.num_key_value_groups = config.num_attention_heads // config.num_key_value_heads
        self.scaling = config.head_dim**-0.5
        self.attention_dropout = config.attention_dropout
        self.sliding_window = config.sliding_window
        self.is_causal = True
        hidden, bias = config.hidden_size, config.attention_bias
        query, kept = (
            heads * config.head_dim
            for heads in (config.num_attention_heads, config.num_key_value_heads)
        )
        self.q_proj = nn.Linear(hidden, query, bias=bias)
        self.k_proj = nn.Linear(hidden, kept, bias=bias)
        self.v_proj = nn.Linear(hidden, kept, bias=bias)
        self.o_proj = nn.Linear(query, hidden, bias=config.attention_output_bias)
        if config.qk_norm:
            self.q_norm = LlamaRMSNorm(config.head_dim, config.rms_norm_eps)
            self.k_norm = LlamaRMSNorm(config.head_dim, config.rms_norm_eps)
        else:
            self.q_norm = self.k_norm = nn.Identity()

    def forward(
        self,
        hidden_states: Tensor,
        position_embeddings: tuple[Tensor, Tensor],
        attention_mask: Tensor | None = None,
        past_key_values: Cache | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """Update of the residual stream, and the attention weights where they are computed."""
        query = self.q_norm(self._split(self.q_proj(hidden_states))).transpose(1, 2)
        key = self.k_norm(self._split(self.k_proj(hidden_states))).transpose(1, 2)
        value = self._split(self.v_proj(hidden_states)).transpose(1, 2)
        query, key = apply_rotary_pos_emb(query, key, *position_embeddings)
        if past_key_values is not None:
            key, value = past_key_values.update(key, value, self.layer_idx)
        attend: Callable[..., tuple[Tensor, Tensor | None]] = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        mixed, weights = attend(
            self,
            query,
            key,
            value,
            attention_mask,
            dropout=self.attention_dropout if self.training else 0.0,
            scaling=self.scaling,
            sliding_window=self.sliding_window,
            **kwargs,
        )
        return self.o_proj(mixed.flatten(2).contiguous()), weights

    def _split(self, projected: Tensor) -> Tensor:
        return projected.view(*projected.shape[:-1], -1, self.head_dim)


class NasGatedMLP(nn.Module):
    """`down(act(gate(x)) * up(x))`."""

    def __init__(self, config: NasConfig) -> None:
        super().__init__()
        hidden, width, bias = config.hidden_size, config.intermediate_size, config.mlp_bias
        self.gate_proj = nn.Linear(hidden, width, bias=bias)
        self.up_proj = nn.Linear(hidden, width, bias=bias)
        self.down_proj = nn.Linear(width, hidden, bias=bias)
        self.act_fn = ACT2FN[config.hidden_act]

    def forward(self, hidden_states: Tensor) -> Tensor:
        gated = self.act_fn(self.gate_proj(hidden_states)) * self.up_proj(hidden_states)
        update: Tensor = self.down_proj(gated)
        return update


class NasLinear(nn.Module):
    """One linear layer in place of a block."""

    def __init__(self, config: NasConfig) -> None:
        super().__init__()
        self.proj = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden_states: Tensor) -> Tensor:
        update: Tensor = self.proj(hidden_states)
        return update


class NasDecoderLayer(GradientCheckpointingLayer):  # type: ignore[misc]
    """Attention branch, then feed-forward branch; a skipped branch has no weights at all."""

    def __init__(self, model_config: NasConfig, layer: int, cache_index: int) -> None:
        super().__init__()
        config = model_config.per_layer_config[layer]
        skip = getattr(config, "skip", None) or ()
        self.self_attn: nn.Module | None = None
        self.mlp: nn.Module | None = None
        if "attention" not in skip:
            self.input_layernorm = LlamaRMSNorm(config.hidden_size, config.rms_norm_eps)
            if config.attention_block == "linear":
                self.self_attn = NasLinear(config)
            else:
                self.self_attn = NasAttention(model_config, config, cache_index)
        if "mlp" not in skip:
            self.post_attention_layernorm = LlamaRMSNorm(config.hidden_size, config.rms_norm_eps)
            linear = config.mlp_block == "linear"
            self.mlp = NasLinear(config) if linear else NasGatedMLP(config)

    @property
    def caches(self) -> bool:
        """Whether the layer has an entry in the key-value cache."""
        return isinstance(self.self_attn, NasAttention)

    def forward(self, hidden_states: Tensor, **kwargs: Any) -> Tensor:
        if self.self_attn is not None:
            normed = self.input_layernorm(hidden_states)
            if self.caches:
                update, _ = self.self_attn(normed, **kwargs)
            else:
                update = self.self_attn(normed)
            hidden_states = hidden_states + update
        if self.mlp is not None:
            hidden_states = hidden_states + self.mlp(self.post_attention_layernorm(hidden_states))
        return hidden_states


class NasPreTrainedModel(PreTrainedModel):  # type: ignore[misc]
    """What transformers wants to know of the model."""

    config_class = NasConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["NasDecoderLayer"]  # noqa: RUF012
    _skip_keys_device_placement = ["past_key_values"]  # noqa: RUF012
    _supports_flash_attn = True
    _supports_sdpa = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_record_outputs = {  # noqa: RUF012
        "hidden_states": NasDecoderLayer,
        "attentions": NasAttention,
    }

    def _get_static_cache_init_shape(self) -> None:
        """No early allocation: entries of the cache are not numbered by layer."""


class NasModel(NasPreTrainedModel):
    """Embedding, layers and final norm."""

    def __init__(self, config: NasConfig) -> None:
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList()
        entries = 0
        for i in range(config.num_hidden_layers):
            layer = NasDecoderLayer(config, i, entries)
            entries += layer.caches
            self.layers.append(layer)
        self.cache_entries = entries
        self.norm = LlamaRMSNorm(config.hidden_size, config.rms_norm_eps)
        self.rotary_emb = LlamaRotaryEmbedding(config)
        self.gradient_checkpointing = False
        self.post_init()

    @merge_with_config_defaults  # type: ignore[untyped-decorator]
    @capture_outputs  # type: ignore[untyped-decorator]
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """Final hidden states [batch, tokens, hidden] of ids [batch, tokens] or of embeddings."""
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give either input_ids or inputs_embeds")
        state = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache(config=self.config)
        if isinstance(past_key_values, DynamicCache):
            # made from the configuration it has an entry a layer, more than there are users
            del past_key_values.layers[self.cache_entries :]
        if position_ids is None:
            past = 0 if past_key_values is None else past_key_values.get_seq_length()
            position_ids = torch.arange(state.shape[1], device=state.device)[None] + past
        windowed = self.config.sliding_window is not None
        mask = (create_sliding_window_causal_mask if windowed else create_causal_mask)(
            config=self.config,
            inputs_embeds=state,
            attention_mask=attention_mask,
            past_key_values=past_key_values,
            position_ids=position_ids,
        )
        angles = self.rotary_emb(state, position_ids)
        for layer in self.layers:
            state = layer(
                state,
                attention_mask=mask,
                position_embeddings=angles,
                past_key_values=past_key_values,
                **kwargs,
            )
        return BaseModelOutputWithPast(
            last_hidden_state=self.norm(state), past_key_values=past_key_values
        )


class NasForCausalLM(NasPreTrainedModel, GenerationMixin):  # type: ignore[misc]
    """The decoder with its language-model head."""

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}  # noqa: RUF012

    def __init__(self, config: NasConfig) -> None:
        super().__init__(config)
        self.model = NasModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    @can_return_tuple  # type: ignore[untyped-decorator]
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Logits [batch, tokens, vocab]; with `labels` (-100: ignored) also the next-token loss.

        `logits_to_keep`: the last n positions, or a tensor of positions; 0 keeps all.
        """
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            **kwargs,
        )
        hidden = outputs.last_hidden_state
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(hidden[:, kept])
        loss = None
        if labels is not None:
            loss = self.loss_function(
                logits=logits, labels=labels, vocab_size=self.config.vocab_size, **kwargs
            )
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


__all__ = ["NasForCausalLM", "NasModel", "NasPreTrainedModel"]
