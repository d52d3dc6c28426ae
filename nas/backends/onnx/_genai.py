"""Configuration for onnxruntime-genai."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from nas.backends.onnxruntime import DENORMALS
from nas.ir import DecoderShape


def write_genai_config(
    shape: DecoderShape, folder: Path, *, model_file: str = "model.onnx"
) -> Path:
    """Write `folder/genai_config.json`, which makes the folder loadable by onnxruntime-genai.

    The runtime finds the KV heads of each layer, and which layers have a cache, in the model's own
    inputs. The cache is not shared between past and present, since that needs the runtime's own
    attention operator. A tokenizer must be saved into the folder beside it.
    """
    path = folder / "genai_config.json"
    temporary = path.with_name(f".{path.name}.tmp")
    folder.mkdir(parents=True, exist_ok=True)
    temporary.write_text(json.dumps(genai_config(shape, model_file), indent=2) + "\n", "utf-8")
    os.replace(temporary, path)
    return path


def genai_config(shape: DecoderShape, model_file: str) -> dict[str, Any]:
    """The configuration as data. Its `type` names any decoder that takes no position ids."""
    ends = list(shape.eos_token_ids) or [0]
    model = {
        "type": "llama",
        "bos_token_id": ends[0] if shape.bos_token_id is None else shape.bos_token_id,
        "eos_token_id": ends[0] if len(ends) == 1 else ends,
        "pad_token_id": ends[0],
        "context_length": shape.max_positions,
        "vocab_size": shape.vocab_size,
        "decoder": {
            "filename": model_file,
            "session_options": {"log_id": "onnxruntime-genai", "provider_options": [], **DENORMALS},
            "hidden_size": shape.hidden_size,
            "head_size": shape.head_dim,
            "num_attention_heads": shape.query_heads,
            "num_key_value_heads": shape.kv_heads,
            "num_hidden_layers": shape.layers,
            "inputs": {
                "input_ids": "input_ids",
                "attention_mask": "attention_mask",
                "past_key_names": "past_key_values.%d.key",
                "past_value_names": "past_key_values.%d.value",
            },
            "outputs": {
                "logits": "logits",
                "present_key_names": "present.%d.key",
                "present_value_names": "present.%d.value",
            },
        },
    }
    return {"model": model, "search": _greedy_search(shape)}


def _greedy_search(shape: DecoderShape) -> dict[str, Any]:
    return {
        "do_sample": False,
        "num_beams": 1,
        "max_length": shape.max_positions,
        "past_present_share_buffer": False,
    }
