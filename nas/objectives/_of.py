"""Which objective a network has."""

from __future__ import annotations

from torch import Tensor

from nas.chain import Chain, DecoderChain, EncoderChain, PictureChain, VisionChain
from nas.objectives._base import Objective
from nas.objectives._classes import ClassObjective, Lesson
from nas.objectives._embedding import EmbeddingObjective
from nas.objectives._language import LanguageObjective
from nas.objectives._masked import MaskedLanguageObjective


def lesson_for(chain: Chain, lesson: Lesson, metric: Tensor | None = None) -> Objective:
    """The objective that a network is taught by: of classes as the lesson says, of others
    `objective_of`."""
    if isinstance(chain, PictureChain) and chain.head is not None:
        return ClassObjective(chain.head, lesson)
    return objective_of(chain, metric)


def objective_of(chain: Chain, metric: Tensor | None = None) -> Objective:
    """What the use of this network asks to be kept; `metric`: of embeddings, see
    `EmbeddingObjective`."""
    if isinstance(chain, DecoderChain | PictureChain) and chain.head is not None:
        return LanguageObjective(chain.head)
    assert isinstance(chain, EncoderChain | VisionChain)
    if isinstance(chain, EncoderChain) and chain.head is not None:
        return MaskedLanguageObjective(chain.head, chain.embed.weight, chain.head.bias)
    return EmbeddingObjective(chain.pool, metric)
