"""A network that predicts: the KL of its distributions, over next tokens or over classes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas.objectives._base import Divergence, Objective
from nas.objectives._head import HeadGoal, head_gradients, head_kl
from nas.objectives._kl import ReferenceKl


class LanguageObjective(Objective):
    """KL(teacher || student) in nats a token, or a picture; `head`: hidden to vocabulary or
    classes, without a bias."""

    measure = "KL"

    def __init__(self, head: nn.Linear) -> None:
        self._head = head

    def divergence(self, reference: Tensor) -> Divergence:
        return ReferenceKl(reference, self._head)

    def goal(self, hidden: Tensor, state: Tensor | None = None) -> object:
        return HeadGoal.of(hidden.flatten(0, 1), self._head.weight)

    def loss(self, hidden: Tensor, goal: object, state: Tensor | None = None) -> Tensor:
        assert isinstance(goal, HeadGoal)
        return head_kl(hidden.flatten(0, 1), self._head.weight, goal)

    def gradients(
        self, hidden: Tensor, goal: Tensor | None, draws: int, generator: torch.Generator
    ) -> Tensor:
        return head_gradients(hidden, goal, self._head, draws, generator)
