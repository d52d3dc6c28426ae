"""Feed-forward without a gate."""

from nas.blocks.feed_forward.kind import FeedForwardKind
from nas.blocks.feed_forward.module import FeedForwardBlock

__all__ = ["FeedForwardBlock", "FeedForwardKind"]
