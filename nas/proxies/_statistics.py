"""How well scores order accuracies. An undefined score (nan) ranks below all others."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Interval:
    """A statistic and the bounds of its 95 % interval."""

    value: float
    low: float
    high: float


def levels(values: ArrayLike) -> Integers:
    """0 for the lowest value, one more for each larger one; equal values share a level."""
    known = np.asarray(values, dtype=np.float64)
    _, found = np.unique(np.where(np.isnan(known), -np.inf, known), return_inverse=True)
    return found.reshape(-1).astype(np.int64)


def ranks(values: ArrayLike) -> Floats:
    """1 for the lowest value; equal values share the mean of their ranks."""
    level = levels(values)
    counts = np.bincount(level)
    return (np.cumsum(counts) - (counts - 1) / 2)[level]


def spearman(left: ArrayLike, right: ArrayLike) -> float:
    """Pearson correlation of ranks; nan where one side is constant."""
    x, y = ranks(left), ranks(right)
    x, y = x - x.mean(), y - y.mean()
    scale = math.sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / scale if scale else math.nan


def kendall(left: ArrayLike, right: ArrayLike) -> float:
    """Tau-b (Kendall, 1945) in O(n log^2 n) (Knight, 1966); nan where one side is constant."""
    x, y = levels(left), levels(right)
    order = np.lexsort((y, x))
    pairs = len(x) * (len(x) - 1) // 2
    tied_x, tied_y = _tied(x), _tied(y)
    tied_both = _tied(levels(x * (int(y.max()) + 1) + y))
    apart = pairs - tied_x - tied_y + tied_both
    scale = math.sqrt((pairs - tied_x) * (pairs - tied_y))
    return (apart - 2 * _inversions(y[order])) / scale if scale else math.nan


def _tied(level: Integers) -> int:
    counts = np.bincount(level)
    return int((counts * (counts - 1) // 2).sum())


def _inversions(values: Integers) -> int:
    """Pairs in the wrong order, by merging runs of doubling width, all at once in each round."""
    place, span = np.arange(len(values)), int(values.max()) + 1
    total, width = 0, 1
    while width < len(values):
        run = place // (2 * width)
        right = (place // width) % 2 == 1
        keys = run * span + values
        ends = np.searchsorted(keys[~right], (run[right] + 1) * span)
        total += int((ends - np.searchsorted(keys[~right], keys[right], side="right")).sum())
        values = np.sort(keys) - run * span
        width *= 2
    return total


def partial(xy: float, xz: float, yz: float) -> float:
    """Correlation of x and y with z held, for Spearman and Kendall alike (Kendall, 1942)."""
    scale = (1 - xz**2) * (1 - yz**2)
    return (xy - xz * yz) / math.sqrt(scale) if scale > 1e-12 else math.nan


@dataclass(frozen=True)
class Matched:
    """Pairs of nearly equal size, and the share that a score puts in the right order."""

    share: float
    pairs: int


def matched_pairs(
    scores: ArrayLike,
    accuracies: ArrayLike,
    sizes: ArrayLike,
    *,
    within: float = 0.1,
    groups: Sequence[Hashable] | None = None,
) -> Matched:
    """Over pairs whose larger size is at most (1 + within) times the smaller.

    Pairs of equal accuracy or of one group are left out; a tie of scores counts one half. The share
    is nan where no pair is left.
    """
    size = np.asarray(sizes, dtype=np.float64)
    order = np.argsort(size, kind="stable")
    size, score = size[order], levels(scores)[order]
    accuracy = np.asarray(accuracies, dtype=np.float64)[order]
    group = _group_numbers(groups, len(size))[order]
    ends = np.searchsorted(size, size * (1 + within), side="right")
    right, pairs = 0.0, 0
    for i, end in enumerate(ends):
        others = slice(i + 1, end)
        truth = np.sign(accuracy[others] - accuracy[i]) * (group[others] != group[i])
        guess = np.sign(score[others] - score[i])
        known = truth != 0
        right += float(((truth * guess)[known] + 1).sum()) / 2
        pairs += int(known.sum())
    return Matched(right / pairs if pairs else math.nan, pairs)


def top_regret(scores: ArrayLike, accuracies: ArrayLike, count: int) -> float:
    """The best accuracy of all less the best among the `count` with the highest scores.

    Of equal scores those with the lower accuracy come first, so luck never helps.
    """
    accuracy = np.asarray(accuracies, dtype=np.float64)
    order = np.lexsort((accuracy, -levels(scores)))
    return float(accuracy.max() - accuracy[order[:count]].max())


def bootstrap(
    statistic: Callable[[Integers], Sequence[float]],
    count: int,
    *,
    groups: Sequence[Hashable] | None = None,
    resamples: int = 500,
    seed: int = 0,
) -> tuple[Interval, ...]:
    """95 % percentile intervals of the values that `statistic` gives for a choice of rows.

    Whole groups are drawn with replacement (a cluster bootstrap; Davison and Hinkley, 1997,
    section 3.8), so that copies of one network do not count as evidence.
    """
    number = _group_numbers(groups, count)
    order = np.argsort(number, kind="stable")
    starts = np.searchsorted(number[order], np.arange(number.max() + 2))
    rows = [order[a:b] for a, b in pairwise(starts)]
    generator = np.random.default_rng(seed)
    drawn = [
        statistic(np.concatenate([rows[g] for g in generator.integers(len(rows), size=len(rows))]))
        for _ in range(resamples)
    ]
    values = statistic(np.arange(count))
    if not drawn:
        return tuple(Interval(v, math.nan, math.nan) for v in values)
    return tuple(map(_interval, values, np.asarray(drawn).T))


def _interval(value: float, drawn: Floats) -> Interval:
    known = drawn[~np.isnan(drawn)]
    if not len(known):
        return Interval(value, math.nan, math.nan)
    low, high = np.quantile(known, (0.025, 0.975))
    return Interval(value, float(low), float(high))


def split_groups(groups: Sequence[Hashable], share: float, seed: int = 0) -> NDArray[np.bool_]:
    """True for the rows of a random `share` of the groups: no group is on both sides."""
    number = _group_numbers(groups, len(groups))
    found = np.random.default_rng(seed).permutation(int(number.max()) + 1)
    chosen = found[: round(share * len(found))]
    return np.isin(number, chosen)


def _group_numbers(groups: Sequence[Hashable] | None, count: int) -> Integers:
    if groups is None:
        return np.arange(count)
    known: dict[Hashable, int] = {}
    return np.array([known.setdefault(group, len(known)) for group in groups], dtype=np.int64)
