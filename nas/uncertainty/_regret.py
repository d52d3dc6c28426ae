"""What each slot's choice is worth: the best answer without it."""

from __future__ import annotations

import math
from typing import NamedTuple

from nas.progress import Progress
from nas.solvers import Resolver
from nas.uncertainty._base import Ints


class Regret(NamedTuple):
    """`loss`: what the best answer without the choice loses more; inf where there is none.

    `proven` <= `loss`, and no answer without the choice loses less than that more.
    """

    loss: float
    proven: float


def regrets(resolver: Resolver, pick: Ints, progress: Progress) -> list[Regret]:
    """Of each slot of `pick`, by solving once a slot with its choice barred."""
    losses, found = resolver.losses, []
    least = float(losses[pick].sum())
    # More than any two answers differ by: an answer that still pays it has no way around it.
    bar = 1.0 + 2.0 * float(abs(losses).sum())
    with progress.task("solve without", len(pick)) as advance:
        for slot, option in enumerate(pick):
            barred = losses.copy()
            barred[option] += bar
            other = resolver.solve(barred)
            if other.pick[slot] == option:
                found.append(Regret(math.inf, math.inf))
            else:
                found.append(Regret(other.loss - least, other.bound - least))
            advance(1)
    return found
