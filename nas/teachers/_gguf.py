"""Teachers in a GGUF file. Weights are dequantised as they are read."""

from __future__ import annotations

import math
from collections.abc import Set
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nas._imports import require
from nas.errors import CapabilityError, ConfigError
from nas.ir import DecoderShape
from nas.teachers._base import DecoderFamily, TeacherSource
from nas.teachers._digest import digest_files
from nas.teachers._families import family_of
from nas.teachers._gguf_file import GgufHeader, read_header
from nas.teachers._names import GGUF
from nas.teachers._tokenizer import load_tokenizer


class GgufSource(TeacherSource):
    """One file with weights, shape and vocabulary."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def _header(self) -> GgufHeader:
        return read_header(self.path)

    @cached_property
    def _family(self) -> DecoderFamily:
        family = family_of(str(self._header.metadata.get("general.architecture")), str(self.path))
        if not isinstance(family, DecoderFamily):
            raise CapabilityError(
                f"{self.path}: a {family.model_type} is read from a Hugging Face folder alone; "
                f"choose one with safetensors files"
            )
        return family

    @cached_property
    def _shape(self) -> DecoderShape:
        return _shape_of(self._header, self._family.model_type, str(self.path))

    def shape(self) -> DecoderShape:
        return self._shape

    def tensor_names(self) -> Set[str]:
        return self._header.tensors.keys()

    def foreign_name(self, name: str) -> str:
        return GGUF.foreign(name)

    def ignorable(self, name: str) -> bool:
        return False

    def tokenizer(self) -> Any:
        return load_tokenizer(str(self.path))

    def digest(self) -> str:
        return digest_files([self.path])

    def read(self, name: str) -> Tensor:
        weights = torch.from_numpy(self._dequantised(name))
        if self._family.gguf_pairs_neighbours:
            for part, heads in (("q", self._shape.query_heads), ("k", self._shape.kv_heads)):
                if f".attn_{part}." in name:
                    return _halves(weights, heads)
        return weights

    def _dequantised(self, name: str) -> np.ndarray[Any, np.dtype[np.float32]]:
        gguf = require("gguf", extra="gguf")
        entry = self._header.tensors[name]
        try:
            kind = gguf.GGMLQuantizationType(entry.type_id)
            block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
            rows, row_bytes = entry.shape[:-1], entry.shape[-1] // block * block_bytes
            end = entry.offset + math.prod(rows) * row_bytes
            if end > self.path.stat().st_size or not row_bytes:
                raise ValueError(f"{list(entry.shape)} values do not fit into the file")
            data = np.memmap(self.path, np.uint8, "r", entry.offset, shape=(*rows, row_bytes))
            return np.array(gguf.dequantize(np.asarray(data), kind), np.float32)
        except (OSError, ValueError, LookupError, NotImplementedError) as error:
            raise ConfigError(
                f"{self.path}: the tensor {name} cannot be read ({error}); the file is torn or of "
                f"a quantisation that this gguf package does not know: pip install -U gguf"
            ) from error


def _halves(weights: Tensor, heads: int) -> Tensor:
    """Rows of each head from interleaved rotary pairs to two halves, as transformers has them."""
    pairs = weights.reshape(heads, -1, 2, *weights.shape[1:])
    return pairs.transpose(1, 2).reshape(weights.shape)


def _shape_of(header: GgufHeader, family: str, where: str) -> DecoderShape:
    """GGUF keys are listed in gguf.md, section 'Standardized key-value pairs'."""
    stored = {k.removeprefix(f"{family}."): v for k, v in header.metadata.items()}
    _refuse_unknown(stored, where)
    try:
        heads, hidden = stored["attention.head_count"], stored["embedding_length"]
        dim = stored.get("attention.key_length") or hidden // heads
        eos = stored.get("tokenizer.ggml.eos_token_id")
        shape = DecoderShape(
            family=family,
            layers=stored["block_count"],
            hidden_size=hidden,
            query_heads=heads,
            kv_heads=stored.get("attention.head_count_kv", heads),
            head_dim=dim,
            ffn_width=stored["feed_forward_length"],
            vocab_size=header.tensors["token_embd.weight"].shape[0],
            max_positions=stored["context_length"],
            tied_embeddings="output.weight" not in header.tensors,
            qkv_bias="blk.0.attn_q.bias" in header.tensors,
            output_bias="blk.0.attn_output.bias" in header.tensors,
            ffn_bias="blk.0.ffn_gate.bias" in header.tensors,
            qk_norm="blk.0.attn_q_norm.weight" in header.tensors,
            norm_eps=stored["attention.layer_norm_rms_epsilon"],
            sliding_window=stored.get("attention.sliding_window") or None,
            rope=_rope(stored, where),
            bos_token_id=stored.get("tokenizer.ggml.bos_token_id"),
            eos_token_ids=() if eos is None else (eos,),
        )
    except (LookupError, TypeError, ValueError, ArithmeticError) as error:
        raise ConfigError(
            f"{where}: the header does not describe a {family} model: {error!r}; convert it again"
        ) from error
    others = (stored.get(k, dim) for k in ("rope.dimension_count", "attention.value_length"))
    if any(other != dim for other in others):
        raise CapabilityError(f"{where}: partly rotated or unequal heads are not supported")
    return shape


def _rope(stored: dict[str, Any], where: str) -> dict[str, Any]:
    theta = float(stored.get("rope.freq_base", 1e4))
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": theta}
    kind = stored.get("rope.scaling.type", "none")
    if kind == "linear":
        rope |= {"rope_type": "linear", "factor": float(stored["rope.scaling.factor"])}
    elif kind != "none":
        raise CapabilityError(
            f"{where}: rope scaling {kind!r} is not read from GGUF; "
            f"use the model's Hugging Face folder"
        )
    return rope


def _refuse_unknown(stored: dict[str, Any], where: str) -> None:
    if stored.get("expert_count"):
        raise CapabilityError(f"{where}: mixture-of-experts teachers are not supported")
    for key in ("attention.head_count", "attention.head_count_kv", "feed_forward_length"):
        if isinstance(stored.get(key), list):
            raise CapabilityError(f"{where}: {key} differs between layers, which is not supported")
