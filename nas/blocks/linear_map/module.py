"""One linear layer in place of a block."""

from __future__ import annotations

from torch import Tensor, nn

from nas.blocks._module import Block, BlockContext


class LinearMapBlock(Block):
    """`weight @ x + bias`, hidden to hidden."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.proj = nn.Linear(hidden_size, hidden_size)

    @property
    def output_layer(self) -> nn.Linear:
        return self.proj

    def features(self, x: Tensor, context: BlockContext) -> Tensor:
        return x
