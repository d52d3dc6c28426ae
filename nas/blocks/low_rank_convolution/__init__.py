"""A linear convolution of low rank."""

from nas.blocks.low_rank_convolution.kind import LowRankConvolutionKind
from nas.blocks.low_rank_convolution.module import LowRankConvolutionBlock

__all__ = ["LowRankConvolutionBlock", "LowRankConvolutionKind"]
