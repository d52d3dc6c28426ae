"""Templates by structure, kept for the life of the process.

torch.onnx takes a second or more for a graph of any size, so a decoder is never exported as a
whole: its prologue, its epilogue and one block of each structure are, and composed afterwards.
Sizes that show in the weights alone (hidden size, FFN width, vocabulary) are not part of the key.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

import torch

from nas.backends.onnx._modules import (
    CachedBlock,
    EncoderEpilogue,
    EncoderPrologue,
    Epilogue,
    MaskedBlock,
    MaskedEpilogue,
    PlainBlock,
    Prologue,
    TypedEncoderPrologue,
)
from nas.backends.onnx._quantised import require_float32
from nas.backends.onnx._template import Dims, Signature, Template, export_part
from nas.chain import DecoderChain, EncoderChain, make_slot
from nas.errors import CapabilityError, PassError
from nas.ir import (
    Architecture,
    BlockSpec,
    DecoderShape,
    EncoderShape,
    FeedForward,
    GatedFeedForward,
    GroupedQueryAttention,
    Skip,
    SlotKind,
    TextShape,
    TransformerShape,
    VisionShape,
    in_float,
)

DEFAULT_OPSET = 20
CONTEXT = ("cos", "sin", "mask")
PAST = ("past_key", "past_value")
PRESENT = ("present_key", "present_value")

_SMALL = 16
_ROPE_BY_LENGTH = ("dynamic", "longrope")  # angles depend on the length at hand: no static graph
_STATE: Dims = ("batch", "sequence_length", _SMALL)
IDS: Dims = ("batch", "sequence_length")

_cache: dict[tuple[str, ...], Template] = {}
_lock = threading.Lock()


def prologue_template(shape: TextShape, dtype: str, opset: int) -> Template:
    """What every network opens with.

    Decoder: `input_ids`, `attention_mask` -> `state`, `cos`, `sin`, `mask`; weight `weight`.
    Encoder: `input_ids`, `attention_mask`, `token_type_ids` (where it knows them) -> `state`,
    `mask`; weights as the chain names them.

    Raises CapabilityError for a rope variant whose angles change with the length.
    """
    if isinstance(shape, EncoderShape):
        return _encoder_prologue(shape, dtype, opset)
    assert isinstance(shape, DecoderShape)
    rope_type = shape.rope.get("rope_type", "default")
    if rope_type in _ROPE_BY_LENGTH:
        raise CapabilityError(
            f"rope_type {rope_type!r} recomputes its angles for each length, which an ONNX graph "
            "cannot hold; export the Hugging Face folder instead (export.formats: [huggingface])"
        )
    small = _reduced_decoder(shape, ("head_dim", "rope", "sliding_window", "max_positions"))

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


def _encoder_prologue(shape: EncoderShape, dtype: str, opset: int) -> Template:
    small = _reduced_encoder(shape, ("norm_eps", "type_vocab_size"))

    def make() -> Template:
        kind = TypedEncoderPrologue if shape.type_vocab_size else EncoderPrologue
        part = kind(EncoderChain(small), dtype)
        inputs = dict.fromkeys(id_inputs(shape), IDS)
        return export_part(part, Signature(inputs, ("state", "mask"), integers=True), dtype, opset)

    return _remembered(("prologue", small.model_dump_json(), dtype, str(opset)), make)


def epilogue_template(shape: TextShape, dtype: str, opset: int) -> Template:
    """What every network ends with.

    Decoder: `state` -> `logits`; weights `norm.weight`, `head.weight`. Encoder: `state`,
    `attention_mask` -> `sentence_embedding`, or with a masked head `state` -> `logits`; weights
    `head.*` and `embed.weight`.
    """
    if isinstance(shape, EncoderShape):
        return _encoder_epilogue(shape, dtype, opset)
    assert isinstance(shape, DecoderShape)
    small = _reduced_decoder(shape, ("norm_eps",))

    def make() -> Template:
        skips = Architecture(choices={slot.id: Skip() for slot in small.slots()})
        part = Epilogue(DecoderChain(small, skips))
        return export_part(part, Signature({"state": _STATE}, ("logits",)), dtype, opset)

    return _remembered(("epilogue", small.model_dump_json(), dtype, str(opset)), make)


def _encoder_epilogue(shape: EncoderShape, dtype: str, opset: int) -> Template:
    if shape.masked_head:
        return _masked_epilogue(shape, dtype, opset)
    small = _reduced_encoder(shape, ("pooling", "normalised"))

    def make() -> Template:
        signature = Signature(
            {"state": _STATE, "attention_mask": IDS},
            ("sentence_embedding",),
            whole=frozenset({"attention_mask"}),
        )
        return export_part(EncoderEpilogue(EncoderChain(small)), signature, dtype, opset)

    return _remembered(("epilogue", small.model_dump_json(), dtype, str(opset)), make)


def _masked_epilogue(shape: EncoderShape, dtype: str, opset: int) -> Template:
    small = _reduced_encoder(shape, ("norm_eps", "activation", "masked_head"))

    def make() -> Template:
        part = MaskedEpilogue(EncoderChain(small))
        return export_part(part, Signature({"state": _STATE}, ("logits",)), dtype, opset)

    return _remembered(("epilogue", small.model_dump_json(), dtype, str(opset)), make)


def id_inputs(shape: TextShape) -> tuple[str, ...]:
    """Names of the integer inputs of a network."""
    typed = isinstance(shape, EncoderShape) and shape.type_vocab_size > 0
    return ("input_ids", "attention_mask", *(("token_type_ids",) if typed else ()))


def context_inputs(shape: TransformerShape, spec: BlockSpec) -> dict[str, Dims]:
    """What a block takes beside the state and its cache, with dimensions; of a picture nothing is
    padding."""
    if not isinstance(spec, GroupedQueryAttention) or shape.reads_pictures:
        return {}
    if not shape.generates:
        return {"mask": ("batch", 1, 1, "sequence_length")}
    angles: Dims = ("batch", "sequence_length", shape.head_dim)
    mask: Dims = ("batch", 1, "sequence_length", "total_sequence_length")
    return {"cos": angles, "sin": angles, "mask": mask}


def past_dims(shape: TransformerShape, spec: BlockSpec) -> Dims:
    """Dimensions of a key or value cache; empty for a block without one."""
    if not isinstance(spec, GroupedQueryAttention) or not shape.generates:
        return ()
    return ("batch", spec.kv_heads, "past_sequence_length", shape.head_dim)


def block_template(
    shape: TransformerShape, slot_kind: SlotKind, spec: BlockSpec, dtype: str, opset: int
) -> Template:
    """norm + block + residual of a resolved `spec`: `state` -> `next_state`.

    Attention also takes its `context_inputs`, and where it caches `past_key`, `past_value`, for
    which it gives `present_key`, `present_value`. One graph serves all precisions: the composer
    puts rounded products in. Raises PassError for a skip that leaves nothing, CapabilityError for
    a block that rounds in another `dtype` than float32.
    """
    if isinstance(spec, Skip) and shape.pre_norm:
        raise PassError("a skipped slot has no graph; it costs nothing by definition")
    require_float32(spec, dtype)
    spec = in_float(spec)
    if isinstance(spec, (GatedFeedForward, FeedForward)):
        spec = shape.ffn(_SMALL)
    small = _reduced(shape, _fields_of(spec))

    def make() -> Template:
        slot = make_slot(small, slot_kind, spec)
        beside, past = context_inputs(small, spec), past_dims(small, spec)
        inputs = {"state": _STATE, **beside, **dict.fromkeys(PAST if past else (), past)}
        part: PlainBlock | MaskedBlock | CachedBlock = PlainBlock(slot)
        if beside:
            part = CachedBlock(slot) if past else MaskedBlock(slot)
        outputs = ("next_state", *(PRESENT if past else ()))
        return export_part(part, Signature(inputs, outputs), dtype, opset)

    # Not by slot kind: a block that fits both kinds of slot is the same in both.
    key = ("block", small.model_dump_json(), spec.model_dump_json(), dtype, str(opset))
    return _remembered(key, make)


def _fields_of(spec: BlockSpec) -> tuple[str, ...]:
    """Fields of the shape that change the graph of a block."""
    if isinstance(spec, GroupedQueryAttention):
        return ("norm_eps", "query_heads", "head_dim", "qk_norm", "qkv_bias", "output_bias")
    if isinstance(spec, (GatedFeedForward, FeedForward)):
        return ("norm_eps", "activation", "ffn_bias")
    return ("norm_eps",)


def _reduced(shape: TransformerShape, kept: Iterable[str]) -> TransformerShape:
    """A tiny network of the same kind that equals `shape` in the fields `kept`."""
    if isinstance(shape, EncoderShape):
        return _reduced_encoder(shape, kept)
    if isinstance(shape, VisionShape):
        tiny = VisionShape.model_validate({**_TINY_BODY, **_TINY_PICTURE})
        return tiny.model_copy(update={name: getattr(shape, name) for name in kept})
    assert isinstance(shape, DecoderShape)
    return _reduced_decoder(shape, kept)


_TINY_BODY = {
    "family": "template",
    "layers": 1,
    "hidden_size": _SMALL,
    "query_heads": 2,
    "kv_heads": 1,
    "head_dim": 8,
    "ffn_width": _SMALL,
}
_TINY = {**_TINY_BODY, "vocab_size": _SMALL, "max_positions": 16}
_TINY_PICTURE = {"patch_side": 1, "image_side": 2, "classes": 0}


def _reduced_decoder(shape: DecoderShape, kept: Iterable[str]) -> DecoderShape:
    tiny = DecoderShape.model_validate({**_TINY, "tied_embeddings": False})
    return tiny.model_copy(update={name: getattr(shape, name) for name in kept})


def _reduced_encoder(shape: EncoderShape, kept: Iterable[str]) -> EncoderShape:
    tiny = EncoderShape.model_validate(_TINY)
    return tiny.model_copy(update={name: getattr(shape, name) for name in kept})


def _remembered(key: tuple[str, ...], make: Callable[[], Template]) -> Template:
    with _lock:
        if key not in _cache:
            with torch.random.fork_rng(devices=[]):
                _cache[key] = make()
        return _cache[key]
