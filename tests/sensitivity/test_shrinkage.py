"""Shrunk products against what many samples say."""

from __future__ import annotations

import numpy as np

from nas.sensitivity._shrinkage import shrunk_products


def test_few_samples_are_shrunk_towards_the_truth() -> None:
    random = np.random.default_rng(0)
    mixing = random.standard_normal((30, 30)) * 0.1 + np.eye(30)
    truth = mixing @ mixing.T
    samples = random.standard_normal((40, 30)) @ mixing.T
    shrunk, share = shrunk_products(samples)
    plain = samples.T @ samples / 40
    off = ~np.eye(30, dtype=bool)
    assert 0.1 < share < 0.9
    assert np.square((shrunk - truth)[off]).sum() < 0.8 * np.square((plain - truth)[off]).sum()
    np.testing.assert_allclose(np.diagonal(shrunk), np.diagonal(plain))


def test_many_samples_are_left_alone() -> None:
    random = np.random.default_rng(0)
    mixing = random.standard_normal((5, 5))
    _, share = shrunk_products(random.standard_normal((20000, 5)) @ mixing.T)
    assert share < 0.01
