"""How good a subnet is, without training it: the two searches of AutoDistil.

Agnostic: the loss by which it was trained, on held-out text. Proxy: one task; for encoders whose
use is an embedding, the order of the similarities of given pairs of texts.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from nas._numerics import autocast
from nas.chain import EncoderChain
from nas.errors import ConfigError
from nas.evaluation._embedding import pair_similarities, text_embedder
from nas.proxies import spearman
from nas.supernet._objective import RelationObjective, look


class Judge(ABC):
    """Higher is better; no judge looks at labels or at the text that was trained on."""

    name: ClassVar[str]

    @abstractmethod
    def score(self, chain: EncoderChain) -> float:
        """Of a student of any width."""


class Agnostic(Judge):
    """Minus the held-out loss, on windows [n, tokens]."""

    name: ClassVar[str] = "agnostic"

    def __init__(
        self,
        teacher: EncoderChain,
        windows: Tensor,
        objective: RelationObjective,
        batch: int = 16,
    ) -> None:
        if not len(windows):
            raise ConfigError("no held-out text to judge by; give more text")
        self._objective, self._batches = objective, windows.to(teacher.device).split(batch)
        with autocast(teacher.device.type):
            self._goals = [objective.goal(teacher, ids) for ids in self._batches]

    @torch.no_grad()
    def loss(self, chain: EncoderChain) -> float:
        """Mean over windows."""
        total, windows = 0.0, 0
        for ids, goal in zip(self._batches, self._goals, strict=True):
            with autocast(ids.device.type):
                seen = look(chain, ids, self._objective.embeds)
            total += len(ids) * float(self._objective.loss(seen, goal))
            windows += len(ids)
        return total / windows

    def score(self, chain: EncoderChain) -> float:
        return -self.loss(chain)


class ProxyTask(Judge):
    """Spearman of the cosines of pairs of texts with the teacher's."""

    name: ClassVar[str] = "pairs"

    def __init__(
        self, teacher: EncoderChain, tokenizer: Any, pairs: Sequence[tuple[str, str]]
    ) -> None:
        self._tokenizer, self._pairs = tokenizer, pairs
        self._wanted = pair_similarities(text_embedder(teacher, tokenizer), pairs)

    def score(self, chain: EncoderChain) -> float:
        embed: Callable[[Sequence[str]], Tensor] = text_embedder(chain, self._tokenizer)
        return spearman(self._wanted, pair_similarities(embed, self._pairs))


@torch.no_grad()
def window_embeddings(chain: EncoderChain, windows: Tensor, batch: int = 32) -> Tensor:
    """Embeddings [n, hidden] of windows [n, tokens] without padding."""
    pieces = windows.to(chain.device).split(batch)
    return torch.cat([chain.pool(chain(ids).float()).cpu() for ids in pieces])


def similarity_agreement(teacher: Tensor, student: Tensor) -> float:
    """Spearman of the cosines of all pairs; embeddings [n, hidden] of the same texts, whose widths
    may differ."""
    above = torch.triu_indices(len(teacher), len(teacher), 1)
    cosines = []
    for embeddings in (teacher, student):
        unit = torch.nn.functional.normalize(embeddings.double(), dim=-1)
        cosines.append((unit @ unit.T)[above[0], above[1]].numpy())
    return spearman(*cosines)
