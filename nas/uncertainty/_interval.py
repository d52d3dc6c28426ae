"""Two-sided intervals by Student's t."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Self

import numpy as np
from pydantic import BaseModel, ConfigDict

from nas.uncertainty._base import Spread

_ANGLES = 20_001


class Interval(BaseModel):
    """An estimate and the interval `low` to `high` around it, in the unit of the losses."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    estimate: float
    low: float
    high: float

    @classmethod
    def around(cls, estimate: float, spread: Spread, confidence: float) -> Self:
        """`estimate` -+ the t quantile times the standard error."""
        reach = student_quantile(confidence, spread.degrees) * spread.standard_error
        return cls(estimate=estimate, low=estimate - reach, high=estimate + reach)

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high


def student_quantile(confidence: float, degrees: float) -> float:
    """The t that holds `confidence` of Student's distribution between -t and t.

    With t = sqrt(degrees) tan(angle) the density of the angle is cos(angle)^(degrees - 1), which is
    summed by trapezoids; the error is below 1e-6 for confidences up to 0.999.
    """
    if math.isinf(degrees):
        return NormalDist().inv_cdf(0.5 + confidence / 2)
    angles = np.linspace(0.0, math.pi / 2, _ANGLES)
    density = np.cos(angles) ** (degrees - 1)
    mass = np.concatenate([[0.0], np.cumsum(density[1:] + density[:-1])])
    angle = float(np.interp(confidence * mass[-1], mass, angles))
    return math.sqrt(degrees) * math.tan(angle)
