"""The value of knowing a loss, against drawing it."""

from __future__ import annotations

import numpy as np
import pytest

from nas.trials import Belief, value_of_knowing


@pytest.mark.parametrize("seed", range(3))
def test_the_value_is_what_a_slot_gains_on_average(seed: int) -> None:
    random = np.random.default_rng(seed)
    slot = np.repeat(np.arange(3), 4)
    center, spread = random.normal(-1, 0.5, 12), random.uniform(0.1, 0.8, 12)
    spread[[1, 6]] = 0.0
    belief = Belief(center, spread)
    priced, else_best = random.uniform(0, 0.5, 12), np.array([0.9, np.inf, 0.1])
    found = value_of_knowing(belief, priced, slot, else_best)
    for i in range(12):
        drawn = np.exp(center[i] + spread[i] * random.normal(size=200_000)) + priced[i]
        others = [belief.mean[j] + priced[j] for j in range(12) if slot[j] == slot[i] and j != i]
        rest = min([*others, else_best[slot[i]]])
        now = min(rest, belief.mean[i] + priced[i])
        expected = now - np.minimum(rest, drawn).mean()
        assert found[i] == pytest.approx(expected, abs=5e-3)
    assert found[1] == found[6] == 0.0


def test_what_cannot_be_chosen_is_worth_nothing() -> None:
    belief = Belief(np.log([1.0, 1.0]), np.array([0.2, 0.2]))
    slot = np.zeros(2, dtype=np.int64)
    found = value_of_knowing(belief, np.array([0.0, 3.0]), slot, np.array([np.inf]))
    assert found[1] == 0.0  # dearer than the other even where its own loss is 0
    assert found[0] < 1e-3
