"""A chain in another number format, for measuring."""

from __future__ import annotations

import copy

import torch

from nas.chain import DecoderChain


def in_dtype(chain: DecoderChain, dtype: torch.dtype | None) -> DecoderChain:
    """The chain itself where its weights are in `dtype` (or that is None), else a copy in `dtype`.

    In the copy the residual stream and the rotary frequencies stay float32: rounded frequencies
    would turn late positions by whole radians.
    """
    if dtype is None or chain.norm.weight.dtype == dtype:
        return chain
    rotary = copy.deepcopy(chain.rotary)
    converted = copy.deepcopy(chain).to(dtype)
    converted.rotary = rotary
    converted.residual_dtype = torch.float32
    return converted
