"""A monotone map with intervals that hold."""

from __future__ import annotations

import numpy as np
import pytest

from nas.pruning import Calibration, choose_calibration


def test_the_line_is_that_of_least_squares_between_logarithms() -> None:
    random = np.random.default_rng(0)
    proxy, truth = np.exp(random.normal(size=20)), np.exp(random.normal(size=20) + 1)
    truth *= proxy
    found = Calibration.fit(proxy, truth, confidence=0.8)
    power, start = np.polyfit(np.log(proxy), np.log(truth), 1)
    assert (found.power, np.log(found.scale)) == pytest.approx((power, start))
    errors = []
    for i in range(20):
        others = np.arange(20) != i
        line = np.polyfit(np.log(proxy[others]), np.log(truth[others]), 1)
        errors.append(abs(np.log(truth[i]) - np.polyval(line, np.log(proxy[i]))))
    assert np.log(found.factor) == pytest.approx(np.sort(errors)[17 - 1])  # ceil(0.8 * 21)


def test_a_better_proxy_never_means_a_greater_loss() -> None:
    falling = Calibration.fit([1.0, 2.0, 3.0, 4.0], [4.0, 3.0, 2.0, 1.0], confidence=0.8)
    assert falling.power == 0.0
    proxy = np.geomspace(1e-4, 1.0, 24)
    found = Calibration.fit(proxy, 3 * proxy, confidence=0.9)
    np.testing.assert_allclose(found.predict(np.array([1e-6, 1.0])), [3e-6, 3.0], rtol=1e-6)
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
