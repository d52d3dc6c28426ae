"""What a block is made from: the teacher's block and its activations at one slot."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from nas._numerics import autocast
from nas.blocks._base import Block, BlockContext
from nas.ir import BlockSpec, ChainShape, SlotKind


@dataclass(frozen=True)
class SlotData:
    """The teacher's view of one slot.

    `x` and `y`: normed input and branch output [sequences, tokens, hidden] in float32. The last
    `held_out` sequences judge a block and are never fitted on. `context` has batch 1.
    """

    shape: ChainShape
    slot_kind: SlotKind
    teacher: Block
    x: Tensor
    y: Tensor
    context: BlockContext
    held_out: int
    ridge: float
    chunk: int = 8

    def fitted(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Chunks (x, y) of the sequences to fit on."""
        stop = self.x.shape[0] - self.held_out
        for i in range(0, stop, self.chunk):
            j = min(i + self.chunk, stop)
            yield self.x[i:j], self.y[i:j]

    @torch.no_grad()
    def error(self, block: Block | None) -> float:
        """MSE(teacher, block) / MSE(teacher, 0) on the held-out sequences; 1 for no block."""
        if block is None:
            return 1.0
        lost = power = 0.0
        for i in range(len(self.x) - self.held_out, len(self.x), self.chunk):
            x, y = self.x[i : i + self.chunk], self.y[i : i + self.chunk]
            with autocast(x.device.type):
                found = block(x, self.context)
            lost += float((found.float() - y).pow(2).sum())
            power += float(y.pow(2).sum())
        return lost / max(power, 1e-30)


@dataclass(frozen=True)
class Built:
    """A block made for a slot. `error` is the held-out normalised error of the block as it is,
    `sliced_error` that of the plain initialisation before the closed-form refit."""

    spec: BlockSpec
    block: Block | None
    error: float
    sliced_error: float
