"""The chain computes what transformers' model computes, for every family and switch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from nas.chain import DecoderChain
from nas.errors import CapabilityError
from nas.teachers import chain_from_model
from tests.models import FAMILIES, VOCAB_SIZE, tiny_model

_YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "beta_fast": 8.0}
_LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 5e5,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
CASES: list[tuple[str, dict[str, Any]]] = [
    *((family, {}) for family in FAMILIES),
    *((family, {"tie_word_embeddings": True}) for family in FAMILIES),
    ("llama", {"attention_bias": True, "mlp_bias": True}),
    ("llama", {"num_key_value_heads": 1}),
    ("llama", {"num_key_value_heads": 4, "head_dim": 12}),
    ("llama", {"hidden_act": "gelu_pytorch_tanh", "rms_norm_eps": 1e-3}),
    ("llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 3.0}}),
    ("llama", {"rope_parameters": _LLAMA3}),
    ("llama", {"rope_parameters": {**_YARN, "original_max_position_embeddings": 32}}),
    ("qwen3", {"rope_parameters": {**_YARN, "original_max_position_embeddings": 32}}),
    ("mistral", {"sliding_window": None}),
    ("mistral", {"sliding_window": 3, "head_dim": 16}),
    ("qwen2", {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 0}),
    ("qwen3", {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 0}),
    ("qwen3", {"attention_bias": True}),
]


def _ids(tokens: int = 24, batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(VOCAB_SIZE - 8, (batch, tokens), generator=generator)


def _cached_logits(chain: DecoderChain, ids: Tensor, prompt: int) -> Tensor:
    """Logits of `prompt` tokens at once and the rest one by one, through the cache."""
    past, parts, at = chain.empty_cache(ids.shape[0]), [], 0
    for step in [prompt] + [1] * (ids.shape[1] - prompt):
        mask = torch.ones(ids.shape[0], at + step, dtype=torch.long)
        logits, past = chain.forward_cached(ids[:, at : at + step], mask, past)
        parts.append(logits)
        at += step
    return torch.cat(parts, dim=1)


@pytest.mark.parametrize(("family", "overrides"), CASES)
@torch.no_grad()
def test_logits_equal_the_model(family: str, overrides: dict[str, Any]) -> None:
    model = tiny_model(family, **overrides)
    chain = chain_from_model(model)
    ids = _ids()
    expected = model(ids).logits
    assert expected.std() > 1  # logits that differ enough for the comparison to mean something
    torch.testing.assert_close(chain(ids), expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(_cached_logits(chain, ids, prompt=9), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_greedy_tokens_equal_generate(family: str) -> None:
    model = tiny_model(family)
    chain = chain_from_model(model)
    ids = _ids(tokens=6, batch=1)
    expected = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=20,
        do_sample=False,
        eos_token_id=-1,
    )
    tokens, past = ids, chain.empty_cache(1)
    step = ids
    for _ in range(20):
        mask = torch.ones(1, tokens.shape[1], dtype=torch.long)
        logits, past = chain.forward_cached(step, mask, past)
        step = logits[:, -1:].argmax(-1)
        tokens = torch.cat((tokens, step), dim=1)
    assert tokens.tolist() == expected.tolist()


@torch.no_grad()
def test_left_padding_equals_the_model() -> None:
    model = tiny_model("mistral")
    chain = chain_from_model(model)
    ids = _ids(tokens=12)
    mask = torch.ones_like(ids)
    mask[0, :5] = 0
    logits, _ = chain.forward_cached(ids, mask, chain.empty_cache(2))
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    expected = model(ids, attention_mask=mask, position_ids=positions).logits
    torch.testing.assert_close(logits[0, 5:], expected[0, 5:], atol=1e-4, rtol=0)
    torch.testing.assert_close(logits[1], expected[1], atol=1e-4, rtol=0)


def test_chain_is_frozen_and_independent_of_the_model() -> None:
    model = tiny_model("llama", tie_word_embeddings=True)
    chain = chain_from_model(model)
    before = chain.norm.weight.clone()
    with torch.no_grad():
        model.model.norm.weight.zero_()
    assert torch.equal(chain.norm.weight, before)
    assert chain.head.weight is chain.embed.weight
    assert not chain.training
    assert not any(p.requires_grad or p.is_meta for p in chain.parameters())


@torch.no_grad()
def test_copy_in_bfloat16_keeps_angles_in_float32() -> None:
    chain = chain_from_model(tiny_model("qwen3"))
    copy = chain.in_dtype(torch.bfloat16)
    assert copy.embed.weight.dtype == torch.bfloat16
    assert torch.equal(copy.rotary.inv_freq, chain.rotary.inv_freq)
    assert copy(_ids()).isfinite().all()


@pytest.mark.parametrize("family", ["qwen2", "qwen3"])
def test_mixed_windows_are_refused(family: str) -> None:
    model = tiny_model(family, use_sliding_window=True, sliding_window=5, max_window_layers=1)
    with pytest.raises(CapabilityError, match="use_sliding_window"):
        chain_from_model(model)


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0},
        {
            "rope_type": "longrope",
            "rope_theta": 1e4,
            "factor": 2.0,
            "short_factor": [1.0] * 4,
            "long_factor": [2.0] * 4,
            "original_max_position_embeddings": 64,
        },
    ],
)
def test_rope_that_depends_on_length_is_refused(rope: dict[str, Any]) -> None:
    with pytest.raises(CapabilityError, match=rope["rope_type"]):
        chain_from_model(tiny_model("llama", rope_parameters=rope))


def test_partial_rotation_is_refused() -> None:
    rope = {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}
    model = tiny_model("llama")
    model.config.rope_parameters = rope
    with pytest.raises(CapabilityError, match="partial_rotary_factor"):
        chain_from_model(model)


def test_other_architectures_are_refused_with_the_list() -> None:
    model = GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=1, n_head=2, vocab_size=16))
    with pytest.raises(CapabilityError, match="llama, mistral, qwen2, qwen3"):
        chain_from_model(model)
