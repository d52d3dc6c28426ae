"""A depthwise separable convolution (Howard et al., arXiv 1704.04861)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from nas.blocks._module import Block, BlockContext
from nas.blocks._pictures import as_pictures, as_pixels


class SeparableConvolutionBlock(Block):
    """`pointwise(relu(depthwise(x)))` on states [pictures, side * side, channels]; the pointwise
    convolution is a linear layer over pixels."""

    def __init__(self, channels: int, multiplier: int, side: int) -> None:
        super().__init__()
        self.side = side
        wide = multiplier * channels
        self.depthwise = nn.Conv2d(channels, wide, 3, padding=1, groups=channels)
        self.pointwise = nn.Linear(wide, channels)

    @property
    def output_layer(self) -> nn.Linear:
        return self.pointwise

    def features(self, x: Tensor, context: BlockContext) -> Tensor:
        """What the pointwise convolution reads [pictures, pixels, channels * multiplier]."""
        return as_pixels(F.relu(self.depthwise(as_pictures(x, self.side))))
