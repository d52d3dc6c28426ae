"""Blocks that round as ONNX graphs: the operators, and that ONNX Runtime computes as torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from nas.backends.onnx import (
    SlotReport,
    _slot_gate,
    block_stack,
    check_onnx,
    check_slots,
    export_encoder,
    export_onnx,
    save_model,
)
from nas.backends.onnx._quantised import QuantisedProducts, QuantisedWeight
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
    FeedForward,
    GatedFeedForward,
    GroupedQueryAttention,
    LinearMap,
    Precision,
    Skip,
    SlotKind,
    in_precision,
    precision_of,
)
from tests.chains import tiny_chain, tiny_ids, tiny_shape
from tests.encoders import encoder_shape, tiny_encoder

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


@pytest.mark.parametrize(("slot_kind", "spec", "matrices"), BLOCKS)
def test_a_block_of_half_precision_equals_torch(
    slot_kind: SlotKind, spec: BlockSpec, matrices: int, tmp_path: Path
) -> None:
    """The standard's own evaluator computes torch's block. A processor's ONNX Runtime rounds its
    weights alone, and that is torch's block without its other rounding."""
    from onnx.reference import ReferenceEvaluator

    chosen = in_precision(spec, "float16")
    path = tmp_path / "stack.onnx"
    model = block_stack(SHAPE, slot_kind, chosen, 1)
    halves = [v for v in model.graph.initializers.values() if str(v.const_value.dtype) == "FLOAT16"]
    products = [n for n in model.graph if n.op_type == "MatMul" and n.inputs[1] in halves]
    save_model(model, path)
    feed, context, cache = _feed(spec)
    given = {name: tensor.numpy() for name, tensor in feed.items()}
    slot = stack_slots(SHAPE, slot_kind, chosen, 1)[0]
    with torch.no_grad():
        rounded, exact = (
            one.forward_cached(feed["state"], context, cache)[0]
            if cache
            else one(feed["state"], context)
            for one in (slot, with_exact_inputs(slot))
        )

    assert len(halves) == len(products) == matrices
    for product in products:
        assert product.inputs[0].producer().op_type == "Cast"
        assert [node.op_type for node, _ in product.outputs[0].uses()] == ["Cast"]
    by_the_standard = ReferenceEvaluator(str(path)).run(["next_state"], given)[0]
    by_onnxruntime = open_session(path, 1).run(["next_state"], given)[0]
    change = _rms(rounded - exact)
    assert change > 1e-5
    assert _rms(torch.from_numpy(by_the_standard) - rounded) < 0.1 * change
    assert _rms(torch.from_numpy(by_onnxruntime) - exact) < 0.02 * change


def _rms(x: torch.Tensor) -> float:
    return float(x.double().pow(2).mean().sqrt())


def test_inputs_that_several_matrices_share_are_rounded_once() -> None:
    model = block_stack(SHAPE, "ffn", GatedFeedForward(width=20, precision="int8_dynamic"), 2)
    counts = Counter(node.op_type for node in model.graph)
    assert (counts["DynamicQuantizeLinear"], counts["MatMulInteger"]) == (4, 6)


def test_halves_too_are_made_once_for_several_matrices() -> None:
    model = block_stack(SHAPE, "ffn", GatedFeedForward(width=20, precision="float16"), 2)
    casts = Counter(n.outputs[0].uses()[0][0].op_type for n in model.graph if n.op_type == "Cast")
    assert casts["MatMul"] == 4
    assert sum(casts.values()) == 4 + 6


@pytest.mark.parametrize("precision", ["int8", "float16"])
def test_rounding_in_half_precision_is_refused(precision: Precision) -> None:
    spec = GatedFeedForward(width=20, precision=precision)
    with pytest.raises(CapabilityError, match=f"{precision} stands in float32 networks alone"):
        block_stack(SHAPE, "ffn", spec, 1, dtype="float16")


ROUNDED = Architecture(
    choices={
        "layers.0.attention": GroupedQueryAttention(kv_heads=2, precision="int8_dynamic"),
        "layers.0.ffn": GatedFeedForward(width=48, precision="int8_dynamic"),
        "layers.1.attention": LinearMap(precision="int8"),
        "layers.1.ffn": Skip(),
        "layers.2.attention": GroupedQueryAttention(kv_heads=1, query_heads=2, precision="int8"),
        "layers.2.ffn": GatedFeedForward(width=20),
        "layers.3.attention": GroupedQueryAttention(kv_heads=2, precision="float16"),
        "layers.3.ffn": GatedFeedForward(width=20, precision="float16"),
    }
)


def test_a_network_that_rounds_passes_its_gate_with_a_cache_and_padding(tmp_path: Path) -> None:
    chain = tiny_chain(SHAPE, ROUNDED)
    artifact = export_onnx(chain, tmp_path)
    report = check_onnx(artifact, chain, tiny_ids(2, 12), greedy_tokens=8, tolerance=1e-5)
    assert 0.01 < report.limit < 2
    assert report.max_logits_difference <= report.limit


def test_a_file_of_other_steps_fails_its_gate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = QuantisedWeight.steps
    monkeypatch.setattr(QuantisedWeight, "steps", lambda self: steps(self).flip(0))
    chain = tiny_chain(SHAPE, ROUNDED)
    artifact = export_onnx(chain, tmp_path)
    with pytest.raises(PassError, match="does not compute this network"):
        check_onnx(artifact, chain, tiny_ids(2, 12), greedy_tokens=4)


