"""An encoder of texts: the distance of their embeddings.

With embeddings e of unit length, 1 - cos = |e_teacher - e_student|^2 / 2. Its second order about
the teacher is half of |J delta|^2, J the slope of the embedding in the states, so that J' v with v
normal plays the part that gradients of sampled labels play for a KL.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from nas.objectives._base import Divergence, Objective

Pool = Callable[[Tensor], Tensor]


class EmbeddingObjective(Objective):
    """1 - cos(teacher, student) of pooled states; `pool`: [sequences, tokens, hidden] to
    [sequences, hidden]."""

    measure = "distance"

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def _unit(self, hidden: Tensor) -> Tensor:
        return F.normalize(self._pool(hidden.float()), dim=-1)

    def divergence(self, reference: Tensor) -> Divergence:
        wanted = self._unit(reference)

        @torch.no_grad()
        def measure(changed: Tensor) -> Tensor:
            # Half the squared distance: 1 - cos would drown small distances in rounding.
            return 0.5 * (self._unit(changed) - wanted).pow(2).sum(-1)

        return measure

    def goal(self, hidden: Tensor) -> Tensor:
        return self._unit(hidden)

    def loss(self, hidden: Tensor, goal: object) -> Tensor:
        assert isinstance(goal, Tensor)
        return 0.5 * (self._unit(hidden) - goal).pow(2).sum(-1).mean()

    def gradients(
        self, hidden: Tensor, goal: Tensor | None, draws: int, generator: torch.Generator
    ) -> Tensor:
        """The measure is one number a sequence; over its tokens it counts once for each."""
        tokens = hidden.shape[1]
        with torch.enable_grad():
            states = hidden.detach().float().requires_grad_()
            unit = self._unit(states)
            rows = []
            if goal is not None:
                rows.append((unit.detach() - self._unit(goal).detach()) * tokens)
            rows += [
                torch.randn(unit.shape, generator=generator, device=unit.device) * tokens**0.5
                for _ in range(draws)
            ]
            found = [torch.autograd.grad(unit, states, row, retain_graph=True)[0] for row in rows]
        return torch.stack(found)
