"""Statistics against their definitions, pair by pair."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.proxies._statistics import (
    bootstrap,
    kendall,
    matched_pairs,
    partial,
    ranks,
    spearman,
    split_groups,
    top_regret,
)

Columns = st.integers(2, 25).flatmap(
    lambda n: st.tuples(*(st.lists(st.integers(-3, 3), min_size=n, max_size=n) for _ in range(2)))
)


def pairwise_tau(x: list[int], y: list[int]) -> float:
    """Tau-b as its definition has it."""
    total = left = right = 0
    for i, j in itertools.combinations(range(len(x)), 2):
        a, b = np.sign(x[i] - x[j]), np.sign(y[i] - y[j])
        total, left, right = total + a * b, left + a * a, right + b * b
    return total / math.sqrt(left * right) if left * right else math.nan


@given(Columns)
def test_kendall_is_its_definition(columns: tuple[list[int], list[int]]) -> None:
    assert kendall(*columns) == pytest.approx(pairwise_tau(*columns), abs=1e-12, nan_ok=True)


@given(Columns)
def test_ranks_are_mean_positions(columns: tuple[list[int], list[int]]) -> None:
    values = columns[0]
    below = [sum(v < w for v in values) for w in values]
    equal = [sum(v == w for v in values) for w in values]

    assert list(ranks(values)) == [b + (e + 1) / 2 for b, e in zip(below, equal, strict=True)]


def test_spearman_is_the_correlation_of_ranks() -> None:
    x, y = [3.0, 1.0, 2.0, 2.0, 9.0], [1.0, 0.0, 5.0, 4.0, 4.0]
    expected = np.corrcoef([4, 1, 2.5, 2.5, 5], [2, 1, 5, 3.5, 3.5])[0, 1]

    assert spearman(x, y) == pytest.approx(expected)
    assert math.isnan(spearman([1, 1, 1], [1, 2, 3]))


def test_kendall_of_many_values_has_no_pairs_lost() -> None:
    generator = np.random.default_rng(0)
    x = generator.integers(0, 40, 300)
    y = x + generator.integers(0, 60, 300)

    assert kendall(x, y) == pytest.approx(pairwise_tau(list(x), list(y)), abs=1e-12)


def test_an_undefined_score_ranks_last() -> None:
    assert list(ranks([math.nan, 2.0, -5.0, math.nan])) == [1.5, 4.0, 3.0, 1.5]
    assert kendall([math.nan, 1, 2], [0, 1, 2]) == 1


def test_partial_spearman_is_the_correlation_of_what_size_does_not_explain() -> None:
    generator = np.random.default_rng(1)
    size = generator.normal(size=200)
    x, y = (size + generator.normal(size=200) for _ in range(2))
    a, b, z = ranks(x), ranks(y), ranks(size)
    left = [v - np.polyval(np.polyfit(z, v, 1), z) for v in (a, b)]

    found = partial(spearman(x, y), spearman(x, size), spearman(y, size))

    assert found == pytest.approx(np.corrcoef(*left)[0, 1], abs=1e-9)
    assert math.isnan(partial(1.0, 1.0, 1.0))


def test_matched_pairs_by_hand() -> None:
    sizes = [100, 105, 112, 200, 215]
    accuracies = [1.0, 2.0, 3.0, 5.0, 4.0]
    scores = [1.0, 2.0, 2.0, 9.0, 1.0]

    # (100, 105) right, (105, 112) tied, (200, 215) right; 112 is more than a tenth above 100.
    found = matched_pairs(scores, accuracies, sizes)

    assert found.pairs == 3
    assert found.share == pytest.approx(2.5 / 3)


def test_matched_pairs_leave_copies_out() -> None:
    found = matched_pairs([1, 2, 3], [1.0, 2.0, 3.0], [10, 10, 10], groups=["a", "a", "b"])

    assert found.pairs == 2
    assert math.isnan(matched_pairs([1, 2], [1.0, 2.0], [10, 20]).share)


def test_regret_takes_the_worst_of_equal_scores_first() -> None:
    accuracies = [90.0, 94.0, 92.0, 93.0]

    assert top_regret([1, 5, 5, 5], accuracies, 1) == 2.0
    assert top_regret([1, 5, 5, 5], accuracies, 3) == 0.0
    assert top_regret([math.nan, 1, 2, 0], accuracies, 1) == 2.0


def test_bootstrap_draws_whole_groups() -> None:
    """Rows of a group appear equally often, and every drawn set has as many groups."""
    groups = ["a", "a", "b", "c", "c", "c"]
    seen = []

    def statistic(rows: np.ndarray) -> tuple[float]:
        seen.append(np.bincount(rows, minlength=6))
        return (float(len(rows)),)

    (interval,) = bootstrap(statistic, 6, groups=groups, resamples=50)

    assert all(c[0] == c[1] and c[3] == c[4] == c[5] for c in seen)
    assert all(c[0] + c[2] + c[3] == 3 for c in seen)
    assert interval.value == 6
    assert interval.low < 6 < interval.high


def test_bootstrap_interval_of_a_mean_is_the_textbook_one() -> None:
    values = np.random.default_rng(2).normal(size=400)

    (found,) = bootstrap(lambda rows: (float(values[rows].mean()),), 400, resamples=2000)

    half = 1.96 * values.std() / 20
    assert found.low == pytest.approx(values.mean() - half, abs=0.012)
    assert found.high == pytest.approx(values.mean() + half, abs=0.012)


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=40),
    st.floats(0, 1, allow_subnormal=False),
    st.integers(0, 5),
)
def test_a_split_cuts_no_group(groups: list[int], share: float, seed: int) -> None:
    side = split_groups(groups, share, seed)
    inside = {g for g, chosen in zip(groups, side, strict=True) if chosen}
    outside = {g for g, chosen in zip(groups, side, strict=True) if not chosen}

    assert not inside & outside
    assert len(inside) == round(share * len(set(groups)))
