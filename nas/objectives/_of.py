"""Which objective a network has."""

from __future__ import annotations

from nas.chain import Chain, ConvChain, DecoderChain, EncoderChain
from nas.objectives._base import Objective
from nas.objectives._embedding import EmbeddingObjective
from nas.objectives._language import LanguageObjective


def objective_of(chain: Chain) -> Objective:
    """What the use of this network asks to be kept."""
    if isinstance(chain, (DecoderChain, ConvChain)):
        return LanguageObjective(chain.head)
    assert isinstance(chain, EncoderChain)
    return EmbeddingObjective(chain.pool)
