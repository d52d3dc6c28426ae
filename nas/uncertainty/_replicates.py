"""The whole solve repeated on losses drawn anew."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nas.progress import Progress
from nas.solvers import Resolver
from nas.uncertainty._base import Floats, Ints, Noise


@dataclass(frozen=True)
class Replicates:
    """`picks` [replicates, slots]: the best choice of each draw.

    `optimism` [replicates]: how much better a winner looks on the draw that chose it than on the
    losses that the draw was made from; its mean estimates the same of the real winner.
    """

    picks: Ints
    optimism: Floats

    def shares(self, options: int) -> Floats:
        """The share of replicates that hold each option: [options]."""
        return np.bincount(self.picks.ravel(), minlength=options) / len(self.picks)


def replicate(
    resolver: Resolver,
    pick: Ints,
    noise: Noise,
    count: int,
    seed: int,
    progress: Progress,
) -> Replicates:
    """Solve `count` draws of `noise`; `pick` is the optimum under the losses that were measured.

    The optimism of a draw (Efron, JASA 1983) is `measured(winner) - drawn(winner)`. Added to it is
    `drawn(pick) - measured(pick)`, which is 0 on average and takes most of the variance away:
    what is left is how much the two choices lose by each other's losses, and never negative.
    """
    # Few sequences have few distinct draws: each is solved once.
    draws, times = np.unique(
        noise.draws(count, np.random.default_rng(seed)), axis=0, return_counts=True
    )
    picks, optimism = [], []
    with progress.task("solve again", len(draws)) as advance:
        for drawn in draws:
            found = resolver.solve(drawn)
            gained = drawn - noise.losses
            picks.append(found.pick)
            optimism.append(float(gained[pick].sum() - gained[found.pick].sum()))
            advance(1)
    return Replicates(np.repeat(picks, times, axis=0), np.repeat(optimism, times))
