"""Intervals of several choices, and of how much more each loses than the first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nas.ir.problem import Problem
from nas.uncertainty._base import Ints, Noise, Spread
from nas.uncertainty._interval import Interval


def compare(
    problem: Problem, choices: Sequence[Mapping[str, str]], noise: Noise, confidence: float
) -> list[tuple[Interval, Interval | None]]:
    """Of each choice the interval of its summed loss, and that of its difference from the first.

    Both take the choice as made without looking at the scores. The difference is paired: what two
    choices share, and what their blocks err by together, drops out of it. None for the first.
    """
    picks = [_pick(problem, choice) for choice in choices]
    found: list[tuple[Interval, Interval | None]] = []
    for i, pick in enumerate(picks):
        measured = Interval.around(_sum(noise, pick), noise.spread(pick), confidence)
        found.append((measured, _difference(noise, pick, picks[0], confidence) if i else None))
    return found


def _difference(noise: Noise, pick: Ints, first: Ints, confidence: float) -> Interval:
    """From the variances of both sums and of the sum of both: var(a - b) = 2 var(a) + 2 var(b) -
    var(a + b), over the slots in which they differ."""
    differs = pick != first
    one, other = pick[differs], first[differs]
    both = noise.spread(np.concatenate([one, other]))
    apart = noise.spread(one).standard_error ** 2 + noise.spread(other).standard_error ** 2
    error = max(0.0, 2 * apart - both.standard_error**2) ** 0.5
    more = _sum(noise, one) - _sum(noise, other)
    return Interval.around(more, Spread(error, both.degrees), confidence)


def _sum(noise: Noise, pick: Ints) -> float:
    return float(noise.losses[pick].sum())


def _pick(problem: Problem, choice: Mapping[str, str]) -> Ints:
    """The chosen option of every slot, counted over all slots."""
    found, begin = [], 0
    for slot, options in problem.slots.items():
        found.append(begin + [option.variant for option in options].index(choice[slot]))
        begin += len(options)
    return np.array(found, dtype=np.int64)
