"""Mistral: Llama without biases and with one sliding window for all layers."""

from __future__ import annotations

from typing import Any

from nas.errors import CapabilityError
from nas.ir import DecoderShape
from nas.teachers._base import DecoderFamily
from nas.teachers._config import shape_from_config


class MistralFamily(DecoderFamily):
    """`sliding_window` may be absent; `layer_types` belongs to other architectures."""

    model_type = "mistral"
    config_class = "MistralConfig"
    model_classes = ("MistralForCausalLM",)
    gguf_pairs_neighbours = True

    def shape(self, config: Any) -> DecoderShape:
        if len(set(getattr(config, "layer_types", None) or ())) > 1:
            raise CapabilityError(
                "the teacher's layer_types differ between layers; transformers itself ignores them "
                "for mistral. Remove them from its config.json, or choose another teacher"
            )
        return shape_from_config(self.model_type, config, sliding_window=config.sliding_window)
