"""Blocks of eight bits as ONNX graphs: the operators, and that ONNX Runtime computes as torch."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from nas.backends.onnx import block_stack, check_onnx, export_onnx, save_model
from nas.backends.onnx._int8 import Int8Weight
from nas.backends.onnx._stack import stack_slots
from nas.backends.onnxruntime import open_session
from nas.blocks import (
    BlockContext,
    KeyValue,
    dequantised,
    quantised_layers,
    with_exact_inputs,
)
from nas.errors import CapabilityError, PassError
from nas.ir import (
    Architecture,
    BlockSpec,
    GatedFeedForward,
    GroupedQueryAttention,
    LinearMap,
    Precision,
    Skip,
    SlotKind,
    in_precision,
)
from tests.chains import tiny_chain, tiny_ids, tiny_shape

SHAPE = tiny_shape()
BLOCKS: tuple[tuple[SlotKind, BlockSpec, int], ...] = (
    ("ffn", GatedFeedForward(width=20), 3),
    ("ffn", LinearMap(), 1),
    ("attention", LinearMap(), 1),
    ("attention", GroupedQueryAttention(kv_heads=2), 4),
)
OPERATORS = {"int8": "DequantizeLinear", "int8_dynamic": "MatMulInteger"}


def _feed(spec: BlockSpec) -> tuple[dict[str, torch.Tensor], BlockContext, KeyValue | None]:
    torch.manual_seed(0)
    state = torch.randn(1, 6, 32)
    state[0, 2, 3] = 5.0
    if not isinstance(spec, GroupedQueryAttention):
        return {"state": state}, BlockContext(), None
    cos, sin, mask = torch.rand(1, 6, 8), torch.rand(1, 6, 8), torch.zeros(1, 1, 6, 9)
    mask[..., -1] = -1e9
    cache = KeyValue(torch.randn(1, 2, 3, 8), torch.randn(1, 2, 3, 8))
    feed = {"state": state, "cos": cos, "sin": sin, "mask": mask}
    feed |= {"past_key_values.0.key": cache.key, "past_key_values.0.value": cache.value}
    return feed, BlockContext(cos, sin, mask), cache


@pytest.mark.parametrize("precision", ["int8", "int8_dynamic"])
@pytest.mark.parametrize(("slot_kind", "spec", "matrices"), BLOCKS)
def test_a_block_of_eight_bits_equals_torch(
    slot_kind: SlotKind, spec: BlockSpec, matrices: int, precision: Precision, tmp_path: Path
) -> None:
    chosen = in_precision(spec, precision)
    model = block_stack(SHAPE, slot_kind, chosen, 1)
    counts = Counter(node.op_type for node in model.graph)
    kinds = Counter(str(v.const_value.dtype) for v in model.graph.initializers.values())
    save_model(model, tmp_path / "stack.onnx")
    feed, context, cache = _feed(spec)

    session = open_session(tmp_path / "stack.onnx", 1)
    given = {name: tensor.numpy() for name, tensor in feed.items()}
    found = session.run(["next_state"], given)[0]
    slot = stack_slots(SHAPE, slot_kind, chosen, 1)[0]
    with torch.no_grad():
        both = [
            one.forward_cached(feed["state"], context, cache)[0]
            if cache
            else one(feed["state"], context)
            for one in (slot, with_exact_inputs(slot))
        ]

    assert counts[OPERATORS[precision]] == kinds["INT8"] == matrices
    rounding = float((both[0] - both[1]).pow(2).mean().sqrt())
    apart = float((torch.from_numpy(found) - both[0]).pow(2).mean().sqrt())
    assert rounding > 1e-4
    assert apart < 0.02 * rounding
    np.testing.assert_allclose(found, both[0].numpy(), atol=0.05)


def test_inputs_that_several_matrices_share_are_rounded_once() -> None:
    model = block_stack(SHAPE, "ffn", GatedFeedForward(width=20, precision="int8_dynamic"), 2)
    counts = Counter(node.op_type for node in model.graph)
    assert (counts["DynamicQuantizeLinear"], counts["MatMulInteger"]) == (4, 6)


def test_eight_bits_in_half_precision_are_refused() -> None:
    spec = GatedFeedForward(width=20, precision="int8")
    with pytest.raises(CapabilityError, match="int8 stands in float32 networks alone"):
        block_stack(SHAPE, "ffn", spec, 1, dtype="float16")


EIGHT_BITS = Architecture(
    choices={
        "layers.0.attention": GroupedQueryAttention(kv_heads=2, precision="int8_dynamic"),
        "layers.0.ffn": GatedFeedForward(width=48, precision="int8_dynamic"),
        "layers.1.attention": LinearMap(precision="int8"),
        "layers.1.ffn": Skip(),
        "layers.2.attention": GroupedQueryAttention(kv_heads=1, query_heads=2, precision="int8"),
        "layers.2.ffn": GatedFeedForward(width=20),
    }
)


def test_a_network_of_eight_bits_passes_its_gate_with_a_cache_and_padding(tmp_path: Path) -> None:
    chain = tiny_chain(SHAPE, EIGHT_BITS)
    artifact = export_onnx(chain, tmp_path)
    report = check_onnx(artifact, chain, tiny_ids(2, 12), greedy_tokens=8, tolerance=1e-5)
    assert 0.01 < report.limit < 2
    assert report.max_logits_difference <= report.limit


def test_a_file_of_other_steps_fails_its_gate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = Int8Weight.steps
    monkeypatch.setattr(Int8Weight, "steps", lambda self: steps(self).flip(0))
    chain = tiny_chain(SHAPE, EIGHT_BITS)
    artifact = export_onnx(chain, tmp_path)
    with pytest.raises(PassError, match="does not compute this network"):
        check_onnx(artifact, chain, tiny_ids(2, 12), greedy_tokens=4)


def test_in_float_a_network_of_eight_bits_is_exact(tmp_path: Path) -> None:
    chain = dequantised(tiny_chain(SHAPE, EIGHT_BITS))
    assert not quantised_layers(chain)
    exact = with_exact_inputs(tiny_chain(SHAPE, EIGHT_BITS))
    with torch.no_grad():
        torch.testing.assert_close(chain(tiny_ids()), exact(tiny_ids()), atol=1e-4, rtol=0)
