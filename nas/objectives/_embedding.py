"""An encoder of texts or pictures: the distance of their embeddings, and of their similarities.

With embeddings e of unit length, 1 - cos = |d|^2 / 2, d = e_student - e_teacher. What they are
for is similarities, though, and an error counts there by its direction: the similarity of a
text with another, whose embedding is t, changes by d . t. Its mean square over other texts is
d' S d, S = E[t t'], the second moments of the teacher's embeddings: the one-sided form of comparing
similarity matrices (Park et al. 2019, arXiv 1904.05068), with the teacher's own embeddings on the
other side, so that it is a number of each text and of second order. Both terms are half of
|d M|^2 for one matrix M, the metric.

The second order of the measure about the teacher is half of |M J delta|^2, J the slope of the
embedding in the states, so that J' M' v with v normal plays the part that gradients of sampled
labels play for a KL.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from nas.objectives._base import Divergence, Objective

Pool = Callable[[Tensor], Tensor]

_LEAST_VARIANCE = 1e-6
"""Of similarities; below it all texts are alike, and rounding would be magnified."""


class EmbeddingObjective(Objective):
    """1 - cos(teacher, student) of pooled states; `pool`: [sequences, tokens, hidden] to
    [sequences, hidden].

    With a `metric` [hidden, hidden], half the squared length of the error times it: see
    `similarity_metric`.
    """

    measure = "distance"

    def __init__(self, pool: Pool, metric: Tensor | None = None) -> None:
        self._pool, self.metric = pool, metric

    def _seen(self, hidden: Tensor) -> Tensor:
        """Embeddings as the measure sees them [sequences, hidden]."""
        unit = F.normalize(self._pool(hidden.float()), dim=-1)
        return unit if self.metric is None else unit @ self.metric.to(unit.device)

    def divergence(self, reference: Tensor) -> Divergence:
        wanted = self._seen(reference)

        @torch.no_grad()
        def measure(changed: Tensor) -> Tensor:
            # Half the squared distance: 1 - cos would drown small distances in rounding.
            return 0.5 * (self._seen(changed) - wanted).pow(2).sum(-1)

        return measure

    def goal(self, hidden: Tensor, state: Tensor | None = None) -> Tensor:
        return self._seen(hidden)

    def loss(self, hidden: Tensor, goal: object, state: Tensor | None = None) -> Tensor:
        assert isinstance(goal, Tensor)
        return 0.5 * (self._seen(hidden) - goal).pow(2).sum(-1).mean()

    def gradients(
        self, hidden: Tensor, goal: Tensor | None, draws: int, generator: torch.Generator
    ) -> Tensor:
        """The measure is one number a sequence; over its tokens it counts once for each."""
        tokens = hidden.shape[1]
        with torch.enable_grad():
            states = hidden.detach().float().requires_grad_()
            seen = self._seen(states)
            rows = []
            if goal is not None:
                rows.append((seen.detach() - self._seen(goal).detach()) * tokens)
            rows += [
                torch.randn(seen.shape, generator=generator, device=seen.device) * tokens**0.5
                for _ in range(draws)
            ]
            found = [torch.autograd.grad(seen, states, row, retain_graph=True)[0] for row in rows]
        return torch.stack(found)


@torch.no_grad()
def similarity_metric(embeddings: Tensor, weight: float) -> Tensor:
    """The symmetric M [hidden, hidden] with |d M|^2 / 2 = |d|^2 / 2 + weight * d' S d / v.

    `embeddings` [texts, hidden]: the teacher's, of at least two texts; S: their second moments at
    unit length; v: the variance of their similarities. The second term is the squared error of a
    text's similarities over their variance. All texts of a student have such an error, which
    enters a similarity from both sides: the mean of the term is about one less the correlation of
    its similarities with the teacher's.
    """
    unit = F.normalize(embeddings.double(), dim=-1)
    second = unit.T @ unit / len(unit)
    wanted = torch.eye(len(second), dtype=second.dtype, device=second.device)
    wanted += 2 * weight / _similarity_variance(unit) * second
    values, vectors = torch.linalg.eigh(wanted)
    root: Tensor = (vectors * values.sqrt()) @ vectors.T
    return root.float()


def _similarity_variance(unit: Tensor) -> float:
    """Of the similarities of all pairs of different texts."""
    above = torch.triu_indices(len(unit), len(unit), 1)
    similarities = (unit @ unit.T)[above[0], above[1]]
    return max(float(similarities.var(correction=0)), _LEAST_VARIANCE)
