"""From proxies and a few real losses to what to believe of every candidate's loss."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
_TINY = 1e-12
_LEVEL, _TILT = 0.3, 0.2
"""Deviations of what all candidates share: a factor, and a power of the proxy."""
_USUAL = (0.2, 0.15, 0.25)
"""Deviations of slot, label and rest: where the search for them starts, and what it leans to."""
_GRID = (0.25, 0.5, 1.0, 2.0)
_LEAN = 0.7


@dataclass(frozen=True)
class Belief:
    """Losses as lognormal: `center` and `spread` [candidates] of the logarithm; known ones have
    spread 0."""

    center: Floats
    spread: Floats

    @property
    def mean(self) -> Floats:
        """The loss to expect of each: what a choice by expected loss should sum."""
        return np.asarray(np.exp(self.center + 0.5 * np.square(self.spread)))

    def quantile(self, deviations: float) -> Floats:
        """The loss so many standard deviations from the middle."""
        return np.asarray(np.exp(self.center + deviations * self.spread))


def believe(
    proxy: Floats, slots: Sequence[str], labels: Sequence[str], known: Mapping[int, float]
) -> Belief:
    """What to believe of each candidate [candidates] given the real losses of some, by index.

    log(loss / proxy) = level + tilt * log(proxy) + slot + label + rest, all normal: the best linear
    unbiased prediction of a mixed model (Henderson 1975, Biometrics 31), so that the ratio seen in
    a slot is shrunk by what its few trials can say of it. The deviations of slot, label and rest
    are the likeliest on a grid about what they usually are.
    """
    x = np.log(np.maximum(np.asarray(proxy, dtype=np.float64), _TINY))
    tried = np.array(sorted(known), dtype=np.int64)
    loss = np.log(np.maximum(np.array([known[int(i)] for i in tried]), _TINY))
    tilt = x - x.mean()
    same = (_equal(slots, tried), _equal(labels, tried))
    shared = _LEVEL**2 + _TILT**2 * np.outer(tilt, tilt[tried])
    ratio = loss - x[tried]
    slot, label, rest = _deviations(shared[tried], [s[tried] for s in same], ratio)
    covariance = shared + slot**2 * same[0] + label**2 * same[1]
    inner = covariance[tried] + rest**2 * np.eye(len(tried))
    prior = _LEVEL**2 + (_TILT * tilt) ** 2 + slot**2 + label**2 + rest**2
    center, variance = x.copy(), prior
    if len(tried):
        solved = np.linalg.solve(inner, np.column_stack([ratio, covariance.T]))
        center = x + covariance @ solved[:, 0]
        variance = prior - np.einsum("ct,tc->c", covariance, solved[:, 1:])
    center[tried] = loss
    spread = np.sqrt(np.maximum(variance, 0.0))
    spread[tried] = 0.0
    return Belief(center, spread)


def _equal(names: Sequence[str], tried: NDArray[np.int64]) -> Floats:
    """1 where candidate and trial bear the same name [candidates, trials]."""
    number = np.unique(np.asarray(names, dtype=str), return_inverse=True)[1]
    return np.asarray(number[:, None] == number[None, tried], dtype=np.float64)


def _deviations(
    shared: Floats, same: Sequence[Floats], ratio: Floats
) -> tuple[float, float, float]:
    """The likeliest deviations of slot, label and rest, leaning to the usual ones."""
    if not len(ratio):
        return _USUAL
    best, found = -math.inf, _USUAL
    for scales in itertools.product(_GRID, repeat=3):
        slot, label, rest = (u * s for u, s in zip(_USUAL, scales, strict=True))
        inner = shared + slot**2 * same[0] + label**2 * same[1] + rest**2 * np.eye(len(ratio))
        size = float(np.linalg.slogdet(inner)[1])
        likelihood = -0.5 * (float(ratio @ np.linalg.solve(inner, ratio)) + size)
        leaning = sum((math.log(s) / _LEAN) ** 2 for s in scales) / 2
        if likelihood - leaning > best:
            best, found = likelihood - leaning, (slot, label, rest)
    return found
