"""Which objective a network has."""

from __future__ import annotations

from torch import Tensor

from nas.chain import Chain, DecoderChain, EncoderChain
from nas.objectives._base import Objective
from nas.objectives._embedding import EmbeddingObjective
from nas.objectives._language import LanguageObjective


def objective_of(chain: Chain, metric: Tensor | None = None) -> Objective:
    """What the use of this network asks to be kept; `metric`: of embeddings, see
    `EmbeddingObjective`."""
    if isinstance(chain, DecoderChain):
        return LanguageObjective(chain.head)
    assert isinstance(chain, EncoderChain)
    return EmbeddingObjective(chain.pool, metric)
