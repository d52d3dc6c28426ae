"""A student as a GGUF file of the architecture `deci`, which llama.cpp serves.

What llama.cpp computes of such a file is not quite what the layout says, and the file is written
for what it does: a layer without feed-forward loses its attention there, and gets one of
zeros; the first layer's heads stand for all, so that one without attention gets a matrix of zeros
in its place; a layer with nothing in it is left out. Queries and keys lie in neighbouring rotary
pairs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nas._imports import require
from nas._scratch import sibling
from nas.backends.deci._layout import DeciLayer, deci_layers, refuse, require_llama_cpp
from nas.backends.deci._vocabulary import Fields
from nas.blocks import dequantised
from nas.chain import DecoderChain
from nas.errors import ConfigError, PassError

_FEWEST = 32
"""Channels of a feed-forward of zeros."""
_FILE_TYPES = {"float32": 0, "float16": 1}


def export_gguf(
    chain: DecoderChain, path: Path, *, name: str, vocabulary: Fields, dtype: str = "float16"
) -> Path:
    """Write `path`, which appears when it is whole; matrices are in `dtype`, norms in float32.

    `vocabulary`: the keys `tokenizer.*`, see `vocabulary_of`. Raises CapabilityError, with the
    reason, for a student that llama.cpp cannot express, ConfigError for another dtype, PassError
    where the disk is full.
    """
    if dtype not in _FILE_TYPES:
        raise ConfigError(f"a GGUF file is in {' or '.join(_FILE_TYPES)}, not {dtype}")
    gguf = require("gguf", extra="gguf")
    chain = dequantised(chain)
    layers = written_layers(chain)
    temporary = sibling(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        writer = gguf.GGUFWriter(str(temporary), "deci")
        _write_header(writer, chain, layers, name, dtype)
        for key, (value, kind, inner) in vocabulary.items():
            writer.add_key_value(key, value, kind, inner)
        for tensor, array in _tensors(chain, layers, dtype):
            writer.add_tensor(tensor, array)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        os.replace(temporary, path)
    except OSError as error:
        raise PassError(f"cannot write {path}: {error.strerror or error}; free space") from error
    finally:
        temporary.unlink(missing_ok=True)
    return path


def written_layers(chain: DecoderChain) -> list[DeciLayer]:
    """The layers that go into the file. Raises CapabilityError."""
    layers = deci_layers(chain.shape, chain.architecture)
    require_llama_cpp(chain.shape, layers)
    refuse(
        [
            f"layers.{n.index}.attention is a linear map with an offset"
            for n in layers
            if n.linear and bool(_branch(chain, n, "proj.bias").any())
        ],
        "llama.cpp's deci",
    )
    return [layer for layer in layers if not layer.empty]


def _write_header(
    writer: Any, chain: DecoderChain, layers: Sequence[DeciLayer], name: str, dtype: str
) -> None:
    shape = chain.shape
    heads = [
        shape.query_heads if layer.attends or layer.linear or first else 0
        for first, layer in _marked(layers)
    ]
    writer.add_name(name)
    writer.add_file_type(_FILE_TYPES[dtype])
    writer.add_block_count(len(layers))
    writer.add_context_length(shape.max_positions)
    writer.add_embedding_length(shape.hidden_size)
    writer.add_feed_forward_length([layer.width or _FEWEST for layer in layers])
    writer.add_head_count(heads)
    writer.add_head_count_kv([layer.kv_heads for layer in layers])
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_layer_norm_rms_eps(shape.norm_eps)
    writer.add_rope_dimension_count(shape.head_dim)
    writer.add_rope_freq_base(float(shape.rope.get("rope_theta", 1e4)))
    writer.add_vocab_size(shape.vocab_size)


def _marked(layers: Sequence[DeciLayer]) -> Iterator[tuple[bool, DeciLayer]]:
    return ((k == 0, layer) for k, layer in enumerate(layers))


def _tensors(
    chain: DecoderChain, layers: Sequence[DeciLayer], dtype: str
) -> Iterator[tuple[str, NDArray[Any]]]:
    shape = chain.shape
    yield "token_embd.weight", _matrix(chain.embed.weight, dtype)
    yield "output_norm.weight", _vector(chain.norm.weight)
    if not shape.tied_embeddings:
        yield "output.weight", _matrix(chain.head.weight, dtype)
    factors = _rope_factors(chain)
    if factors is not None:
        yield "rope_freqs.weight", factors
    for k, (first, layer) in enumerate(_marked(layers)):
        for name, tensor in _layer(chain, layer, first):
            one_row = tensor.ndim == 1
            yield f"blk.{k}.{name}.weight", _vector(tensor) if one_row else _matrix(tensor, dtype)


def _layer(chain: DecoderChain, layer: DeciLayer, first: bool) -> Iterator[tuple[str, Tensor]]:
    hidden = chain.shape.hidden_size
    if layer.attends:
        yield "attn_norm", _slot(chain, layer, 0, "norm.weight")
        for part, heads in (("q", chain.shape.query_heads), ("k", layer.kv_heads)):
            yield f"attn_{part}", _pairs(_branch(chain, layer, f"{part}_proj.weight"), heads)
        yield "attn_v", _branch(chain, layer, "v_proj.weight")
        yield "attn_output", _branch(chain, layer, "o_proj.weight")
    elif layer.linear:
        yield "attn_norm", _slot(chain, layer, 0, "norm.weight")
        yield "attn_output", _branch(chain, layer, "proj.weight")
    elif first:
        yield "attn_norm", torch.ones(hidden)
        yield "attn_output", torch.zeros(hidden, hidden)
    if layer.width:
        yield "ffn_norm", _slot(chain, layer, 1, "norm.weight")
        for part in ("gate", "up", "down"):
            yield f"ffn_{part}", _slot(chain, layer, 1, f"branch.{part}_proj.weight")
    else:
        yield "ffn_norm", torch.ones(hidden)
        yield "ffn_gate", torch.zeros(_FEWEST, hidden)
        yield "ffn_up", torch.zeros(_FEWEST, hidden)
        yield "ffn_down", torch.zeros(hidden, _FEWEST)


def _slot(chain: DecoderChain, layer: DeciLayer, second: int, name: str) -> Tensor:
    return chain.slot(2 * layer.index + second).get_parameter(name).detach()


def _branch(chain: DecoderChain, layer: DeciLayer, name: str) -> Tensor:
    return _slot(chain, layer, 0, f"branch.{name}")


def _pairs(weight: Tensor, heads: int) -> Tensor:
    """Rows of each head from two halves to neighbouring rotary pairs."""
    halves = weight.reshape(heads, 2, -1, weight.shape[1])
    return halves.transpose(1, 2).reshape(weight.shape)


def _rope_factors(chain: DecoderChain) -> NDArray[np.float32] | None:
    """What llama.cpp divides the usual frequencies by [head_dim / 2]; None where it is 1."""
    dim, theta = chain.shape.head_dim, float(chain.shape.rope.get("rope_theta", 1e4))
    usual = theta ** -(torch.arange(0, dim, 2).double() / dim)
    frequencies: Tensor = chain.rotary.inv_freq  # type: ignore[assignment]
    factors = usual / frequencies.detach().cpu().double()
    if torch.allclose(factors, torch.ones_like(factors), rtol=1e-5):
        return None
    return factors.float().numpy()


def _matrix(weight: Tensor, dtype: str) -> NDArray[Any]:
    return weight.detach().to("cpu", getattr(torch, dtype)).contiguous().numpy()


def _vector(weight: Tensor) -> NDArray[Any]:
    return _matrix(weight, "float32")