def test_in_float_a_network_that_rounds_is_exact(tmp_path: Path) -> None:
    chain = dequantised(tiny_chain(SHAPE, ROUNDED))
    assert not quantised_layers(chain)
    exact = with_exact_inputs(tiny_chain(SHAPE, ROUNDED))
    with torch.no_grad():
        torch.testing.assert_close(chain(tiny_ids()), exact(tiny_ids()), atol=1e-4, rtol=0)


def _worst(tmp_path: Path, architecture: Architecture = ROUNDED) -> SlotReport | None:
    chain = tiny_chain(SHAPE, architecture)
    return check_slots(export_onnx(chain, tmp_path), chain, tiny_ids(2, 12))


def test_each_block_that_rounds_is_compared_on_what_the_file_gives_it(tmp_path: Path) -> None:
    report = _worst(tmp_path)
    assert report is not None
    assert report.share < 0.1
    assert report.slot in {slot.id for slot, spec in ROUNDED.items(SHAPE) if precision(spec)}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.onnx", "model.onnx.data"]


def precision(spec: BlockSpec) -> bool:
    return precision_of(spec) != "float"


def test_a_network_without_rounding_has_no_such_gate(tmp_path: Path) -> None:
    assert _worst(tmp_path, Architecture()) is None


def test_the_comparison_is_torchs_own_walk(tmp_path: Path) -> None:
    """States that the file computes at every slot, of a network in float, are the chain's."""
    chain = tiny_chain(SHAPE)
    row = tiny_ids(1, 12)
    visited = _slot_gate._visited(export_onnx(chain, tmp_path).path, chain, row, range(8))
    state, context, seen = chain.embed_tokens(row), chain.context(row), {}
    with torch.no_grad():
        for k in range(8):
            before, state = state, chain.slot(k)(state, context)
            seen[k] = (before, state)
    found = {k: (before, after) for k, before, _, after in visited}
    assert found.keys() == {k for k in range(8) if chain.slot(k).branch is not None}
    for k, pair in found.items():
        torch.testing.assert_close(pair, seen[k], atol=1e-4, rtol=1e-4)


def _wrong_zero_point(monkeypatch: pytest.MonkeyPatch) -> None:
    """The zero point is no input of the product."""
    node = QuantisedProducts._node

    def without(
        self: QuantisedProducts, operator: str, name: str, inputs: list, *rest, **attributes
    ):
        kept = inputs[:2] if operator == "MatMulInteger" else inputs
        return node(self, operator, name, kept, *rest, **attributes)

    monkeypatch.setattr(QuantisedProducts, "_node", without)


def _one_wrong_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of one layer stand in another order."""
    steps, width = QuantisedWeight.steps, 48

    def flipped(self: QuantisedWeight) -> torch.Tensor:
        return steps(self).flip(0) if self.weight.shape[0] == width else steps(self)

    monkeypatch.setattr(QuantisedWeight, "steps", flipped)


def _levels_off_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    levels = QuantisedWeight.levels
    monkeypatch.setattr(QuantisedWeight, "levels", lambda self: (levels(self) - 1).contiguous())


@pytest.mark.parametrize("fault", [_wrong_zero_point, _one_wrong_step, _levels_off_by_one])
def test_one_wrong_block_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Callable[[pytest.MonkeyPatch], None]
) -> None:
    fault(monkeypatch)
    with pytest.raises(PassError, match=r"layers\.0\.ffn.*does not compute this block"):
        _worst(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.onnx", "model.onnx.data"]


def _halves_in_another_order(weight: QuantisedWeight) -> torch.Tensor:
    return weight.weight.detach().half().T.flip(0).contiguous()


def _halves_cut_off(weight: QuantisedWeight) -> torch.Tensor:
    """Rounded towards zero, not to the nearest."""
    wide = weight.weight.detach().T.contiguous()
    near = wide.half()
    towards_zero = torch.nextafter(near, torch.zeros_like(near))
    return torch.where(near.float().abs() > wide.abs(), towards_zero, near)


@pytest.mark.parametrize("halves", [_halves_in_another_order, _halves_cut_off])
def test_wrong_halves_are_found(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    halves: Callable[[QuantisedWeight], torch.Tensor],
) -> None:
    monkeypatch.setattr(QuantisedWeight, "halves", halves)
    with pytest.raises(PassError, match=r"layers\.3\.ffn.*does not compute this block"):
        _worst(tmp_path)


def test_activations_that_are_not_rounded_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights of eight bits alone, where activations should be rounded too."""
    chain = tiny_chain(SHAPE, ROUNDED)
    artifact = export_onnx(dequantised(chain), tmp_path)
    with pytest.raises(PassError, match="does not compute this block"):
        check_slots(artifact, chain, tiny_ids(2, 12))


def test_blocks_of_an_encoder_are_compared_too(tmp_path: Path) -> None:
    choices = {
        "layers.0.attention": GroupedQueryAttention(kv_heads=4, precision="int8_dynamic"),
        "layers.0.ffn": FeedForward(width=20, precision="int8_dynamic"),
        "layers.1.ffn": FeedForward(width=20, precision="int8"),
    }
    chain = tiny_encoder(encoder_shape(), Architecture(choices=choices))
    ids = tiny_ids(2, 9) % chain.shape.vocab_size
    report = check_slots(export_encoder(chain, tmp_path), chain, ids)
    assert report is not None
    assert report.share < 0.1
