"""Feed-forward of two layers with fewer intermediate channels."""

from __future__ import annotations

from nas.blocks._narrower import NarrowerKind
from nas.blocks.feed_forward.module import FeedForwardBlock
from nas.ir import FeedForward, SlotKind, TransformerShape


class FeedForwardKind(NarrowerKind[FeedForward]):
    """`down(act(up(x)))`."""

    matrices = 2
    widening = ("up_proj",)

    def module(
        self, shape: TransformerShape, slot_kind: SlotKind, spec: FeedForward
    ) -> FeedForwardBlock:
        return FeedForwardBlock(shape, spec.width)
