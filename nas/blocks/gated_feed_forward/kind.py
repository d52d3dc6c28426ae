"""Gated feed-forward with fewer intermediate channels."""

from __future__ import annotations

from nas.blocks._narrower import NarrowerKind
from nas.blocks.gated_feed_forward.module import GatedFeedForwardBlock
from nas.ir import GatedFeedForward, SlotKind, TransformerShape


class GatedFeedForwardKind(NarrowerKind[GatedFeedForward]):
    """`down(act(gate(x)) * up(x))`."""

    matrices = 3
    widening = ("gate_proj", "up_proj")

    def module(
        self, shape: TransformerShape, slot_kind: SlotKind, spec: GatedFeedForward
    ) -> GatedFeedForwardBlock:
        return GatedFeedForwardBlock(shape, spec.width)
