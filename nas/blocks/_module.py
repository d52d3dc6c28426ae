"""A block as a module: what it takes beside its input, and what it keeps from token to token."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn

BlockT = TypeVar("BlockT", bound="Block")


class KeyValue(NamedTuple):
    """Cache of one attention block: key and value, each [batch, kv_heads, tokens, head_dim]."""

    key: Tensor
    value: Tensor


@dataclass(frozen=True)
class BlockContext:
    """What a block may need beside its input.

    `cos`, `sin`: rotary factors [batch, tokens, head_dim]; None where heads are not rotated.
    `mask`: boolean, True where a query may look, broadcastable to
    [batch, heads, tokens, past + tokens]; None means the tokens at hand, those that came before
    where `causal`, else all of them.
    """

    cos: Tensor | None = None
    sin: Tensor | None = None
    mask: Tensor | None = None
    causal: bool = True

    def rows(self, rows: slice) -> BlockContext:
        """The context of some of the sequences. A mask of one row holds for all."""
        cos, sin = (None if part is None else part[rows] for part in (self.cos, self.sin))
        mask = self.mask if self.mask is None or len(self.mask) == 1 else self.mask[rows]
        return BlockContext(cos, sin, mask, self.causal)


class Block(nn.Module):
    """A residual branch: normed state [batch, tokens, hidden] in, same shape out.

    Its last step is linear, `output_layer(features(x))`: what is fitted in closed form.
    """

    @property
    def output_layer(self) -> nn.Linear:
        """The layer that writes to the residual stream."""
        raise TypeError(f"{type(self).__name__} does not define output_layer")

    def features(self, x: Tensor, context: BlockContext) -> Tensor:
        """What the output layer reads [batch, tokens, its input width]."""
        raise TypeError(f"{type(self).__name__} does not define features")

    def forward(self, x: Tensor, context: BlockContext) -> Tensor:
        y: Tensor = self.output_layer(self.features(x, context))
        return y


class CachedBlock(Block):
    """A branch that keeps a key-value cache of `kv_heads` heads of `head_dim` channels."""

    kv_heads: int
    head_dim: int

    def forward_cached(
        self, x: Tensor, context: BlockContext, past: KeyValue
    ) -> tuple[Tensor, KeyValue]:
        """As `forward`, with `past` before the tokens; also returns the extended cache."""
        raise TypeError(f"{type(self).__name__} does not define forward_cached")

    def empty_cache(self, batch: int, dtype: torch.dtype) -> KeyValue:
        """A cache of no tokens."""
        weight = next(self.parameters())
        none = weight.new_zeros(batch, self.kv_heads, 0, self.head_dim, dtype=dtype)
        return KeyValue(none, none)


def unfilled(make: Callable[[], BlockT], device: torch.device) -> BlockT:
    """A block whose weights are still to be written: random ones, to be replaced, take time."""
    with torch.device("meta"):
        block = make()
    return block.to_empty(device=device)
