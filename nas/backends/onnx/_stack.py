"""Parts of a decoder as models of their own, to be measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from nas.backends.onnx._compose import Composer
from nas.backends.onnx._convolutional import classifier_head_model, residual_stack, stem_model
from nas.backends.onnx._library import (
    DEFAULT_OPSET,
    IDS,
    block_template,
    context_inputs,
    epilogue_template,
    id_inputs,
    past_dims,
    prologue_template,
)
from nas.backends.onnx._quantised import weights_of
from nas.backends.onnx._template import Dims, require_dtype
from nas.backends.onnx._vision import patches_model, reading_model
from nas.chain import EncoderChain, SlotModule, make_slot
from nas.errors import PassError
from nas.ir import (
    BlockSpec,
    ChainShape,
    ConvShape,
    EncoderShape,
    GroupedQueryAttention,
    Slot,
    SlotKind,
    TextShape,
    TransformerShape,
    VisionShape,
    as_text,
    as_transformer,
)

if TYPE_CHECKING:
    import onnx_ir as ir


def block_stack(
    shape: ChainShape,
    slot_kind: SlotKind,
    spec: BlockSpec,
    copies: int,
    *,
    dtype: str = "float32",
    seed: int = 0,
    opset: int | None = None,
    device: str = "cpu",
) -> ir.Model:
    """`copies` of one block (norm + branch + residual) in a row, each with its own random weights.

    Inputs: `state` [batch, sequence_length, hidden], of a picture [batch, places, hidden] and
    nothing else; for attention of a decoder also `cos`, `sin`
    [batch, sequence_length, head_dim], `mask` [batch, 1, sequence_length, total_sequence_length]
    (additive: 0 where a query may look, a large negative number elsewhere; for an encoder `mask`
    alone, [batch, 1, 1, sequence_length]), and for copy i
    `past_key_values.{i}.key|value` [batch, kv_heads, past_sequence_length, head_dim].
    Outputs: `next_state`, and for attention `present.{i}.key|value`. One model serves prefill
    (no past) and decode (one token). All tensors are in `dtype`. On the device `meta` there are no
    weights, and only the structure can be written (`save_structure`).

    Raises PassError for a skip of which nothing is left.
    """
    require_dtype(dtype)
    opset = DEFAULT_OPSET if opset is None else opset
    if isinstance(shape, ConvShape):
        return residual_stack(
            shape, slot_kind, spec, copies, dtype=dtype, seed=seed, opset=opset, device=device
        )
    shape = as_transformer(shape)
    composer = Composer("stack", dtype, opset)
    resolved = shape.resolve(Slot(layer=0, kind=slot_kind), spec)
    template = block_template(shape, slot_kind, resolved, dtype, opset)
    places = shape.places if isinstance(shape, VisionShape) else "sequence_length"
    hidden: Dims = ("batch", places, shape.hidden_size)
    state = composer.add_input("state", hidden)
    past, presents = past_dims(shape, resolved), []
    beside = context_inputs(shape, resolved)
    context = [composer.add_input(name, dims) for name, dims in beside.items()]
    for i, slot in enumerate(stack_slots(shape, slot_kind, resolved, copies, seed, device)):
        inputs = [state, *context, *(composer.add_past(i, past) if past else ())]
        weights = weights_of(slot)
        state, *present = composer.instantiate(template, f"copies.{i}.", inputs, weights)
        presents.append(present)
    composer.add_output(state, "next_state", hidden)
    for i, present in enumerate(presents if past else ()):
        composer.add_present(i, present, past)
    return composer.model()


def stack_slots(
    shape: TransformerShape,
    slot_kind: SlotKind,
    spec: BlockSpec,
    copies: int,
    seed: int = 0,
    device: str = "cpu",
) -> list[SlotModule]:
    """The slots of `block_stack` as torch modules, in float32, with torch's own initialisation."""
    if copies < 1:
        raise PassError(f"a stack needs at least one copy, not {copies}")
    with torch.random.fork_rng(devices=[]), torch.device(device):
        torch.manual_seed(seed)
        return [make_slot(shape, slot_kind, spec).eval() for _ in range(copies)]


