"""From a proxy to the loss of the trained block, with an interval, by a handful of real trials."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
_TINY = 1e-12


@dataclass(frozen=True)
class Calibration:
    """loss = scale * proxy ** power, and the factor that its errors stay within.

    The least-squares line between logarithms, its slope not below zero: a step function through two
    dozen noisy trials (isotonic regression) ranks worse. `factor` is the quantile of the errors
    that the line of all other trials makes of each one, at the confidence asked for (jackknife+,
    arXiv 1905.02928), for candidates like the trials.
    """

    scale: float
    power: float
    factor: float

    @classmethod
    def fit(cls, proxy: Sequence[float], truth: Sequence[float], confidence: float) -> Calibration:
        """`proxy` and `truth`: one positive number a trial; at least 4 trials, or ValueError."""
        if len(proxy) != len(truth) or len(proxy) < 4:
            raise ValueError(f"a calibration needs 4 trials or more, got {len(proxy)}")
        x, y = _log(np.asarray(proxy)), _log(np.asarray(truth))
        errors = np.sort([_left_out(x, y, i) for i in range(len(x))])
        rank = math.ceil((len(errors) + 1) * confidence)
        start, power = _line(x, y)
        # Too few trials for this confidence: the largest error is all there is to go by.
        factor = math.exp(errors[min(rank, len(errors)) - 1])
        return cls(scale=math.exp(start), power=power, factor=factor)

    def predict(self, proxy: Floats) -> Floats:
        """The loss to expect of each."""
        return np.asarray(self.scale * np.exp(self.power * _log(proxy)))


def choose_calibration(proxy: Floats, regret: Floats, count: int) -> list[int]:
    """Indices of `count` trials: spread over the proxy's range, each where the choice is closest.

    The candidates are cut into `count` groups of neighbouring proxies; the one of the least
    `regret` teaches most of a group, for the verdict on it hangs on its loss.
    """
    order = np.argsort(proxy, kind="stable")
    groups = np.array_split(order, min(count, len(order)))
    return sorted(int(group[np.argmin(regret[group])]) for group in groups if len(group))


def _line(x: Floats, y: Floats) -> tuple[float, float]:
    """Start and slope of the least-squares line that does not fall."""
    spread = float(((x - x.mean()) ** 2).sum())
    covariance = float(((x - x.mean()) * (y - y.mean())).sum())
    slope = max(0.0, covariance / spread) if spread > 0 else 0.0
    return float(y.mean() - slope * x.mean()), slope


def _left_out(x: Floats, y: Floats, i: int) -> float:
    """How far trial i is from the line of the others."""
    start, slope = _line(np.delete(x, i), np.delete(y, i))
    return abs(float(y[i] - start - slope * x[i]))


def _log(values: Floats) -> Floats:
    return np.asarray(np.log(np.maximum(values, _TINY)))
