"""Proxies of unlike scales on one scale: where each architecture stands among the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def shares(values: Sequence[float]) -> Floats:
    """For each value the share of the others that it beats, ties counting half; NaN beats none."""
    array = np.asarray(values, dtype=np.float64)
    if len(array) < 2:
        return np.ones(len(array))
    array = np.where(np.isnan(array), -np.inf, array)
    ordered = np.sort(array)
    below = np.searchsorted(ordered, array, side="left")
    upto = np.searchsorted(ordered, array, side="right")
    beaten: Floats = (below + upto - 1) / 2 / (len(array) - 1)
    return beaten


def combined(columns: Mapping[str, Sequence[float]]) -> Floats:
    """The mean of the shares over all columns: raw sums would follow the widest scale."""
    return np.mean([shares(values) for values in columns.values()], axis=0)


def spearman(left: Sequence[float], right: Sequence[float]) -> float | None:
    """Rank correlation, ties averaged; None where one side is constant."""
    a, b = shares(left), shares(right)
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(np.corrcoef(a, b)[0, 1])
