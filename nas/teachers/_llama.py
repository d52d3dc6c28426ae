"""Llama and everything published under its architecture, such as SmolLM2."""

from __future__ import annotations

from typing import Any

from nas.ir import DecoderShape
from nas.teachers._base import DecoderFamily
from nas.teachers._config import shape_from_config


class LlamaFamily(DecoderFamily):
    """Full attention; one switch adds biases to all attention projections, one to the FFN."""

    model_type = "llama"
    config_class = "LlamaConfig"
    model_classes = ("LlamaForCausalLM",)
    gguf_pairs_neighbours = True

    def shape(self, config: Any) -> DecoderShape:
        return shape_from_config(
            self.model_type,
            config,
            qkv_bias=config.attention_bias,
            output_bias=config.attention_bias,
            ffn_bias=config.mlp_bias,
        )
