"""States of pictures: [pictures, pixels, channels], which convolutions see as [.., channels, h, w].

Channels lie innermost in both, so that neither view copies.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

TAPS = 9
"""Pixels that a convolution of 3x3 reads."""


def as_pictures(x: Tensor, side: int) -> Tensor:
    """[pictures, side * side, channels] as [pictures, channels, side, side]."""
    pictures: Tensor = x.unflatten(1, (side, side))
    return pictures.permute(0, 3, 1, 2)


def as_pixels(pictures: Tensor) -> Tensor:
    """[pictures, channels, side, side] as [pictures, side * side, channels]."""
    return pictures.permute(0, 2, 3, 1).flatten(1, 2)


def patches(pictures: Tensor) -> Tensor:
    """What a convolution of 3x3 reads at each pixel [pictures, pixels, channels * 9]: the taps of
    a channel side by side, as in the weight of a convolution."""
    columns: Tensor = F.unfold(pictures, 3, padding=1)
    return columns.transpose(1, 2)


def convolve(pictures: Tensor, layer: nn.Linear) -> Tensor:
    """`layer(patches(pictures))` [pictures, pixels, outputs], without the patches."""
    weight = layer.weight.unflatten(1, (-1, 3, 3))
    return as_pixels(F.conv2d(pictures, weight, layer.bias, padding=1))


def convolution_flops(inputs: int, outputs: int, taps: int, side: int) -> float:
    """Floating-point operations of a convolution over one picture."""
    return 2.0 * inputs * outputs * taps * side**2
