"""Similarities: the teacher's embeddings that those of students are held against."""

from __future__ import annotations

import torch
from torch import Tensor

from nas._numerics import compute_dtype
from nas.chain import EncoderChain, VisionChain

_MOST = 512
"""A direction's mean square is known to 6 % from so many."""
_BATCH = 32


@torch.no_grad()
def embeddings(teacher: EncoderChain | VisionChain, samples: Tensor) -> Tensor:
    """The teacher's embeddings [samples, hidden] of texts or pictures, at most 512."""
    chain = teacher.in_dtype(compute_dtype(str(teacher.device)))
    pieces = samples[:_MOST].to(chain.device).split(_BATCH)
    return torch.cat([chain.embeddings(ids) for ids in pieces])
