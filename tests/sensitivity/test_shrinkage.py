"""Shrunk products against what many samples say."""

from __future__ import annotations

import numpy as np

from nas.sensitivity._shrinkage import shrunk_products


def test_few_samples_are_shrunk_towards_the_truth() -> None:
    random = np.random.default_rng(0)
    mixing = random.standard_normal((30, 30)) * 0.1 + np.eye(30)
    truth = mixing @ mixing.T
    samples = random.standard_normal((40, 30)) @ mixing.T
    shrunk, share = shrunk_products(samples, range(30))
    plain = samples.T @ samples / 40
    off = ~np.eye(30, dtype=bool)
    assert 0.1 < share < 0.9
    assert np.square((shrunk - truth)[off]).sum() < 0.8 * np.square((plain - truth)[off]).sum()
    np.testing.assert_allclose(np.diagonal(shrunk), np.diagonal(plain))


def test_many_samples_are_left_alone() -> None:
    random = np.random.default_rng(0)
    mixing = random.standard_normal((5, 5))
    _, share = shrunk_products(random.standard_normal((20000, 5)) @ mixing.T, range(5))
    assert share < 0.01


def test_what_a_group_shares_is_neither_shrunk_nor_counted() -> None:
    random = np.random.default_rng(0)
    one = random.standard_normal((30, 1)) + 0.01 * random.standard_normal((30, 4))
    other = random.standard_normal((30, 1)) + 0.01 * random.standard_normal((30, 4))
    samples, groups = np.hstack((one, other)), ["a"] * 4 + ["b"] * 4
    shrunk, share = shrunk_products(samples, groups)
    assert share > 0.5, "the two groups have nothing in common but noise"
    np.testing.assert_allclose(shrunk[:4, :4], one.T @ one / 30)
    assert np.abs(shrunk[:4, 4:]).max() < 0.5 * np.abs(one.T @ other / 30).max()


def test_one_sample_says_nothing_about_pairs() -> None:
    shrunk, share = shrunk_products(np.array([[1.0, 2.0]]), ["a", "b"])
    assert share == 1
    np.testing.assert_array_equal(shrunk, np.diag([1.0, 4.0]))
