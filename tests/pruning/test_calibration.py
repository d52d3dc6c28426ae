"""A monotone map with intervals that hold."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from nas.pruning import Calibration, choose_calibration
from nas.pruning._calibration import _isotonic


@pytest.mark.parametrize("seed", range(5))
def test_the_steps_are_the_least_squares_ascending_fit(seed: int) -> None:
    x, y = np.arange(5.0), np.random.default_rng(seed).normal(size=5)
    centres, levels = _isotonic(x, y)
    assert (np.diff(levels) > 0).all()
    # Every ascending fit is constant between some cuts: try all of them.
    best = np.inf
    for cuts in itertools.product([0, 1], repeat=4):
        groups = np.split(y, [i + 1 for i, cut in enumerate(cuts) if cut])
        means = [g.mean() for g in groups]
        if all(a <= b for a, b in itertools.pairwise(means)):
            best = min(best, sum(((g - g.mean()) ** 2).sum() for g in groups))
    sizes = [np.abs(levels - level).argmin() for level in levels]
    assert len(sizes) == len(centres)
    fitted = np.concatenate([np.full(n, v) for n, v in _runs(y, levels)])
    assert ((y - fitted) ** 2).sum() == pytest.approx(best)


def _runs(y: np.ndarray, levels: np.ndarray) -> list[tuple[int, float]]:
    """Lengths of the steps: each level is the mean of the next stretch of `y`."""
    found, start = [], 0
    for level in levels:
        stop = next(
            j
            for j in range(start + 1, len(y) + 1)
            if np.isclose(y[start:j].mean(), level) and (j == len(y) or level != levels[-1])
        )
        found.append((stop - start, float(level)))
        start = stop
    return found


def test_unequal_proxies_are_never_tied_and_the_scale_is_learnt() -> None:
    proxy = np.geomspace(1e-4, 1.0, 24)
    found = Calibration.fit(proxy, 3 * proxy, confidence=0.9)
    grid = np.geomspace(1e-6, 1e2, 50)
    assert (np.diff(found.predict(grid)) > 0).all()
    np.testing.assert_allclose(found.predict(grid), 3 * grid, rtol=1e-6)
    assert found.factor == pytest.approx(1.0)


def test_the_interval_holds_as_often_as_it_says() -> None:
    random, held = np.random.default_rng(0), []
    for _ in range(300):
        proxy = np.exp(random.normal(size=40))
        truth = proxy * np.exp(0.3 * random.normal(size=40))
        found = Calibration.fit(proxy[:39], truth[:39], confidence=0.8)
        ratio = truth[39] / found.predict(proxy[39:])[0]
        held.append(1 / found.factor <= ratio <= found.factor)
    assert 0.74 < np.mean(held) < 0.9


def test_too_few_trials_are_refused() -> None:
    with pytest.raises(ValueError, match="4 trials"):
        Calibration.fit([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], confidence=0.8)


def test_trials_span_the_proxy_and_take_the_closest_decision_of_each_part() -> None:
    proxy, regret = np.arange(12.0), np.ones(12)
    regret[[1, 4, 11]] = 0.0
    chosen = choose_calibration(proxy, regret, 4)
    assert len(chosen) == 4
    assert {1, 4, 11} <= set(chosen)
    assert 6 <= chosen[2] <= 8
    assert choose_calibration(proxy, regret, 40) == list(range(12))
