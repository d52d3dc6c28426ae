"""Block kinds: what can stand in a slot. One package a kind; none knows a teacher's names."""

from __future__ import annotations

from typing import Any

from nas.blocks._base import Block, BlockContext, BlockKind, CachedBlock, KeyValue
from nas.blocks._data import Built, SlotData
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
from nas.ir import BlockSpec, ChainShape, SlotKind

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
    return KINDS[spec.kind].module(shape, slot_kind, spec)


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
    "SeparableConvolutionBlock",
    "SlotData",
    "build_block",
]
