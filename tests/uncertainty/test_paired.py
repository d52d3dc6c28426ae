"""Intervals of several choices are paired: what they share drops out of their difference."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nas.uncertainty import RelativeNoise, SequenceNoise, compare, student_quantile
from tests.uncertainty.scored import scored

FIRST, OTHER, CHANGED = ["v1"] * 6, ["v1"] * 4 + ["v2", "v3"], (4, 5)


def test_the_difference_is_that_of_the_sums_of_single_sequences() -> None:
    problem, scores = scored(7)
    choices = [dict(zip(problem.slots, names, strict=True)) for names in (FIRST, OTHER)]
    nothing = np.zeros(7)
    sums = [
        np.sum([scores.get(f"{s}/{v}", nothing) for s, v in choice.items()], axis=0)
        for choice in choices
    ]

    (first, none), (other, more) = compare(problem, choices, SequenceNoise(problem, scores), 0.8)

    reach = student_quantile(0.8, 6) / math.sqrt(7)
    apart = sums[1] - sums[0]
    assert none is None
    assert more is not None
    assert first.high - first.estimate == pytest.approx(reach * sums[0].std(ddof=1))
    assert other.estimate == pytest.approx(sums[1].mean())
    assert more.estimate == pytest.approx(apart.mean())
    assert more.high - more.estimate == pytest.approx(reach * apart.std(ddof=1))
    assert more.estimate - more.low == pytest.approx(more.high - more.estimate)


def test_independent_errors_count_where_choices_differ_alone() -> None:
    problem, _ = scored(7)
    choices = [dict(zip(problem.slots, names, strict=True)) for names in (FIRST, OTHER)]
    changed = [
        option.loss
        for i, options in enumerate(problem.slots.values())
        for option in options
        if i in CHANGED and option.variant in (FIRST[i], OTHER[i])
    ]

    _, (_, more) = compare(problem, choices, RelativeNoise(problem, 0.1), 0.8)

    assert more is not None
    reach = student_quantile(0.8, math.inf) * 0.1 * np.linalg.norm(changed)
    assert more.high - more.estimate == pytest.approx(reach)
