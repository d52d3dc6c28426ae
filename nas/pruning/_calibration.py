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
    """A monotone map between logarithms, and the factor that its errors stay within.

    The map is the isotonic regression of one half of the trials (pool adjacent violators, Ayer et
    al. 1955), straight between the centres of its steps and of slope 1 beyond them, so that unequal
    proxies are never tied. `factor` is the split-conformal quantile of the other half's errors
    (Lei et al., arXiv 1604.04173): truth within a factor of the prediction, at the confidence asked
    for, for candidates like the trials.
    """

    log_proxy: Floats
    log_truth: Floats
    factor: float

    @classmethod
    def fit(cls, proxy: Sequence[float], truth: Sequence[float], confidence: float) -> Calibration:
        """`proxy` and `truth`: one positive number a trial; at least 4 trials, or ValueError."""
        if len(proxy) != len(truth) or len(proxy) < 4:
            raise ValueError(f"a calibration needs 4 trials or more, got {len(proxy)}")
        order = np.argsort(proxy, kind="stable")
        x, y = _log(np.asarray(proxy)[order]), _log(np.asarray(truth)[order])
        centres = _isotonic(x[::2], y[::2])
        fitted = cls(*centres, factor=1.0)
        errors = np.sort(np.abs(y[1::2] - fitted._at(x[1::2])))
        rank = math.ceil((len(errors) + 1) * confidence)
        # Too few trials for this confidence: the largest error is all there is to go by.
        return cls(*centres, factor=math.exp(errors[min(rank, len(errors)) - 1]))

    def predict(self, proxy: Floats) -> Floats:
        """The loss to expect of each."""
        return np.asarray(np.exp(self._at(_log(proxy))))

    def _at(self, x: Floats) -> Floats:
        first, last = self.log_proxy[0], self.log_proxy[-1]
        beyond = np.minimum(x - first, 0.0) + np.maximum(x - last, 0.0)
        return np.asarray(np.interp(x, self.log_proxy, self.log_truth) + beyond)


def choose_calibration(proxy: Floats, regret: Floats, count: int) -> list[int]:
    """Indices of `count` trials: spread over the proxy's range, each where the choice is closest.

    The candidates are cut into `count` groups of neighbouring proxies; the one of the least
    `regret` teaches most of a group, for the verdict on it hangs on its loss.
    """
    order = np.argsort(proxy, kind="stable")
    groups = np.array_split(order, min(count, len(order)))
    return sorted(int(group[np.argmin(regret[group])]) for group in groups if len(group))


def _isotonic(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Centres of the steps of the least-squares ascending fit of `y` over the ascending `x`."""
    steps: list[tuple[float, float, int]] = []
    for xi, yi in zip(x, y, strict=True):
        steps.append((float(xi), float(yi), 1))
        while len(steps) > 1 and steps[-2][1] >= steps[-1][1]:
            (x0, y0, n0), (x1, y1, n1) = steps[-2:]
            n = n0 + n1
            steps[-2:] = [((n0 * x0 + n1 * x1) / n, (n0 * y0 + n1 * y1) / n, n)]
    return np.array([s[0] for s in steps]), np.array([s[1] for s in steps])


def _log(values: Floats) -> Floats:
    return np.asarray(np.log(np.maximum(values, _TINY)))
