"""Block kinds: what can stand in a slot. One package a kind; none knows a teacher's names."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

import torch

from nas.blocks._base import BlockKind
from nas.blocks._data import Built, SlotData
from nas.blocks._module import Block, BlockContext, CachedBlock, KeyValue
from nas.blocks._quantised import (
    QuantisedLinear,
    bytes_of,
    convert,
    converted_parameters,
    dequantised,
    hold_halves,
    quantise,
    quantised_layers,
    settle_on_levels,
    weight_levels,
    with_exact_inputs,
)
from nas.blocks.basic_convolution import BasicConvolutionBlock, BasicConvolutionKind
from nas.blocks.bottleneck_convolution import (
    BottleneckConvolutionBlock,
    BottleneckConvolutionKind,
)
from nas.blocks.feed_forward import FeedForwardBlock, FeedForwardKind
from nas.blocks.gated_feed_forward import GatedFeedForwardBlock, GatedFeedForwardKind
from nas.blocks.grouped_query_attention import (
    GroupedQueryAttentionBlock,
    GroupedQueryAttentionKind,
)
from nas.blocks.linear_map import LinearMapBlock, LinearMapKind
from nas.blocks.low_rank_convolution import LowRankConvolutionBlock, LowRankConvolutionKind
from nas.blocks.separable_convolution import (
    SeparableConvolutionBlock,
    SeparableConvolutionKind,
)
from nas.blocks.skip import SkipKind
from nas.ir import BlockSpec, ChainShape, SlotKind, parse_shape, precision_of

KINDS: dict[str, BlockKind[Any, Any]] = {
    "gqa": GroupedQueryAttentionKind(),
    "ffn": FeedForwardKind(),
    "gated_ffn": GatedFeedForwardKind(),
    "basic_conv": BasicConvolutionKind(),
    "bottleneck_conv": BottleneckConvolutionKind(),
    "separable_conv": SeparableConvolutionKind(),
    "low_rank_conv": LowRankConvolutionKind(),
    "linear": LinearMapKind(),
    "skip": SkipKind(),
}


def build_block(shape: ChainShape, slot_kind: SlotKind, spec: BlockSpec) -> Block | None:
    """A fresh module for a resolved specification (`ChainShape.resolve`); None for a skip."""
    block = KINDS[spec.kind].module(shape, slot_kind, spec)
    precision = precision_of(spec)
    if block is not None and precision != "float":
        quantise(block, precision)
    return block


def stored_bytes(shape: ChainShape, slot_kind: SlotKind, spec: BlockSpec, float_bytes: int) -> int:
    """Bytes of the weights of a resolved specification, without the slot's norm, as a runtime
    stores them; numbers that are not rounded take `float_bytes`."""
    if precision_of(spec) == "float":
        return KINDS[spec.kind].parameters(shape, slot_kind, spec) * float_bytes
    return _quantised_bytes(shape.model_dump_json(), slot_kind, spec, float_bytes)


@lru_cache(maxsize=1024)
def _quantised_bytes(shape: str, slot_kind: SlotKind, spec: BlockSpec, float_bytes: int) -> int:
    with torch.device("meta"):
        block = build_block(parse_shape(json.loads(shape)), slot_kind, spec)
    return 0 if block is None else bytes_of(block, float_bytes)


__all__ = [
    "KINDS",
    "BasicConvolutionBlock",
    "Block",
    "BlockContext",
    "BlockKind",
    "BottleneckConvolutionBlock",
    "Built",
    "CachedBlock",
    "FeedForwardBlock",
    "GatedFeedForwardBlock",
    "GroupedQueryAttentionBlock",
    "KeyValue",
    "LinearMapBlock",
    "LowRankConvolutionBlock",
    "QuantisedLinear",
    "SeparableConvolutionBlock",
    "SlotData",
    "build_block",
    "convert",
    "converted_parameters",
    "dequantised",
    "hold_halves",
    "quantised_layers",
    "settle_on_levels",
    "stored_bytes",
    "weight_levels",
    "with_exact_inputs",
]
