"""What the configurations of all Llama-like families have in common."""

from __future__ import annotations

from typing import Any

from nas.errors import CapabilityError
from nas.ir import DecoderShape

EXACT_ROPE_TYPES = ("default", "linear", "llama3", "yarn")
"""Rope variants whose angles depend on the position alone."""


def shape_from_config(
    family: str,
    config: Any,
    *,
    qkv_bias: bool = False,
    output_bias: bool = False,
    ffn_bias: bool = False,
    qk_norm: bool = False,
    sliding_window: int | None = None,
) -> DecoderShape:
    """The fields that every family spells alike, with the family's own switches."""
    heads = config.num_attention_heads
    return DecoderShape(
        family=family,
        layers=config.num_hidden_layers,
        hidden_size=config.hidden_size,
        query_heads=heads,
        kv_heads=config.num_key_value_heads,
        head_dim=getattr(config, "head_dim", None) or config.hidden_size // heads,
        ffn_width=config.intermediate_size,
        vocab_size=config.vocab_size,
        max_positions=config.max_position_embeddings,
        tied_embeddings=bool(config.tie_word_embeddings),
        qkv_bias=qkv_bias,
        output_bias=output_bias,
        ffn_bias=ffn_bias,
        qk_norm=qk_norm,
        norm_eps=config.rms_norm_eps,
        activation=config.hidden_act,
        sliding_window=sliding_window,
        rope=checked_rope(dict(config.rope_parameters or {})),
        bos_token_id=config.bos_token_id,
        eos_token_ids=_as_tuple(config.eos_token_id),
    )


def _as_tuple(ids: int | list[int] | None) -> tuple[int, ...]:
    if ids is None:
        return ()
    return (ids,) if isinstance(ids, int) else tuple(ids)


def checked_rope(rope: dict[str, Any]) -> dict[str, Any]:
    """`rope` itself; raises CapabilityError where fixed angles cannot reproduce it."""
    kind = rope.get("rope_type", "default")
    if kind not in EXACT_ROPE_TYPES:
        raise CapabilityError(
            f"rope_type {kind!r} of the teacher is not supported: its angles may change with the "
            f"length of the text, which a cache and an exported graph cannot follow; supported: "
            f"{', '.join(EXACT_ROPE_TYPES)}. Where the teacher's text stays within its original "
            f"context, set rope_type to default in the teacher's config.json"
        )
    partial = rope.get("partial_rotary_factor")
    if partial not in (None, 1, 1.0):
        raise CapabilityError(
            f"the teacher rotates only {partial} of each head (partial_rotary_factor); "
            f"choose a teacher that rotates whole heads"
        )
    return rope


def window_of_layers(config: Any) -> int | None:
    """The one sliding window of all layers; raises CapabilityError where layers differ."""
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if kinds == {"full_attention"}:
        return None
    window: int | None = config.sliding_window
    if kinds == {"sliding_attention"} and window is not None:
        return window
    raise CapabilityError(
        f"the teacher mixes kinds of attention layers ({', '.join(sorted(kinds))}, sliding_window "
        f"{window}); nas expresses full attention or one sliding window for all layers. "
        f"Set use_sliding_window to false in its config.json where prompts fit the window"
    )
