"""A student in the terms of DeciLM: per layer KV heads, a linear map or nothing in the place of
attention, and the width of the feed-forward, or none.

That is what servers without code of ours understand of a network whose layers differ: vLLM's
`DeciLMForCausalLM` and llama.cpp's `deci`. Each leaves something out, which is refused by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nas.errors import CapabilityError
from nas.ir import (
    Architecture,
    DecoderShape,
    GatedFeedForward,
    GroupedQueryAttention,
    LinearMap,
    Skip,
    Slot,
    in_float,
)


@dataclass(frozen=True)
class DeciLayer:
    """One layer. `index` is the student's; `kv_heads` 0 with `linear`: one matrix in the place of
    attention, without: none; `width` 0: no feed-forward."""

    index: int
    kv_heads: int
    linear: bool
    width: int

    @property
    def attends(self) -> bool:
        return self.kv_heads > 0

    @property
    def empty(self) -> bool:
        return not (self.attends or self.linear or self.width)


def deci_layers(shape: DecoderShape, architecture: Architecture) -> tuple[DeciLayer, ...]:
    """The layers of a student; blocks that round are those of their floating-point form.

    Raises CapabilityError with what the layout has no words for."""
    reasons = list(_of_the_teacher(shape))
    attention: dict[int, tuple[int, bool]] = {}
    widths: dict[int, int] = {}
    for slot, spec in architecture.items(shape):
        match in_float(shape.resolve(slot, spec)):
            case GroupedQueryAttention(kv_heads=kv_heads, query_heads=heads):
                attention[slot.layer] = (kv_heads, False)
                if heads not in (None, shape.query_heads):
                    reasons.append(f"{slot.id} has {heads} query heads, others {shape.query_heads}")
            case LinearMap() if slot.kind == "attention":
                attention[slot.layer] = (0, True)
            case GatedFeedForward(width=width):
                widths[slot.layer] = width
            case Skip():
                pass
            case other:
                reasons.append(f"{slot.id} is {other.label}")
    refuse(reasons, "the DeciLM layout")
    return tuple(
        DeciLayer(i, *attention.get(i, (0, False)), widths.get(i, 0)) for i in range(shape.layers)
    )


def _of_the_teacher(shape: DecoderShape) -> Iterator[str]:
    if shape.qkv_bias or shape.output_bias or shape.ffn_bias:
        yield "its layers have biases"
    if shape.qk_norm:
        yield "queries and keys are normed"
    if shape.sliding_window is not None:
        yield "its attention has a window"
    if shape.activation != "silu":
        yield f"its activation is {shape.activation}, not silu"


def refuse(reasons: Sequence[str], whose: str) -> None:
    """Raise CapabilityError where there are any reasons."""
    if reasons:
        more = f" (and {len(reasons) - 4} more)" if len(reasons) > 4 else ""
        raise CapabilityError(
            f"export.formats: {whose} cannot express this student: {'; '.join(reasons[:4])}{more}; "
            f"serve the ONNX or the Hugging Face folder, or leave this out of the search space"
        )


def require_vllm(layers: Sequence[DeciLayer]) -> None:
    """Raise CapabilityError for what vLLM's model of this layout does not run: it has no linear
    maps, and its residual stream begins with the first attention."""
    reasons = [f"{_slot(n, 'attention')} is a linear map" for n in layers if n.linear]
    for layer in layers:
        if layer.attends:
            break
        if layer.width:
            reasons.append(f"{_slot(layer, 'ffn')} stands before the first attention")
            break
    if not any(layer.attends for layer in layers):
        reasons.append("no layer has attention")
    refuse(reasons, "vLLM's DeciLM")


def require_llama_cpp(shape: DecoderShape, layers: Sequence[DeciLayer]) -> None:
    """Raise CapabilityError for rotary angles that depend on the length at hand, and for a student
    without attention."""
    kind, reasons = shape.rope.get("rope_type", "default"), []
    if kind not in ("default", "linear", "llama3"):
        reasons.append(f"rope_type is {kind}")
    if not any(layer.attends for layer in layers):
        reasons.append("no layer has attention")
    refuse(reasons, "llama.cpp's deci")


def _slot(layer: DeciLayer, kind: str) -> str:
    return Slot.model_validate({"layer": layer.index, "kind": kind}).id
