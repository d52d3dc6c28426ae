"""Qwen2 and Qwen2.5: biases on query, key and value, none on the output projection."""

from __future__ import annotations

from typing import Any

from nas.ir import DecoderShape
from nas.teachers._base import DecoderFamily
from nas.teachers._config import shape_from_config, window_of_layers


class Qwen2Family(DecoderFamily):
    """`use_sliding_window` and `max_window_layers` decide on a window layer by layer."""

    model_type = "qwen2"
    config_class = "Qwen2Config"
    model_classes = ("Qwen2ForCausalLM",)

    def shape(self, config: Any) -> DecoderShape:
        return shape_from_config(
            self.model_type, config, qkv_bias=True, sliding_window=window_of_layers(config)
        )
