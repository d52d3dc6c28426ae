"""One convolution in place of a block, whole or through fewer channels."""

from __future__ import annotations

from torch import Tensor, nn

from nas.blocks._module import Block, BlockContext
from nas.blocks._pictures import TAPS, as_pictures, as_pixels, convolve, patches


class LowRankConvolutionBlock(Block):
    """3x3 to `rank` channels and 1x1 back, on states [pictures, side * side, channels]; without a
    rank one convolution of 3x3. The last of them is a linear layer."""

    def __init__(self, channels: int, rank: int | None, side: int) -> None:
        super().__init__()
        self.side = side
        self.conv1 = None if rank is None else nn.Conv2d(channels, rank, 3, padding=1, bias=False)
        self.conv2 = nn.Linear(TAPS * channels if rank is None else rank, channels)

    @property
    def output_layer(self) -> nn.Linear:
        return self.conv2

    def features(self, x: Tensor, context: BlockContext) -> Tensor:
        """What the last layer reads: patches, or the `rank` channels of each pixel."""
        pictures = as_pictures(x, self.side)
        return patches(pictures) if self.conv1 is None else as_pixels(self.conv1(pictures))

    def forward(self, x: Tensor, context: BlockContext) -> Tensor:
        if self.conv1 is None:
            return convolve(as_pictures(x, self.side), self.conv2)
        return super().forward(x, context)
