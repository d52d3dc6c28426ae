"""The basic block of a residual network (He et al., arXiv 1512.03385), batch norms folded."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from nas.blocks._module import Block, BlockContext
from nas.blocks._pictures import TAPS, as_pictures, convolve, patches


class BasicConvolutionBlock(Block):
    """`conv2(relu(conv1(x)))`, both 3x3, on states [pictures, side * side, channels].

    `conv2` is a linear layer over patches, which is what it is fitted as.
    """

    def __init__(self, channels: int, width: int, side: int) -> None:
        super().__init__()
        self.side = side
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1)
        self.conv2 = nn.Linear(TAPS * width, channels)

    @property
    def output_layer(self) -> nn.Linear:
        return self.conv2

    def first_taps(self) -> Tensor:
        """What the first convolution makes of each channel [width, channels, 3, 3]."""
        return self.conv1.weight

    def inner(self, x: Tensor) -> Tensor:
        """The pictures between the convolutions [pictures, width, side, side]."""
        return F.relu(self.conv1(as_pictures(x, self.side)))

    def features(self, x: Tensor, context: BlockContext) -> Tensor:
        """Patches of the inner pictures [pictures, pixels, width * 9]."""
        return patches(self.inner(x))

    def forward(self, x: Tensor, context: BlockContext) -> Tensor:
        return convolve(self.inner(x), self.conv2)