def prologue_model(
    shape: ChainShape,
    *,
    dtype: str = "float32",
    seed: int = 0,
    opset: int | None = None,
    device: str = "cpu",
) -> ir.Model:
    """`input_ids`, `attention_mask` (and `token_type_ids`) -> `state` and the `context_inputs` of
    attention, as `block_stack` takes them."""
    require_dtype(dtype)
    opset = DEFAULT_OPSET if opset is None else opset
    if isinstance(shape, ConvShape):
        return stem_model(shape, dtype=dtype, seed=seed, opset=opset, device=device)
    if isinstance(shape, VisionShape):
        return patches_model(shape, dtype=dtype, seed=seed, opset=opset, device=device)
    shape = as_text(shape)
    composer = Composer("prologue", dtype, opset)
    inputs = composer.add_ids(id_inputs(shape), shape.generates)
    template = prologue_template(shape, dtype, opset)
    weights = _outside_weights(shape, seed, device)
    results = composer.instantiate(template, "prologue.", inputs, weights)
    attention = GroupedQueryAttention(kv_heads=shape.kv_heads)
    state: Dims = ("batch", "sequence_length", shape.hidden_size)
    dims = {"state": state, **context_inputs(shape, attention)}
    for name, value in zip(template.outputs, results, strict=True):
        composer.add_output(value, name, dims[name])
    return composer.model()


def _outside_weights(shape: TextShape, seed: int, device: str) -> dict[str, torch.Tensor]:
    """Random weights of what stands before the slots."""
    if not isinstance(shape, EncoderShape):
        return {"weight": _random((shape.vocab_size, shape.hidden_size), seed, device)}
    with torch.random.fork_rng(devices=[]), torch.device(device):
        torch.manual_seed(seed)
        chain = EncoderChain(shape.model_copy(update={"layers": 1}))
    return {n: p.detach() for n, p in chain.named_parameters() if n.startswith(chain.outside)}


def epilogue_model(
    shape: ChainShape,
    *,
    dtype: str = "float32",
    seed: int = 0,
    opset: int | None = None,
    device: str = "cpu",
) -> ir.Model:
    """What stands after the slots: `state` [batch, sequence_length, hidden] -> `logits` by final
    norm and head; of an encoder `logits` by its masked head, or, with `attention_mask`,
    `sentence_embedding`."""
    require_dtype(dtype)
    opset = DEFAULT_OPSET if opset is None else opset
    if isinstance(shape, ConvShape):
        return classifier_head_model(shape, dtype=dtype, seed=seed, opset=opset, device=device)
    if isinstance(shape, VisionShape):
        return reading_model(shape, dtype=dtype, seed=seed, opset=opset, device=device)
    shape = as_text(shape)
    composer = Composer("epilogue", dtype, opset)
    state = composer.add_input("state", ("batch", "sequence_length", shape.hidden_size))
    template = epilogue_template(shape, dtype, opset)
    if isinstance(shape, EncoderShape) and shape.masked_head:
        weights = _outside_weights(shape, seed, device)
        (logits,) = composer.instantiate(template, "epilogue.", [state], weights)
        composer.add_output(logits, "logits", ("batch", "sequence_length", shape.vocab_size))
        return composer.model()
    if isinstance(shape, EncoderShape):
        mask = composer.add_input("attention_mask", IDS, "INT64")
        (embedding,) = composer.instantiate(template, "epilogue.", [state, mask], {})
        composer.add_output(embedding, "sentence_embedding", ("batch", shape.hidden_size))
        return composer.model()
    weights = {
        "norm.weight": torch.ones(shape.hidden_size, device=device),
        "head.weight": _random((shape.vocab_size, shape.hidden_size), seed, device),
    }
    (logits,) = composer.instantiate(template, "epilogue.", [state], weights)
    composer.add_output(logits, "logits", ("batch", "sequence_length", shape.vocab_size))
    return composer.model()


def _random(size: tuple[int, int], seed: int, device: str) -> torch.Tensor:
    if device == "meta":
        return torch.empty(size, device=device)
    return 0.02 * torch.randn(size, generator=torch.Generator().manual_seed(seed))
