"""Networks as chains: embed -> slots -> head.

Teacher and student are both one; they differ in their architecture alone.
"""

from __future__ import annotations

from nas.chain._base import Chain
from nas.chain._convolutional import ConvChain, ConvSlot, Opening, openings_of
from nas.chain._decoder import DecoderChain, rotary_embedding
from nas.chain._encoder import EncoderChain
from nas.chain._greedy import greedy_tokens
from nas.chain._pictures import normalised
from nas.chain._slot import SlotModule, make_slot
from nas.chain._vision import VisionChain
from nas.ir import Architecture, ChainShape, ConvShape, DecoderShape, EncoderShape, VisionShape

PictureChain = ConvChain | VisionChain
"""A network over pictures: called, it gives the logits of classes, or embeddings."""


def make_chain(shape: ChainShape, architecture: Architecture | None = None) -> Chain:
    """A fresh network of `shape` with the blocks of `architecture`."""
    if isinstance(shape, DecoderShape):
        return DecoderChain(shape, architecture)
    if isinstance(shape, ConvShape):
        return ConvChain(shape, architecture)
    if isinstance(shape, VisionShape):
        return VisionChain(shape, architecture)
    assert isinstance(shape, EncoderShape)
    return EncoderChain(shape, architecture)


__all__ = [
    "Chain",
    "ConvChain",
    "ConvSlot",
    "DecoderChain",
    "EncoderChain",
    "Opening",
    "PictureChain",
    "SlotModule",
    "VisionChain",
    "greedy_tokens",
    "make_chain",
    "make_slot",
    "normalised",
    "openings_of",
    "rotary_embedding",
]
