"""What a subnet learns from the teacher: relations, which know nothing of widths.

Q-Q, K-K and V-V relations of the last layers (MiniLMv2, Wang et al. 2021, arXiv 2012.15828), as
AutoDistil trains by (arXiv 2201.12507). They reach no further than the projections of the last
attention: what follows learns nothing by them. A network whose use is an embedding needs the third
kind, too: `similarity`, the squared error of the cosines of all pairs of texts in a batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from nas.chain import EncoderChain
from nas.errors import ConfigError
from nas.objectives import attention_relation_loss, attention_relations, attention_vectors
from nas.objectives._attention import Vectors


@dataclass(frozen=True)
class Seen:
    """What an encoder makes of a batch: queries, keys and values of its last layer, each
    [batch, tokens, heads * head_dim], and, where asked for, embeddings [batch, hidden]."""

    vectors: Vectors
    embeddings: Tensor | None


@dataclass(frozen=True)
class Goal:
    """What the teacher says of a batch: logarithms of its three relations
    [parts, batch, tokens, tokens], and cosines of its embeddings [batch, batch]."""

    relations: tuple[Tensor, Tensor, Tensor]
    cosines: Tensor | None


@dataclass(frozen=True)
class RelationObjective:
    """KL(teacher || student) of the three relations, summed over the three, plus
    `similarity_weight` times the mean squared error of cosines.

    Relations are cut into `relation_heads` parts whatever the number of heads. A weight of 0 is
    AutoDistil's own objective.
    """

    relation_heads: int = 12
    similarity_weight: float = 0.0

    def __post_init__(self) -> None:
        if self.relation_heads < 1:
            raise ConfigError(f"relation_heads is {self.relation_heads}; it must be at least 1")
        if not 0 <= self.similarity_weight < float("inf"):
            raise ConfigError(
                f"similarity_weight is {self.similarity_weight}; it must be 0 or more"
            )

    @property
    def embeds(self) -> bool:
        """Whether embeddings are compared."""
        return self.similarity_weight > 0

    @torch.no_grad()
    def goal(self, teacher: EncoderChain, ids: Tensor) -> Goal:
        """One pass of the teacher over ids [batch, tokens], for any number of students."""
        seen = look(teacher, ids, self.embeds)
        cosines = None if seen.embeddings is None else _cosines(seen.embeddings)
        return Goal(attention_relations(seen.vectors, self.relation_heads), cosines)

    def relation_loss(self, vectors: Vectors, goal: Goal) -> Tensor:
        """Nats, averaged over parts, texts and rows, summed over queries, keys and values."""
        return attention_relation_loss(vectors, goal.relations)

    def loss(self, seen: Seen, goal: Goal) -> Tensor:
        """The whole, differentiable."""
        found = self.relation_loss(seen.vectors, goal)
        if seen.embeddings is None or goal.cosines is None:
            return found
        apart = (_cosines(seen.embeddings) - goal.cosines).pow(2)
        pairs = max(1, len(apart) * (len(apart) - 1))  # the diagonal is zero
        return found + self.similarity_weight * apart.sum() / pairs


def look(chain: EncoderChain, ids: Tensor, embeds: bool) -> Seen:
    """Run an encoder over ids [batch, tokens] without padding, no further than needed."""
    last, context = len(chain.slots) - 2, chain.context(ids)
    state = chain.run(chain.embed_tokens(ids), context, stop=last)
    vectors = attention_vectors(chain.slot(last), state)
    assert vectors is not None
    if not embeds:
        return Seen(vectors, None)
    hidden = chain.final_hidden(chain.run(state, context, start=last))
    return Seen(vectors, chain.pool(hidden.float()))


def _cosines(embeddings: Tensor) -> Tensor:
    unit = F.normalize(embeddings.float(), dim=-1)
    return unit @ unit.T
