"""The bottleneck block of a residual network (He et al., arXiv 1512.03385), batch norms folded."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.blocks._module import Block, BlockContext
from nas.blocks._pictures import as_pictures, as_pixels


class BottleneckConvolutionBlock(Block):
    """`conv3(relu(conv2(relu(conv1(x)))))` of 1x1, 3x3, 1x1, on [pictures, side * side, channels].

    Convolutions of 1x1 are linear layers over pixels.
    """

    def __init__(self, channels: int, width: int, side: int) -> None:
        super().__init__()
        self.side = side
        self.conv1 = nn.Linear(channels, width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.conv3 = nn.Linear(width, channels)

    @property
    def output_layer(self) -> nn.Linear:
        return self.conv3

    def first_taps(self) -> Tensor:
        """What the first two convolutions make of each channel [width, channels, 3, 3], but for
        what lies between them."""
        return torch.einsum("wvij,vc->wcij", self.conv2.weight, self.conv1.weight)

    def features(self, x: Tensor, context: BlockContext) -> Tensor:
        """What conv3 reads [pictures, pixels, width]."""
        narrow = F.relu(self.conv1(x))
        return as_pixels(F.relu(self.conv2(as_pictures(narrow, self.side))))
