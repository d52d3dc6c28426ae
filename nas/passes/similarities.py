"""Similarities: the teacher's embeddings that those of students are held against."""

from __future__ import annotations

import torch
from torch import Tensor

from nas.chain import EncoderChain, VisionChain
from nas.passes._context import PassContext
from nas.passes.score import scoring_copy

_TEXTS = 512
"""A direction's mean square is known to 6 % from so many."""
_BATCH = 32


@torch.no_grad()
def embeddings(context: PassContext) -> Tensor:
    """The teacher's embeddings of training texts, or pictures [texts, hidden], at most 512."""
    chain = scoring_copy(context.teacher.chain)
    assert isinstance(chain, EncoderChain | VisionChain)
    pieces = context.text.train[:_TEXTS].to(chain.device).split(_BATCH)
    return torch.cat([chain.embeddings(ids) for ids in pieces])
