"""Gated feed-forward."""

from nas.blocks.gated_feed_forward.kind import GatedFeedForwardKind
from nas.blocks.gated_feed_forward.module import GatedFeedForwardBlock

__all__ = ["GatedFeedForwardBlock", "GatedFeedForwardKind"]
