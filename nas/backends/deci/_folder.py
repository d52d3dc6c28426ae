"""A student as a folder that vLLM serves: `vllm serve FOLDER --trust-remote-code`.

The flag is for the configuration class beside the weights, which gives `block_configs` attributes;
the network itself is vLLM's own `DeciLMForCausalLM`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from nas.backends.deci import remote
from nas.backends.deci._layout import DeciLayer, deci_layers, require_vllm
from nas.backends.huggingface import exported_state, replaced_folder
from nas.blocks import dequantised
from nas.chain import DecoderChain
from nas.ir import DecoderShape

CODE = "configuration_decilm.py"


def export_decilm(chain: DecoderChain, tokenizer: Any, folder: Path) -> Path:
    """Write configuration, weights in the chain's number format, tokenizer and configuration code.

    The folder appears complete or not at all. Raises CapabilityError, with the reason, for a
    student that the layout or vLLM cannot express, PassError where it cannot be written,
    ArtifactError where something else lies there."""
    chain = dequantised(chain)
    layers = deci_layers(chain.shape, chain.architecture)
    require_vllm(layers)
    dtype = str(chain.dtype).removeprefix("torch.")
    with replaced_folder(folder) as fresh:
        state = {name: tensor.contiguous() for name, tensor in exported_state(chain).items()}
        save_file(state, fresh / "model.safetensors", metadata={"format": "pt"})
        config = decilm_config(chain.shape, layers, dtype)
        text = json.dumps(config, indent=2, sort_keys=True) + "\n"
        (fresh / "config.json").write_text(text, encoding="utf-8")
        shutil.copyfile(Path(remote.__path__[0]) / CODE, fresh / CODE)
        if tokenizer is not None:
            tokenizer.save_pretrained(fresh)
    return folder


def decilm_config(shape: DecoderShape, layers: tuple[DeciLayer, ...], dtype: str) -> dict[str, Any]:
    """What config.json says."""
    eos = list(shape.eos_token_ids)
    return {
        "architectures": ["DeciLMForCausalLM"],
        "auto_map": {"AutoConfig": "configuration_decilm.DeciLMConfig"},
        "model_type": "nemotron-nas",
        "attention_bias": False,
        "block_configs": [_block(shape, layer) for layer in layers],
        "bos_token_id": shape.bos_token_id,
        "eos_token_id": eos[0] if len(eos) == 1 else eos or None,
        "head_dim": shape.head_dim,
        "hidden_act": shape.activation,
        "hidden_size": shape.hidden_size,
        # What a reader takes that asks for one number; each layer has its own.
        "intermediate_size": max(layer.width for layer in layers),
        "max_position_embeddings": shape.max_positions,
        "mlp_bias": False,
        "num_attention_heads": shape.query_heads,
        "num_hidden_layers": shape.layers,
        "num_key_value_heads": max(layer.kv_heads for layer in layers),
        "rms_norm_eps": shape.norm_eps,
        "rope_parameters": dict(shape.rope) or {"rope_type": "default", "rope_theta": 10000.0},
        "tie_word_embeddings": shape.tied_embeddings,
        "dtype": dtype,
        "vocab_size": shape.vocab_size,
    }


def _block(shape: DecoderShape, layer: DeciLayer) -> dict[str, Any]:
    group = shape.query_heads // layer.kv_heads if layer.attends else None
    return {
        "attention": {"n_heads_in_group": group, "no_op": not layer.attends},
        "ffn": {"intermediate_size": layer.width or None, "no_op": not layer.width},
    }
