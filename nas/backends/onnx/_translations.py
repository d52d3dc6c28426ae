"""How the graphs say what torch.onnx would say at greater cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from nas._imports import require
from nas.errors import PassError

if TYPE_CHECKING:
    import onnx_ir as ir

ATTENTION_OPSET = 23  # the first with an `Attention` operator


def custom_translations(opset: int) -> dict[Callable[..., Any], Callable[..., Any]]:
    """Translations that replace torch.onnx's own at `opset`."""
    if opset >= ATTENTION_OPSET:
        return {}
    return {torch.ops.aten.scaled_dot_product_attention.default: _grouped_attention(opset)}


def _grouped_attention(opset: int) -> Callable[..., Any]:
    """Attention in which the query heads of a group meet their KV head by broadcasting.

    torch.onnx repeats keys and values in memory instead, which nearly doubles the time of a decode
    step in ONNX Runtime on a processor.
    """
    op = getattr(require("onnxscript", extra="cpu"), f"opset{opset}")

    def attention(
        query: Any,
        key: Any,
        value: Any,
        attn_mask: Any = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Any:
        if is_causal or dropout_p:
            raise PassError("attention is exported with an additive mask or none, and nothing else")
        heads, kv_heads, dim = query.shape[1], key.shape[1], query.shape[3]
        factor = dim**-0.5 if scale is None else scale
        query = op.Mul(query, op.CastLike(op.Constant(value_float=factor), query))
        if kv_heads < heads:
            split = op.Constant(value_ints=[0, kv_heads, heads // kv_heads, -1, dim])
            group = op.Constant(value_ints=[2])
            query = op.Reshape(query, split)
            key, value = op.Unsqueeze(key, group), op.Unsqueeze(value, group)
            attn_mask = None if attn_mask is None else op.Unsqueeze(attn_mask, group)
        turned = op.Transpose(key, perm=[0, 1, 3, 2] if kv_heads == heads else [0, 1, 2, 4, 3])
        scores = op.MatMul(query, turned)
        if attn_mask is not None:
            scores = op.Add(scores, attn_mask)
        mixed = op.MatMul(op.Softmax(scores, axis=-1), value)
        if kv_heads == heads:
            return mixed
        return op.Reshape(mixed, op.Constant(value_ints=[0, heads, -1, dim]))

    return attention


def divide_by_root(graph: ir.Graph) -> None:
    """x * (1 / sqrt(v)) becomes x / sqrt(v): the form that ONNX Runtime fuses into one RMS norm."""
    for reciprocal in [node for node in graph if node.op_type == "Reciprocal"]:
        inverse, root = reciprocal.outputs[0], reciprocal.inputs[0]
        users = inverse.consumers()
        if root.producer() is None or root.producer().op_type != "Sqrt":
            continue
        if any(user.op_type != "Mul" for user in users):
            continue
        for user in users:
            numerator = user.inputs[1] if user.inputs[0] is inverse else user.inputs[0]
            user.op_type = "Div"
            user.replace_input_with(0, numerator)
            user.replace_input_with(1, root)
        graph.remove(reciprocal, safe=True)
