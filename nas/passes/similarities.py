"""Similarities: what of an embedding its similarities with other texts depend on."""

from __future__ import annotations

import torch
from torch import Tensor

from nas.chain import EncoderChain
from nas.objectives import similarity_metric
from nas.passes._context import PassContext
from nas.passes.score import scoring_copy

_TEXTS = 512
"""A direction's mean square is known to 6 % from so many."""
_BATCH = 32


@torch.no_grad()
def metric(context: PassContext) -> Tensor | None:
    """The metric of the run's `EmbeddingObjective` [hidden, hidden], from the teacher's embeddings
    of training texts; None for a language model, or where similarities have no weight."""
    weight = context.config.objective.similarity_weight
    if context.shape.generates or weight == 0:
        return None
    chain = scoring_copy(context.teacher.chain)
    assert isinstance(chain, EncoderChain)
    pieces = context.text.train[:_TEXTS].to(chain.device).split(_BATCH)
    embeddings = torch.cat([chain.pool(chain(ids).float()) for ids in pieces])
    return similarity_metric(embeddings, weight)
