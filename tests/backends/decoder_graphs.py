"""A decoder of one layer written operator by operator, for back ends that read ONNX files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

_KINDS = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
}
_HIDDEN, _HEADS, _DIM, _VOCAB = 16, 1, 16, 32


def save_decoder(
    path: Path,
    dtype: str = "float16",
    *,
    opset: int = 20,
    external_data: bool = False,
    float32_head: bool = False,
    past_name: str = "past_sequence_length",
) -> Path:
    """Attention with a cache and a tied head. `float32_head` computes the logits in float32."""
    kind = _KINDS[dtype]
    weights = [
        _weight("embedding", kind, _VOCAB, _HIDDEN),
        _weight("key", kind, _HIDDEN, _HEADS * _DIM),
        _weight("value", kind, _HIDDEN, _HEADS * _DIM),
        helper.make_tensor("heads", TensorProto.INT64, [4], [0, -1, _HEADS, _DIM]),
        helper.make_tensor("axis", TensorProto.INT64, [1], [1]),
        helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2]),
    ]
    head = ["mixed", "embedding"]
    nodes = [helper.make_node("Gather", ["embedding", "input_ids"], ["state"])]
    nodes += _project("key") + _project("value")
    nodes += [
        helper.make_node("Unsqueeze", ["state", "axis"], ["query"]),
        helper.make_node("Transpose", ["present.0.key"], ["keys"], perm=[0, 1, 3, 2]),
        helper.make_node("MatMul", ["query", "keys"], ["scores"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=kind),
        helper.make_node("Unsqueeze", ["mask", "axes"], ["masks"]),
        helper.make_node("Mul", ["scores", "masks"], ["masked"]),
        helper.make_node("Softmax", ["masked"], ["shares"], axis=-1),
        helper.make_node("MatMul", ["shares", "present.0.value"], ["heads_mixed"]),
        helper.make_node("Squeeze", ["heads_mixed", "axis"], ["mixed"]),
    ]
    if float32_head:
        head = ["wide_mixed", "wide_embedding"]
        nodes += [
            helper.make_node("Cast", [narrow], [wide], to=TensorProto.FLOAT)
            for narrow, wide in zip(("mixed", "embedding"), head, strict=True)
        ]
    nodes += [
        helper.make_node("Transpose", [head[1]], ["projection"], perm=[1, 0]),
        helper.make_node("MatMul", [head[0], "projection"], ["logits"]),
    ]
    logits_kind = TensorProto.FLOAT if float32_head else kind
    graph = helper.make_graph(nodes, "decoder", *_signature(kind, logits_kind, past_name), weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    onnx.checker.check_model(model)
    data = {"location": f"{path.name}.data", "size_threshold": 64} if external_data else {}
    onnx.save_model(model, str(path), save_as_external_data=external_data, **data)
    return path


def _weight(name: str, kind: int, *shape: int) -> Any:
    values = np.random.default_rng(0).standard_normal(shape).ravel()
    tensor = helper.make_tensor(name, kind, shape, values.tolist())
    # As raw bytes, the form that external data takes.
    return onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor), name)


def _project(part: str) -> list[Any]:
    """`state` through a weight, split into heads, appended to the cache."""
    return [
        helper.make_node("MatMul", ["state", part], [f"{part}.flat"]),
        helper.make_node("Reshape", [f"{part}.flat", "heads"], [f"{part}.split"]),
        helper.make_node("Transpose", [f"{part}.split"], [f"{part}.new"], perm=[0, 2, 1, 3]),
        helper.make_node(
            "Concat",
            [f"past_key_values.0.{part}", f"{part}.new"],
            [f"present.0.{part}"],
            axis=2,
        ),
    ]


def _signature(kind: int, logits_kind: int, past_name: str) -> tuple[list[Any], list[Any]]:
    def cache(prefix: str, length: str) -> list[Any]:
        dims = ["batch", _HEADS, length, _DIM]
        return [
            helper.make_tensor_value_info(f"{prefix}.0.{part}", kind, dims)
            for part in ("key", "value")
        ]

    integers, tokens = TensorProto.INT64, ["batch", "sequence_length"]
    inputs = [
        helper.make_tensor_value_info("input_ids", integers, tokens),
        helper.make_tensor_value_info(
            "attention_mask", integers, ["batch", "total_sequence_length"]
        ),
        *cache("past_key_values", past_name),
    ]
    logits = helper.make_tensor_value_info("logits", logits_kind, [*tokens, _VOCAB])
    return inputs, [logits, *cache("present", "total_sequence_length")]
