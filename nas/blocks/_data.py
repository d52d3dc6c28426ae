"""What a block is made from: the teacher's block and its activations at one slot."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from nas._numerics import autocast, compute_dtype
from nas.blocks._module import Block, BlockContext
from nas.blocks._ridge import Moments, fit_output
from nas.ir import BlockSpec, ChainShape, ConvShape, SlotKind


@dataclass(frozen=True)
class SlotData:
    """The teacher's view of one slot.

    `x` and `y`: normed input and branch output [sequences, tokens, hidden] in float32. The last
    `held_out` sequences judge a block and are never fitted on. `context` has batch 1.

    Where a norm follows the branch, errors count as they do behind it: `emphasis`
    [sequences, tokens, 1] is the weight of a token's squared error (1 over the variance that the
    norm divides by: a few tokens of thousandfold power would else be all that is fitted), and
    `gain` [hidden] scales its channels.
    """

    shape: ChainShape
    slot_kind: SlotKind
    teacher: Block
    x: Tensor
    y: Tensor
    context: BlockContext
    held_out: int
    ridge: float
    emphasis: Tensor | None = None
    gain: Tensor | None = None
    chunk: int = 8

    @property
    def tokens_a_sample(self) -> int:
        """Tokens of a sequence; a picture is one, whatever its pixels."""
        return self.x.shape[1] // self.shape.pixels(self.slot_kind)

    def fitted(self) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
        """Chunks (x, y, emphasis) of the sequences to fit on."""
        stop = self.x.shape[0] - self.held_out
        for i in range(0, stop, self.chunk):
            rows = slice(i, min(i + self.chunk, stop))
            yield self.read(rows), self.y[rows], self._emphasis(rows)

    def read(self, rows: slice | Tensor) -> Tensor:
        """`x[rows]` as a transformer's block reads it: in the processor's fast format, once and not
        again in each projection."""
        x = self.x[rows]
        return x if isinstance(self.shape, ConvShape) else x.to(compute_dtype(x.device.type))

    def squares(self, values: Tensor, rows: slice | Tensor) -> Tensor:
        """Squares of differences from `y[rows]`, or of `y[rows]` itself, as they count."""
        scaled = values if self.gain is None else values * self.gain
        emphasis = self._emphasis(rows)
        return scaled.pow(2) if emphasis is None else scaled.pow(2) * emphasis

    def felt(self, output: Tensor) -> Tensor:
        """An output layer's weight [hidden, features] with its rows scaled by `gain`."""
        return output if self.gain is None else output * self.gain[:, None]

    def _emphasis(self, rows: slice | Tensor) -> Tensor | None:
        return None if self.emphasis is None else self.emphasis[rows]

    @torch.no_grad()
    def error(self, block: Block | None) -> float:
        """MSE(teacher, block) / MSE(teacher, 0) on the held-out sequences; 1 for no block."""
        if block is None:
            return 1.0
        with autocast(self.x.device.type):
            return self._error(block(self.read(r), self.context) for r in self._held_out())

    @torch.no_grad()
    def refit(self, block: Block, moments: Moments) -> tuple[float, float]:
        """Regress the block's output layer anew in place; its error before and after. What the
        layer reads of the held-out sequences is made once."""
        with autocast(self.x.device.type):
            features = [block.features(self.read(r), self.context) for r in self._held_out()]

        def error() -> float:
            with autocast(self.x.device.type):  # one of its own: it keeps the weights that it casts
                return self._error(map(block.output_layer, features))

        before = error()
        fit_output(block.output_layer, moments, self.ridge)
        return before, error()

    def _held_out(self) -> Iterator[slice]:
        for i in range(len(self.x) - self.held_out, len(self.x), self.chunk):
            yield slice(i, i + self.chunk)

    def _error(self, outputs: Iterable[Tensor]) -> float:
        """Of a block's outputs for the held-out sequences, chunk by chunk."""
        lost = power = 0.0
        for rows, found in zip(self._held_out(), outputs, strict=True):
            y = self.y[rows]
            lost += float(self.squares(found.float() - y, rows).sum())
            power += float(self.squares(y, rows).sum())
        return lost / max(power, 1e-30)


@dataclass(frozen=True)
class Built:
    """A block made for a slot. `error` is the held-out normalised error of the block as it is,
    `sliced_error` that of the plain initialisation before the closed-form refit."""

    spec: BlockSpec
    block: Block | None
    error: float
    sliced_error: float
