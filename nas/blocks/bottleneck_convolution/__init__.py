"""Convolutions of 1x1, 3x3 and 1x1."""

from nas.blocks.bottleneck_convolution.kind import BottleneckConvolutionKind
from nas.blocks.bottleneck_convolution.module import BottleneckConvolutionBlock

__all__ = ["BottleneckConvolutionBlock", "BottleneckConvolutionKind"]
