"""A depthwise separable convolution."""

from nas.blocks.separable_convolution.kind import SeparableConvolutionKind
from nas.blocks.separable_convolution.module import SeparableConvolutionBlock

__all__ = ["SeparableConvolutionBlock", "SeparableConvolutionKind"]
