"""Small random encoders and spaces of their slices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedTokenizerFast

from nas.chain import EncoderChain
from nas.ir import EncoderShape
from nas.networks import BertSpec
from nas.supernet import SubSpace, sub_spaces
from tests.models import tiny_tokenizer

LARGE = """
builder: bert
description: the larger ones
layers: [2, 3]
heads: [3, 4]
hidden: [16, 24]
mlp_ratio: [1.0, 1.5]
teacher_heads: 4
tokens: 8
"""
SMALL = LARGE.replace("[2, 3]", "[1, 2]").replace("[3, 4]", "[2, 3]").replace("[16, 24]", "[8, 12]")


def encoder_shape(**overrides: Any) -> EncoderShape:
    """Three layers of width 24 with 4 heads."""
    settings: dict[str, Any] = {
        "family": "bert",
        "layers": 3,
        "hidden_size": 24,
        "query_heads": 4,
        "kv_heads": 4,
        "head_dim": 6,
        "ffn_width": 36,
        "vocab_size": 264,
        "max_positions": 32,
        "qkv_bias": True,
        "output_bias": True,
        "ffn_bias": True,
        "activation": "gelu",
    }
    return EncoderShape(**{**settings, **overrides})


def encoder(shape: EncoderShape | None = None, seed: int = 0) -> EncoderChain:
    """A frozen encoder in eval mode whose weights, biases and norms all matter."""
    chain = EncoderChain(shape or encoder_shape()).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in chain.named_parameters():
        spread = torch.randn(parameter.shape, generator=generator)
        norm = name.endswith("norm.weight")
        parameter.copy_(1 + 0.2 * spread if norm else 0.25 * spread)
    return chain


def spaces(folder: Path, shape: EncoderShape | None = None, k: int | None = None) -> list[SubSpace]:
    """Two sub-spaces of `encoder_shape`, 16 students each, or their union."""
    paths = []
    for name, content in (("large", LARGE), ("small", SMALL)):
        (folder / f"{name}.yaml").write_text(content)
        paths.append(str(folder / f"{name}.yaml"))
    return sub_spaces(shape or encoder_shape(), paths, k)


def spec(layers: int, heads: int, hidden: int, ratio: float) -> BertSpec:
    """A student of `encoder_shape`."""
    return BertSpec(
        layers, heads, hidden, ratio, teacher_heads=4, vocabulary=264, positions=32, tokens=8
    )


def windows(count: int, tokens: int = 8, seed: int = 1) -> torch.Tensor:
    """Random token ids [count, tokens]."""
    return torch.randint(0, 256, (count, tokens), generator=torch.Generator().manual_seed(seed))


def framed_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte; texts open with `<s>` and close with `</s>`."""
    tokenizer = tiny_tokenizer()
    tokenizer.cls_token, tokenizer.sep_token = "<s>", "</s>"
    return tokenizer


def save_encoder_teacher(folder: Path) -> Path:
    """A Hugging Face folder with a random BERT of `encoder_shape`."""
    shape = encoder_shape()
    config = transformers.BertConfig(
        vocab_size=shape.vocab_size,
        hidden_size=shape.hidden_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.query_heads,
        intermediate_size=shape.ffn_width,
        max_position_embeddings=shape.max_positions,
        initializer_range=0.25,
    )
    torch.manual_seed(0)
    transformers.BertModel(config).save_pretrained(folder)
    framed_tokenizer().save_pretrained(folder)
    return folder
