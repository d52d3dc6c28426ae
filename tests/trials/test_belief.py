"""What the trials say of the others, against the normal distribution written out."""

from __future__ import annotations

import numpy as np

from nas.trials import believe
from nas.trials._belief import _LEVEL, _TILT, _deviations, _equal


def _library(slots: int = 12, labels: int = 6) -> tuple[list[str], list[str]]:
    return (
        [f"s{s}" for s in range(slots) for _ in range(labels)],
        [f"v{v}" for _ in range(slots) for v in range(labels)],
    )


def _losses(seed: int, slot: float, label: float, rest: float) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    ratio = np.repeat(random.normal(0, slot, 12), 6) + np.tile(random.normal(0, label, 6), 12)
    proxy = np.exp(random.normal(-3, 1, 72))
    return proxy, proxy * np.exp(ratio + rest * random.normal(size=72))


def test_the_belief_is_the_conditional_normal_distribution() -> None:
    slots, labels = _library()
    proxy, loss = _losses(0, 0.3, 0.1, 0.2)
    known = {i: float(loss[i]) for i in (0, 3, 7, 20, 41, 42, 60)}
    found = believe(proxy, slots, labels, known)
    x = np.log(proxy)
    tilt = x - x.mean()
    tried = np.array(sorted(known))
    y = np.log(loss[tried]) - x[tried]
    same = [_equal(names, np.arange(72)) for names in (slots, labels)]
    here = [s[np.ix_(tried, tried)] for s in same]
    shared = _LEVEL**2 + _TILT**2 * np.outer(tilt, tilt)
    a, b, c = _deviations(shared[np.ix_(tried, tried)], here, y)
    joint = shared + a**2 * same[0] + b**2 * same[1] + c**2 * np.eye(72)
    weights = joint[:, tried] @ np.linalg.inv(joint[np.ix_(tried, tried)])
    mean, covariance = x + weights @ y, joint - weights @ joint[tried]
    others = np.setdiff1d(np.arange(72), tried)
    np.testing.assert_allclose(found.center[others], mean[others], rtol=1e-9)
    np.testing.assert_allclose(found.spread[others] ** 2, np.diag(covariance)[others], rtol=1e-8)
    np.testing.assert_allclose(found.mean[tried], loss[tried])
    assert not found.spread[tried].any()


def test_the_likeliest_deviations_are_near_those_that_made_the_losses() -> None:
    slots, labels = _library()
    everyone = np.arange(72)
    same = [_equal(names, everyone) for names in (slots, labels)]
    for deviations in ((0.4, 0.04, 0.1), (0.05, 0.3, 0.1), (0.05, 0.04, 0.5)):
        proxy, loss = _losses(3, *deviations)
        found = _deviations(np.full((72, 72), 0.09), same, np.log(loss / proxy))
        assert int(np.argmax(found)) == int(np.argmax(deviations))


def test_trials_of_a_slot_speak_for_it_and_little_for_others() -> None:
    slots, labels = _library()
    proxy, _ = _losses(0, 0.0, 0.0, 0.0)
    known = {i: float(2 * proxy[i]) for i in (0, 1, 2)}  # all of slot s0
    known |= {i: float(proxy[i]) for i in (6, 13, 20, 27, 34, 41)}  # one of each of six others
    found = believe(proxy, slots, labels, known)
    ratio = np.exp(found.center) / proxy
    assert ratio[3:6].min() > 1.3 > 1.2 > ratio[66:].max()
    assert found.spread[3:6].max() < found.spread[66:].min()


def test_the_belief_errs_less_than_the_proxy_and_knows_by_how_much() -> None:
    slots, labels = _library()
    raw, left, relative = [], [], []
    for seed in range(30):
        proxy, loss = _losses(seed, 0.3, 0.15, 0.2)
        tried = np.random.default_rng(1000 + seed).choice(72, 24, replace=False)
        found = believe(proxy, slots, labels, {int(i): float(loss[i]) for i in tried})
        others = np.setdiff1d(np.arange(72), tried)
        errors = (np.log(loss) - found.center)[others]
        raw.append(np.std(np.log(loss / proxy)[others]))
        left.append(np.std(errors))
        relative.append(np.sqrt(np.mean(np.square(errors / found.spread[others]))))
    assert np.mean(left) < 0.85 * np.mean(raw)
    assert 0.85 < np.mean(relative) < 1.2


def test_without_trials_the_proxy_is_believed_with_a_wide_spread() -> None:
    slots, labels = _library()
    proxy, _ = _losses(0, 0.1, 0.1, 0.1)
    found = believe(proxy, slots, labels, {})
    np.testing.assert_allclose(np.exp(found.center), proxy)
    assert found.spread.min() > 0.3
    np.testing.assert_allclose(found.quantile(1.0), np.exp(found.center + found.spread))
