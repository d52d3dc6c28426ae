"""What it is worth to know a candidate's loss: how much better a slot could then choose."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.trials._belief import Belief

Floats = NDArray[np.floating[Any]]


def value_of_knowing(
    belief: Belief, priced: Floats, slot: NDArray[np.int64], else_best: Floats
) -> Floats:
    """Nats that the slot of each candidate is expected to gain if its loss were known.

    `priced` [candidates]: what each costs at the budgets' prices; `slot` [candidates]; `else_best`
    [slots]: loss and price of the slot's best option whose loss is known anyway. The others keep
    their expected losses, so this is the value of one perfect measurement (the knowledge gradient;
    Frazier, Powell and Dayanik 2008). A choice that turns out dearer is left for the second best;
    another one takes its place where it turns out cheaper. 0 for what is known.
    """
    total = belief.mean + priced
    first, second = _two_least(total, slot, else_best)
    chosen = total <= first[slot]
    rival = np.where(chosen, second[slot], first[slot]) - priced
    put = _expected_shortfall(belief, rival)
    # E[(X - K)+] = E[(K - X)+] + E[X] - K
    value = np.where(chosen, put + belief.mean - rival, put)
    return np.where(belief.spread > 0, np.maximum(value, 0.0), 0.0)


def _two_least(total: Floats, slot: NDArray[np.int64], else_best: Floats) -> tuple[Floats, Floats]:
    """The least and the second least total of each slot [slots]."""
    first, second = else_best.copy(), np.full(len(else_best), np.inf)
    for value, s in zip(total.tolist(), slot.tolist(), strict=True):
        if value < first[s]:
            first[s], second[s] = value, first[s]
        elif value < second[s]:
            second[s] = value
    return first, second


def _expected_shortfall(belief: Belief, limit: Floats) -> Floats:
    """E[(limit - X)+] of lognormal losses X (Black and Scholes 1973, a put at rate 0)."""
    spread = np.where(belief.spread > 0, belief.spread, 1.0)
    positive = np.maximum(limit, 1e-300)
    d = (np.log(positive) - belief.center) / spread
    found = positive * _normal(d) - belief.mean * _normal(d - spread)
    return np.where(limit > 0, np.maximum(found, 0.0), 0.0)


def _normal(deviations: Floats) -> Floats:
    """The share of a normal distribution below so many deviations."""
    return np.array([0.5 * math.erfc(-d / math.sqrt(2)) for d in deviations.tolist()])
