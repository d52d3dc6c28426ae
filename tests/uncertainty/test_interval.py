"""Intervals are those of Student's t."""

from __future__ import annotations

import math

import pytest

from nas.uncertainty import Interval, Spread, student_quantile


@pytest.mark.parametrize(
    ("confidence", "degrees", "quantile"),
    [
        (0.9, 1, 6.313752),
        (0.95, 2, 4.302653),
        (0.9, 7, 1.894579),
        (0.99, 30, 2.749996),
        (0.999, 1, 636.6193),
        (0.95, math.inf, 1.959964),
    ],
)
def test_quantiles_are_those_of_the_tables(
    confidence: float, degrees: float, quantile: float
) -> None:
    assert student_quantile(confidence, degrees) == pytest.approx(quantile, rel=1e-4)


def test_an_interval_reaches_as_far_to_both_sides() -> None:
    interval = Interval.around(1.0, Spread(standard_error=0.1, degrees=math.inf), 0.95)

    assert (interval.low, interval.high) == pytest.approx((0.8040036, 1.1959964))
    assert interval.holds(1.19)
    assert not interval.holds(1.2)
