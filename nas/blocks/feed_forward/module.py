"""Position-wise feed-forward block (Vaswani et al., arXiv 1706.03762, section 3.3)."""

from __future__ import annotations

from torch import Tensor, nn

from nas.blocks._activations import activation_of
from nas.blocks._module import Block, BlockContext
from nas.ir import TransformerShape


class FeedForwardBlock(Block):
    """`down(act(up(x)))` with `width` intermediate channels."""

    def __init__(self, shape: TransformerShape, width: int) -> None:
        super().__init__()
        self.activation = activation_of(shape.activation)
        self.up_proj = nn.Linear(shape.hidden_size, width, bias=shape.ffn_bias)
        self.down_proj = nn.Linear(width, shape.hidden_size, bias=shape.ffn_bias)

    @property
    def output_layer(self) -> nn.Linear:
        return self.down_proj

    def features(self, x: Tensor, context: BlockContext) -> Tensor:
        """Activation [batch, tokens, width]."""
        return self.activation(self.up_proj(x))
