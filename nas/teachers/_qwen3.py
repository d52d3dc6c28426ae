"""Qwen3: normalised queries and keys, and a head size of its own."""

from __future__ import annotations

from typing import Any

from nas.ir import DecoderShape
from nas.teachers._base import DecoderFamily
from nas.teachers._config import shape_from_config, window_of_layers


class Qwen3Family(DecoderFamily):
    """`head_dim` is given in the configuration and need not be hidden_size / heads."""

    model_type = "qwen3"
    config_class = "Qwen3Config"
    model_classes = ("Qwen3ForCausalLM",)

    def shape(self, config: Any) -> DecoderShape:
        return shape_from_config(
            self.model_type,
            config,
            qkv_bias=config.attention_bias,
            output_bias=config.attention_bias,
            qk_norm=True,
            sliding_window=window_of_layers(config),
        )
