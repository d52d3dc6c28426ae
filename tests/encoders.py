"""Small random encoders with mixed blocks, and encoder teachers on disk, for all tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, pre_tokenizers, processors
from tokenizers.models import WordLevel
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from nas.chain import EncoderChain
from nas.ir import Architecture, EncoderShape, FeedForward, GroupedQueryAttention, LinearMap, Skip

ENCODERS = ("bert", "distilbert")
VOCAB_SIZE = 264
_WORDS = ("the", "of", "a", "to", "is", "in", "and", "are", "be", "for", "that", "as", "it", "or")
_SPECIAL = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3}
MASK_TOKEN = len(_SPECIAL) + len(_WORDS)

MIXED_ENCODER = Architecture(
    choices={
        "layers.0.attention": GroupedQueryAttention(kv_heads=2, query_heads=2),
        "layers.0.ffn": FeedForward(width=20),
        "layers.1.attention": LinearMap(),
        "layers.1.ffn": Skip(),
        "layers.2.attention": Skip(),
        "layers.2.ffn": LinearMap(),
        "layers.3.attention": GroupedQueryAttention(kv_heads=2),
    }
)
"""For a shape of four layers."""


def encoder_shape(**overrides: Any) -> EncoderShape:
    """Four layers of width 32."""
    settings: dict[str, Any] = {
        "family": "bert",
        "layers": 4,
        "hidden_size": 32,
        "query_heads": 4,
        "kv_heads": 4,
        "head_dim": 8,
        "ffn_width": 48,
        "vocab_size": VOCAB_SIZE,
        "max_positions": 64,
        "qkv_bias": True,
        "output_bias": True,
        "ffn_bias": True,
        "norm_eps": 1e-12,
        "activation": "gelu",
    }
    return EncoderShape(**{**settings, **overrides})


def tiny_encoder(
    shape: EncoderShape | None = None, architecture: Architecture = MIXED_ENCODER, seed: int = 0
) -> EncoderChain:
    """A frozen chain in eval mode whose weights, biases and norms all matter."""
    chain = EncoderChain(shape or encoder_shape(), architecture).eval().requires_grad_(False)
    _randomise(chain, seed)
    return chain


def tiny_encoder_model(family: str, *, masked: bool = False, **overrides: Any) -> PreTrainedModel:
    """A random float32 model of transformers in eval mode; `masked`: with its head."""
    bert = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "max_position_embeddings": 64,
    }
    distilbert = {
        "dim": 32,
        "n_layers": 2,
        "n_heads": 4,
        "hidden_dim": 48,
        "max_position_embeddings": 64,
    }
    sizes: dict[str, Any] = {"bert": bert, "distilbert": distilbert}[family]
    name = {"bert": "Bert", "distilbert": "DistilBert"}[family]
    settings = {"vocab_size": VOCAB_SIZE, "pad_token_id": 0, **sizes, **overrides}
    config = getattr(transformers, f"{name}Config")(**settings)
    kind = f"{name}ForMaskedLM" if masked else f"{name}Model"
    model: PreTrainedModel = getattr(transformers, kind)(config)
    _randomise(model, 0)
    return model.eval()


def _randomise(model: torch.nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            spread = torch.randn(parameter.shape, generator=generator)
            if name.endswith("bias"):
                parameter.copy_(0.3 * spread)
            elif parameter.ndim == 1:
                parameter.copy_(1 + 0.2 * spread)
            else:
                parameter.copy_(0.25 * spread)


def encoder_tokenizer() -> PreTrainedTokenizerFast:
    """A few words; `[CLS]` before a text and `[SEP]` behind it."""
    vocab = _SPECIAL | {word: 4 + i for i, word in enumerate(_WORDS)} | {"[MASK]": MASK_TOKEN}
    backend = Tokenizer(WordLevel(vocab, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=64,
    )


def save_tiny_encoder(
    folder: Path,
    family: str = "bert",
    *,
    pooling: str | None = None,
    masked: bool = False,
    **overrides: Any,
) -> Path:
    """A Hugging Face folder of model and tokenizer; with `pooling` that of an embedding model."""
    tiny_encoder_model(family, masked=masked, **overrides).save_pretrained(folder)
    encoder_tokenizer().save_pretrained(folder)
    if pooling is not None:
        kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
        listing = [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for i, (path, kind) in enumerate(kinds)
        ]
        (folder / "modules.json").write_text(json.dumps(listing), encoding="utf-8")
        (folder / "1_Pooling").mkdir()
        modes = {
            f"pooling_mode_{name}": False for name in ("mean_tokens", "cls_token", "max_tokens")
        }
        modes[f"pooling_mode_{pooling}"] = True
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(modes), encoding="utf-8")
    return folder
