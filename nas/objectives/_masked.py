"""An encoder that tells masked tokens: the KL of its distributions at every place.

The text has masked tokens in it. The bias of the logits is the weight of one more channel, which is
always 1, so that the code of language models, whose heads have none, serves here.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from nas.objectives._base import Divergence, Objective
from nas.objectives._head import HeadGoal, head_gradients, head_kl
from nas.objectives._kl import ReferenceKl


class MaskedLanguageObjective(Objective):
    """KL(teacher || student) in nats a token, at masked places and others.

    `read`: last states to what is multiplied with `weight` [vocab, hidden]; `bias` [vocab].
    """

    measure = "KL"

    def __init__(self, read: Callable[[Tensor], Tensor], weight: Tensor, bias: Tensor) -> None:
        self._read, self._weight, self._bias = read, weight, bias
        self._frozen: Tensor | None = None

    def divergence(self, reference: Tensor) -> Divergence:
        with torch.no_grad():
            kl = ReferenceKl(self._seen(reference), self._head())

        @torch.no_grad()
        def measure(changed: Tensor) -> Tensor:
            return kl(self._seen(changed))

        return measure

    def goal(self, hidden: Tensor, state: Tensor | None = None) -> HeadGoal:
        return HeadGoal.of(self._seen(hidden).flatten(0, 1), self._matrix())

    def loss(self, hidden: Tensor, goal: object, state: Tensor | None = None) -> Tensor:
        assert isinstance(goal, HeadGoal)
        return head_kl(self._seen(hidden).flatten(0, 1), self._matrix(), goal)

    def gradients(
        self, hidden: Tensor, goal: Tensor | None, draws: int, generator: torch.Generator
    ) -> Tensor:
        with torch.enable_grad():
            states = hidden.detach().float().requires_grad_()
            seen = self._seen(states)
            wanted = None if goal is None else self._seen(goal).detach()
            rows = head_gradients(seen.detach(), wanted, self._head(), draws, generator)
            found = [torch.autograd.grad(seen, states, row, retain_graph=True)[0] for row in rows]
        return torch.stack(found)

    def _seen(self, hidden: Tensor) -> Tensor:
        """Inputs of the head, and the channel of its bias [sequences, tokens, hidden + 1]."""
        read = self._read(hidden.float())
        return torch.cat((read, torch.ones_like(read[..., :1])), dim=-1)

    def _matrix(self) -> Tensor:
        """Weight and bias as one [vocab, hidden + 1]; made once where neither is trained."""
        if self._weight.requires_grad or self._bias.requires_grad:
            return torch.cat((self._weight, self._bias[:, None]), dim=1)
        if self._frozen is None:
            self._frozen = torch.cat((self._weight, self._bias[:, None]), dim=1)
        return self._frozen

    def _head(self) -> nn.Linear:
        matrix = self._matrix().detach()
        with torch.device("meta"):
            head = nn.Linear(matrix.shape[1], matrix.shape[0], bias=False)
        head.weight = nn.Parameter(matrix, requires_grad=False)
        return head
