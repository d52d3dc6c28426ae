"""Two convolutions of 3x3."""

from nas.blocks.basic_convolution.kind import BasicConvolutionKind
from nas.blocks.basic_convolution.module import BasicConvolutionBlock

__all__ = ["BasicConvolutionBlock", "BasicConvolutionKind"]
