"""Stacks of blocks, prologue and epilogue: what the latency meter times is the real thing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from nas.backends.onnx import block_stack, epilogue_model, prologue_model, save_model
from nas.backends.onnx._stack import stack_slots
from nas.backends.onnxruntime import open_session
from nas.blocks import BlockContext, KeyValue
from nas.errors import PassError
from nas.ir import (
    BlockSpec,
    GatedFeedForward,
    GroupedQueryAttention,
    KeepTeacher,
    LinearMap,
    Skip,
    Slot,
    SlotKind,
)
from tests.chains import tiny_chain, tiny_shape

SHAPE = tiny_shape()
COPIES = 3


def run(path: Path, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    session = open_session(path, 1)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feed), strict=True))


@pytest.mark.parametrize(
    ("slot_kind", "spec"),
    [
        ("ffn", GatedFeedForward(width=20)),
        ("ffn", KeepTeacher()),
        ("ffn", LinearMap()),
        ("attention", LinearMap()),
    ],
)
def test_stack_without_cache_equals_torch(
    slot_kind: SlotKind, spec: BlockSpec, tmp_path: Path
) -> None:
    save_model(block_stack(SHAPE, slot_kind, spec, COPIES), tmp_path / "stack.onnx")
    state = torch.randn(2, 5, 32)
    outputs = run(tmp_path / "stack.onnx", {"state": state.numpy()})
    resolved = SHAPE.resolve(Slot(layer=0, kind=slot_kind), spec)
    with torch.no_grad():
        for slot in stack_slots(SHAPE, slot_kind, resolved, COPIES):
            state = slot(state, BlockContext(torch.zeros(()), torch.zeros(())))
    assert list(outputs) == ["next_state"]
    np.testing.assert_allclose(outputs["next_state"], state.numpy(), atol=1e-5)


@pytest.mark.parametrize(("tokens", "past"), [(6, 0), (1, 9)], ids=["prefill", "decode"])
@pytest.mark.parametrize("kv_heads", [2, 4])
def test_stack_of_attention_equals_torch(
    tokens: int, past: int, kv_heads: int, tmp_path: Path
) -> None:
    spec = GroupedQueryAttention(kv_heads=kv_heads)
    save_model(block_stack(SHAPE, "attention", spec, COPIES, seed=3), tmp_path / "stack.onnx")
    torch.manual_seed(0)
    state, cos, sin = torch.randn(2, tokens, 32), torch.rand(2, tokens, 8), torch.rand(2, tokens, 8)
    mask = torch.zeros(2, 1, tokens, past + tokens)
    mask[..., -1, 0] = -1e9
    caches = [
        KeyValue(torch.randn(2, kv_heads, past, 8), torch.randn(2, kv_heads, past, 8))
        for _ in range(COPIES)
    ]
    feed = {"state": state, "cos": cos, "sin": sin, "mask": mask}
    for i, cache in enumerate(caches):
        feed[f"past_key_values.{i}.key"] = cache.key
        feed[f"past_key_values.{i}.value"] = cache.value
    outputs = run(tmp_path / "stack.onnx", {name: t.numpy() for name, t in feed.items()})
    slots = stack_slots(SHAPE, "attention", spec, COPIES, seed=3)
    with torch.no_grad():
        for i, (slot, cache) in enumerate(zip(slots, caches, strict=True)):
            state, present = slot.forward_cached(state, BlockContext(cos, sin, mask), cache)
            np.testing.assert_allclose(outputs[f"present.{i}.key"], present.key, atol=1e-5)
            np.testing.assert_allclose(outputs[f"present.{i}.value"], present.value, atol=1e-5)
    np.testing.assert_allclose(outputs["next_state"], state.numpy(), atol=1e-5)


def test_opset_with_attention_operator(tmp_path: Path) -> None:
    spec, outputs = GroupedQueryAttention(kv_heads=2), []
    feed = {
        "state": np.linspace(-1, 1, 2 * 5 * 32, dtype=np.float32).reshape(2, 5, 32),
        "cos": np.ones((2, 5, 8), np.float32),
        "sin": np.zeros((2, 5, 8), np.float32),
        "mask": np.triu(np.full((2, 1, 5, 5), -1e9, np.float32), 1),
        "past_key_values.0.key": np.zeros((2, 2, 0, 8), np.float32),
        "past_key_values.0.value": np.zeros((2, 2, 0, 8), np.float32),
    }
    for opset in (20, 23):
        model = block_stack(SHAPE, "attention", spec, 1, opset=opset)
        save_model(model, tmp_path / f"{opset}.onnx")
        outputs.append(run(tmp_path / f"{opset}.onnx", feed)["next_state"])
    assert {"Attention", "RMSNormalization"} <= {node.op_type for node in model.graph}
    np.testing.assert_allclose(outputs[0], outputs[1], atol=1e-5)


def test_copies_have_weights_of_their_own() -> None:
    model = block_stack(SHAPE, "ffn", GatedFeedForward(width=20), COPIES)
    gates = [
        value.const_value.numpy()
        for name, value in model.graph.initializers.items()
        if "gate_proj" in name
    ]
    assert len(gates) == COPIES
    assert all(np.abs(gates[0] - gate).max() > 0.01 for gate in gates[1:])


def test_a_skip_has_no_stack() -> None:
    with pytest.raises(PassError, match="skip"):
        block_stack(SHAPE, "ffn", Skip(), COPIES)
    with pytest.raises(PassError, match="at least one"):
        block_stack(SHAPE, "ffn", LinearMap(), 0)


def test_prologue_gives_what_blocks_take(tmp_path: Path) -> None:
    save_model(prologue_model(SHAPE), tmp_path / "prologue.onnx")
    ids = np.arange(6).reshape(2, 3)
    padding = np.ones((2, 8), dtype=np.int64)
    padding[1, :2] = 0
    outputs = run(tmp_path / "prologue.onnx", {"input_ids": ids, "attention_mask": padding})
    context = tiny_chain(SHAPE).cached_context(torch.from_numpy(padding), 3)
    assert outputs["state"].shape == (2, 3, 32)
    np.testing.assert_allclose(outputs["cos"], context.cos, atol=1e-6)
    np.testing.assert_allclose(outputs["sin"], context.sin, atol=1e-6)
    assert context.mask is not None
    assert ((outputs["mask"] == 0) == context.mask.numpy()).all()
    assert outputs["mask"].min() == -1e9


def test_epilogue_gives_logits(tmp_path: Path) -> None:
    save_model(epilogue_model(SHAPE), tmp_path / "epilogue.onnx")
    outputs = run(tmp_path / "epilogue.onnx", {"state": np.ones((2, 3, 32), np.float32)})
    assert outputs["logits"].shape == (2, 3, 264)


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnx_ir

    path = tmp_path / "stack.onnx"
    model = block_stack(SHAPE, "ffn", LinearMap(), 1)
    save_model(model, path)
    before = path.read_bytes()

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(onnx_ir, "save", full)
    with pytest.raises(PassError, match=r"stack\.onnx.*No space left"):
        save_model(model, path)
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["stack.onnx", "stack.onnx.data"]
