"""Shape and architecture as a transformers configuration, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nas.ir import (
    Architecture,
    BlockSpec,
    DecoderShape,
    GatedFeedForward,
    GroupedQueryAttention,
    KeepTeacher,
    LinearMap,
    Skip,
    Slot,
    in_float,
    precision_of,
)

if TYPE_CHECKING:
    from nas.backends.huggingface.remote.configuration_nas import NasConfig

_SKIP_NAME = {"attention": "attention", "ffn": "mlp"}
_BLOCK_KEY = {"attention": "attention_block", "ffn": "mlp_block"}


def to_config(
    shape: DecoderShape, architecture: Architecture, *, dtype: str, pad_token_id: int | None
) -> NasConfig:
    """The configuration of a student; `dtype` such as `float32`."""
    from nas.backends.huggingface.remote.configuration_nas import NasConfig

    eos = list(shape.eos_token_ids)
    return NasConfig(
        vocab_size=shape.vocab_size,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.ffn_width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.query_heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        hidden_act=shape.activation,
        max_position_embeddings=shape.max_positions,
        rms_norm_eps=shape.norm_eps,
        bos_token_id=shape.bos_token_id,
        eos_token_id=eos[0] if len(eos) == 1 else eos or None,
        pad_token_id=pad_token_id,
        tie_word_embeddings=shape.tied_embeddings,
        rope_parameters=dict(shape.rope) or {"rope_type": "default", "rope_theta": 10000.0},
        attention_bias=shape.qkv_bias,
        attention_output_bias=shape.output_bias,
        mlp_bias=shape.ffn_bias,
        qk_norm=shape.qk_norm,
        sliding_window=shape.sliding_window,
        teacher_family=shape.family,
        dtype=dtype,
        architectures=["NasForCausalLM"],
        per_layer_config=_overrides(shape, architecture) or None,
        runtime_precision=_precisions(shape, architecture) or None,
    )


def _precisions(shape: DecoderShape, architecture: Architecture) -> dict[str, str]:
    """Precision of the blocks that round in a runtime; here their weights alone are rounded, and
    everything is computed in floating point."""
    found = {slot.id: precision_of(spec) for slot, spec in architecture.items(shape)}
    return {slot: precision for slot, precision in found.items() if precision != "float"}


def _overrides(shape: DecoderShape, architecture: Architecture) -> dict[int, dict[str, Any]]:
    """What each layer has that the teacher's layers have not."""
    layers: dict[int, dict[str, Any]] = {}
    for slot, spec in architecture.items(shape):
        resolved, teacher = in_float(shape.resolve(slot, spec)), shape.resolve(slot, KeepTeacher())
        if resolved == teacher:
            continue
        layer = layers.setdefault(slot.layer, {})
        match resolved:
            case Skip():
                layer.setdefault("skip", []).append(_SKIP_NAME[slot.kind])
            case LinearMap():
                layer[_BLOCK_KEY[slot.kind]] = "linear"
            case GroupedQueryAttention(kv_heads=kv_heads, query_heads=query_heads):
                layer["num_key_value_heads"] = kv_heads
                if query_heads is not None:
                    layer["num_attention_heads"] = query_heads
            case GatedFeedForward(width=width):
                layer["intermediate_size"] = width
    return layers


def from_config(data: dict[str, Any]) -> tuple[DecoderShape, Architecture]:
    """Read a complete configuration dictionary back.

    All blocks are float ones, as transformers computes them. Raises KeyError, TypeError or
    ValueError (pydantic's included) where it is not ours.
    """
    eos = data.get("eos_token_id")
    shape = DecoderShape(
        family=data["teacher_family"],
        layers=data["num_hidden_layers"],
        hidden_size=data["hidden_size"],
        query_heads=data["num_attention_heads"],
        kv_heads=data["num_key_value_heads"],
        head_dim=data["head_dim"],
        ffn_width=data["intermediate_size"],
        vocab_size=data["vocab_size"],
        max_positions=data["max_position_embeddings"],
        tied_embeddings=data["tie_word_embeddings"],
        qkv_bias=data["attention_bias"],
        output_bias=data["attention_output_bias"],
        ffn_bias=data["mlp_bias"],
        qk_norm=data["qk_norm"],
        norm_eps=data["rms_norm_eps"],
        activation=data["hidden_act"],
        sliding_window=data.get("sliding_window"),
        rope=data["rope_parameters"],
        bos_token_id=data.get("bos_token_id"),
        eos_token_ids=() if eos is None else (eos,) if isinstance(eos, int) else tuple(eos),
    )
    return shape, _architecture(shape, data.get("per_layer_config") or {})


def _architecture(shape: DecoderShape, overrides: dict[str, dict[str, Any]]) -> Architecture:
    layers = {int(index): layer for index, layer in overrides.items()}
    foreign = sorted(set(layers) - set(range(shape.layers)))
    if foreign:
        raise ValueError(f"per_layer_config names layer {foreign[0]} of {shape.layers}")
    choices = {slot.id: _spec(slot, layers.get(slot.layer, {})) for slot in shape.slots()}
    return Architecture(choices={k: v for k, v in choices.items() if v != KeepTeacher()})


def _spec(slot: Slot, layer: dict[str, Any]) -> BlockSpec:
    if _SKIP_NAME[slot.kind] in layer.get("skip", ()):
        return Skip()
    if layer.get(_BLOCK_KEY[slot.kind]) == "linear":
        return LinearMap()
    if slot.kind == "attention" and "num_key_value_heads" in layer:
        return GroupedQueryAttention(
            kv_heads=layer["num_key_value_heads"], query_heads=layer.get("num_attention_heads")
        )
    if slot.kind == "ffn" and "intermediate_size" in layer:
        return GatedFeedForward(width=layer["intermediate_size"])
    return KeepTeacher()
