"""Inherited against stand-alone loss."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas.supernet import (
    Agnostic,
    Lessons,
    RelationObjective,
    Schedule,
    Shared,
    SuperNetwork,
    alone,
    like_students,
    measure_interference,
    pick_students,
    summarise,
    train,
)
from tests.supernet.encoders import encoder, spaces, spec, windows


def test_students_are_different_and_include_the_corners(tmp_path: Path) -> None:
    both = spaces(tmp_path)

    students = pick_students(both, 4)

    assert len({s.key for _, s in students}) == 8
    for space in both:
        mine = [s for name, s in students if name == space.name]
        assert mine[:2] == [space.largest, space.smallest]


def test_students_alike_in_size_are_those_about_the_median(tmp_path: Path) -> None:
    large, _ = spaces(tmp_path)

    students = like_students(large, 3)

    sizes = sorted(spec.size().params for spec in large.specs())
    chosen = [spec.size().params for name, spec in students if name == large.name]
    assert len({spec.key for _, spec in students}) == 3
    assert all(sizes[5] <= size <= sizes[10] for size in chosen)


def test_a_student_that_shares_with_nobody_loses_nothing(tmp_path: Path) -> None:
    chosen = spec(2, 3, 16, 1.0)
    schedule = Schedule(steps=5, batch=4, learning_rate=3e-3)
    lessons = Lessons(encoder(), windows(8), RelationObjective(4), schedule, keep=5)
    judge = Agnostic(lessons.teacher, windows(6, seed=2), lessons.objective)
    network = SuperNetwork(lessons.teacher, chosen)
    untrained = SuperNetwork(lessons.teacher, chosen)
    train(network, lessons, alone(chosen))

    (row,) = measure_interference(
        [("only", chosen)], {"own": {"only": network}, "none": {"only": untrained}}, lessons, judge
    )

    assert row.inherited["own"] == pytest.approx(row.alone)
    assert row.inherited["none"] == pytest.approx(row.before)
    assert row.alone < row.before


def test_the_summary_by_hand() -> None:
    losses = [("a", 1.0, 1.5), ("a", 2.0, 2.5), ("a", 3.0, 2.75), ("b", 4.0, 5.0)]
    rows = [
        Shared(name, spec(1, 2, 8, 1.0), 9.0, alone_, {"one": shared})
        for name, alone_, shared in losses
    ]

    found = summarise(rows, "one")

    assert found.rank_correlation == pytest.approx(1.0)
    assert found.within == {"a": pytest.approx(1.0), "b": None}
    assert found.excess == pytest.approx((1.5 + 1.25 + 2.75 / 3 + 1.25) / 4 - 1)
