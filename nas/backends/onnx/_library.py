"""Templates by structure, kept for the life of the process.

torch.onnx takes a second or more for a graph of any size, so a decoder is never exported as a
whole: its prologue, its epilogue and one block of each structure are, and composed afterwards.
Sizes that show in the weights alone (hidden size, FFN width, vocabulary) are not part of the key.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

import torch

from nas.backends.onnx._modules import CachedBlock, Epilogue, PlainBlock, Prologue
from nas.backends.onnx._template import Dims, Signature, Template, export_part
from nas.blocks import build_block
from nas.blocks._norm import RMSNorm
from nas.chain import DecoderChain, SlotModule
from nas.errors import CapabilityError, PassError
from nas.ir import (
    Architecture,
    BlockSpec,
    DecoderShape,
    GatedFeedForward,
    GroupedQueryAttention,
    Skip,
    SlotKind,
)

DEFAULT_OPSET = 20
CONTEXT = ("cos", "sin", "mask")
PAST = ("past_key", "past_value")
PRESENT = ("present_key", "present_value")

_SMALL = 16
_ROPE_BY_LENGTH = ("dynamic", "longrope")  # angles depend on the length at hand: no static graph
_STATE: Dims = ("batch", "sequence_length", _SMALL)

_cache: dict[tuple[str, ...], Template] = {}
_lock = threading.Lock()


def prologue_template(shape: DecoderShape, dtype: str, opset: int) -> Template:
    """`input_ids`, `attention_mask` -> `state`, `cos`, `sin`, `mask`; weight `weight`.

    Raises CapabilityError for a rope variant whose angles change with the length.
    """
    rope_type = shape.rope.get("rope_type", "default")
    if rope_type in _ROPE_BY_LENGTH:
        raise CapabilityError(
            f"rope_type {rope_type!r} recomputes its angles for each length, which an ONNX graph "
            "cannot hold; export the Hugging Face folder instead (export.formats: [huggingface])"
        )
    small = _reduced(shape, ("head_dim", "rope", "sliding_window", "max_positions"))

    def make() -> Template:
        skips = Architecture(choices={slot.id: Skip() for slot in small.slots()})
        part = Prologue(DecoderChain(small, skips), dtype)
        signature = Signature(
            {
                "input_ids": ("batch", "sequence_length"),
                "attention_mask": ("batch", "total_sequence_length"),
            },
            ("state", *CONTEXT),
            integers=True,
        )
        return export_part(part, signature, dtype, opset)

    return _remembered(("prologue", small.model_dump_json(), dtype, str(opset)), make)


def epilogue_template(shape: DecoderShape, dtype: str, opset: int) -> Template:
    """`state` -> `logits`; weights `norm.weight`, `head.weight`."""
    small = _reduced(shape, ("norm_eps",))

    def make() -> Template:
        skips = Architecture(choices={slot.id: Skip() for slot in small.slots()})
        part = Epilogue(DecoderChain(small, skips))
        return export_part(part, Signature({"state": _STATE}, ("logits",)), dtype, opset)

    return _remembered(("epilogue", small.model_dump_json(), dtype, str(opset)), make)


def block_template(
    shape: DecoderShape, slot_kind: SlotKind, spec: BlockSpec, dtype: str, opset: int
) -> Template:
    """norm + block + residual of a resolved `spec`: `state` -> `next_state`.

    A block that caches also takes `cos`, `sin`, `mask`, `past_key`, `past_value` and gives
    `present_key`, `present_value`. Raises PassError for a skip.
    """
    if isinstance(spec, Skip):
        raise PassError("a skipped slot has no graph; it costs nothing by definition")
    if isinstance(spec, GatedFeedForward):
        spec = GatedFeedForward(width=_SMALL)
    small = _reduced(shape, _fields_of(spec))

    def make() -> Template:
        branch = build_block(small, slot_kind, spec)
        slot = SlotModule(RMSNorm(small.hidden_size, small.norm_eps), branch)
        if not slot.caches:
            part: PlainBlock | CachedBlock = PlainBlock(slot)
            return export_part(part, Signature({"state": _STATE}, ("next_state",)), dtype, opset)
        return export_part(CachedBlock(slot), _cached_signature(small, spec), dtype, opset)

    # Not by slot kind: a block that fits both kinds of slot is the same in both.
    key = ("block", small.model_dump_json(), spec.model_dump_json(), dtype, str(opset))
    return _remembered(key, make)


def _fields_of(spec: BlockSpec) -> tuple[str, ...]:
    """Fields of the shape that change the graph of a block."""
    if isinstance(spec, GroupedQueryAttention):
        return ("norm_eps", "query_heads", "head_dim", "qk_norm", "qkv_bias", "output_bias")
    if isinstance(spec, GatedFeedForward):
        return ("norm_eps", "activation", "ffn_bias")
    return ("norm_eps",)


def _cached_signature(shape: DecoderShape, spec: BlockSpec) -> Signature:
    assert isinstance(spec, GroupedQueryAttention)
    angles: Dims = ("batch", "sequence_length", shape.head_dim)
    past: Dims = ("batch", spec.kv_heads, "past_sequence_length", shape.head_dim)
    mask: Dims = ("batch", 1, "sequence_length", "total_sequence_length")
    inputs = {"state": _STATE, "cos": angles, "sin": angles, "mask": mask}
    return Signature({**inputs, **dict.fromkeys(PAST, past)}, ("next_state", *PRESENT))


def _reduced(shape: DecoderShape, kept: Iterable[str]) -> DecoderShape:
    """A tiny decoder that equals `shape` in the fields `kept`."""
    tiny = DecoderShape(
        family="template",
        layers=1,
        hidden_size=_SMALL,
        query_heads=2,
        kv_heads=1,
        head_dim=8,
        ffn_width=_SMALL,
        vocab_size=_SMALL,
        max_positions=16,
        tied_embeddings=False,
    )
    return tiny.model_copy(update={name: getattr(shape, name) for name in kept})


def _remembered(key: tuple[str, ...], make: Callable[[], Template]) -> Template:
    with _lock:
        if key not in _cache:
            with torch.random.fork_rng(devices=[]):
                _cache[key] = make()
        return _cache[key]
