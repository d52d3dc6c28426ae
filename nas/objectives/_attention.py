"""Self-attention relations (MiniLMv2, Wang et al. 2021, arXiv 2012.15828).

What the tokens of a text say of each other, by products of their queries, of their keys and of
their values. They know nothing of a network's width or number of heads.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.chain import SlotModule
from nas.proxies._autodistil import relations

Vectors = tuple[Tensor, Tensor, Tensor]
"""Queries, keys and values, each [batch, tokens, heads * head_dim]."""


def attention_vectors(slot: SlotModule, state: Tensor) -> Vectors | None:
    """Of an attention slot, from the state before it [batch, tokens, hidden]; None where something
    else stands in the place of attention."""
    found = [getattr(slot.branch, f"{name}_proj", None) for name in "qkv"]
    projections = [module for module in found if isinstance(module, nn.Module)]
    if len(projections) < 3:
        return None
    normed = slot.normed(state)
    queries, keys, values = (project(normed) for project in projections)
    return queries, keys, values


def attention_relations(vectors: Vectors, parts: int) -> Vectors:
    """Logarithms of the three relations, each [parts, batch, tokens, tokens]; rows are
    distributions. Raises ConfigError for more parts than channels."""
    queries, keys, values = (_relation(v, parts) for v in vectors)
    return queries, keys, values


def attention_relation_loss(vectors: Vectors, goal: Vectors) -> Tensor:
    """KL(teacher || student) in nats, averaged over parts, texts and rows, summed over queries,
    keys and values; `goal`: the teacher's relations."""
    losses = [
        F.kl_div(_relation(ours, len(theirs)), theirs, reduction="sum", log_target=True)
        / theirs[..., 0].numel()
        for ours, theirs in zip(vectors, goal, strict=True)
    ]
    return torch.stack(losses).sum()


def _relation(vectors: Tensor, parts: int) -> Tensor:
    cut: Sequence[Tensor] = relations(vectors.float(), parts)
    return F.log_softmax(torch.stack(list(cut)), dim=-1)
