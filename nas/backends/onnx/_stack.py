"""Parts of a decoder as models of their own, to be measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from nas.backends.onnx._compose import Composer
from nas.backends.onnx._library import (
    CONTEXT,
    DEFAULT_OPSET,
    block_template,
    epilogue_template,
    prologue_template,
)
from nas.backends.onnx._template import Dims, require_dtype
from nas.blocks import build_block
from nas.blocks._norm import RMSNorm
from nas.chain import SlotModule
from nas.errors import PassError
from nas.ir import BlockSpec, DecoderShape, GroupedQueryAttention, Slot, SlotKind

if TYPE_CHECKING:
    import onnx_ir as ir


def block_stack(
    shape: DecoderShape,
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

    Inputs: `state` [batch, sequence_length, hidden]; for attention also `cos`, `sin`
    [batch, sequence_length, head_dim], `mask` [batch, 1, sequence_length, total_sequence_length]
    (additive: 0 where a query may look, a large negative number elsewhere), and for copy i
    `past_key_values.{i}.key|value` [batch, kv_heads, past_sequence_length, head_dim].
    Outputs: `next_state`, and for attention `present.{i}.key|value`. One model serves prefill
    (no past) and decode (one token). All tensors are in `dtype`. On the device `meta` there are no
    weights, and only the structure can be written (`save_structure`).

    Raises PassError for a skip, which has no graph.
    """
    require_dtype(dtype)
    opset = DEFAULT_OPSET if opset is None else opset
    composer = Composer("stack", dtype, opset)
    resolved = shape.resolve(Slot(layer=0, kind=slot_kind), spec)
    template = block_template(shape, slot_kind, resolved, dtype, opset)
    hidden: Dims = ("batch", "sequence_length", shape.hidden_size)
    state = composer.add_input("state", hidden)
    context, past, presents = [], _past_dims(shape, resolved), []
    if past:
        context = [composer.add_input(name, _context_dims(name, shape)) for name in CONTEXT]
    for i, slot in enumerate(stack_slots(shape, slot_kind, resolved, copies, seed, device)):
        inputs = [state, *context, *(composer.add_past(i, past) if past else ())]
        weights = dict(slot.named_parameters())
        state, *present = composer.instantiate(template, f"copies.{i}.", inputs, weights)
        presents.append(present)
    composer.add_output(state, "next_state", hidden)
    for i, present in enumerate(presents if past else ()):
        composer.add_present(i, present, past)
    return composer.model()


def stack_slots(
    shape: DecoderShape,
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
        return [
            SlotModule(
                RMSNorm(shape.hidden_size, shape.norm_eps), build_block(shape, slot_kind, spec)
            ).eval()
            for _ in range(copies)
        ]


def prologue_model(
    shape: DecoderShape,
    *,
    dtype: str = "float32",
    seed: int = 0,
    opset: int | None = None,
    device: str = "cpu",
) -> ir.Model:
    """`input_ids` [batch, sequence_length], `attention_mask` [batch, total_sequence_length] ->
    `state`, `cos`, `sin`, `mask` as `block_stack` takes them."""
    require_dtype(dtype)
    opset = DEFAULT_OPSET if opset is None else opset
    composer = Composer("prologue", dtype, opset)
    inputs = composer.add_ids()
    weight = _random((shape.vocab_size, shape.hidden_size), seed, device)
    template = prologue_template(shape, dtype, opset)
    results = composer.instantiate(template, "prologue.", inputs, {"weight": weight})
    for name, value in zip(template.outputs, results, strict=True):
        composer.add_output(value, name, _context_dims(name, shape))
    return composer.model()


def epilogue_model(
    shape: DecoderShape,
    *,
    dtype: str = "float32",
    seed: int = 0,
    opset: int | None = None,
    device: str = "cpu",
) -> ir.Model:
    """`state` [batch, sequence_length, hidden] -> `logits`: final norm and head."""
    require_dtype(dtype)
    opset = DEFAULT_OPSET if opset is None else opset
    composer = Composer("epilogue", dtype, opset)
    state = composer.add_input("state", ("batch", "sequence_length", shape.hidden_size))
    weights = {
        "norm.weight": torch.ones(shape.hidden_size, device=device),
        "head.weight": _random((shape.vocab_size, shape.hidden_size), seed, device),
    }
    template = epilogue_template(shape, dtype, opset)
    (logits,) = composer.instantiate(template, "epilogue.", [state], weights)
    composer.add_output(logits, "logits", ("batch", "sequence_length", shape.vocab_size))
    return composer.model()


def _past_dims(shape: DecoderShape, spec: BlockSpec) -> Dims:
    """Dimensions of a key or value cache; empty for a block without one."""
    if not isinstance(spec, GroupedQueryAttention):
        return ()
    return ("batch", spec.kv_heads, "past_sequence_length", shape.head_dim)


def _context_dims(name: str, shape: DecoderShape) -> Dims:
    if name == "mask":
        return ("batch", 1, "sequence_length", "total_sequence_length")
    width = shape.hidden_size if name == "state" else shape.head_dim
    return ("batch", "sequence_length", width)


def _random(size: tuple[int, int], seed: int, device: str) -> torch.Tensor:
    if device == "meta":
        return torch.empty(size, device=device)
    return 0.02 * torch.randn(size, generator=torch.Generator().manual_seed(seed))
