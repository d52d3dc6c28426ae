"""How much of the teacher's accuracy a student keeps, with an interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_RESAMPLES = 10_000


@dataclass(frozen=True)
class Retained:
    """Student's accuracy over the teacher's; `low` to `high` is the 95 % interval."""

    ratio: float
    low: float
    high: float


def accuracy_retained(
    teacher: Sequence[bool], student: Sequence[bool], seed: int = 0
) -> Retained | None:
    """Ratio of accuracies on the same items with a paired percentile bootstrap.

    Items are drawn anew with replacement, and both models are judged on the same draw (Efron and
    Tibshirani, 1993, chapter 13). A draw is determined by how many items of each of the four
    outcomes it holds, so the counts are drawn directly. None where the teacher is never right.
    """
    right, kept = np.asarray(teacher, dtype=bool), np.asarray(student, dtype=bool)
    if not right.any():
        return None
    outcomes = np.array(
        [(right & kept).sum(), (right & ~kept).sum(), (~right & kept).sum(), (~right & ~kept).sum()]
    )
    draws = np.random.default_rng(seed).multinomial(
        len(right), outcomes / len(right), size=_RESAMPLES
    )
    draws = draws[draws[:, 0] + draws[:, 1] > 0]
    ratios = (draws[:, 0] + draws[:, 2]) / (draws[:, 0] + draws[:, 1])
    low, high = np.quantile(ratios, [0.025, 0.975])
    return Retained(float(kept.sum() / right.sum()), float(low), float(high))
