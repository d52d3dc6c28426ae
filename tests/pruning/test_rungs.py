"""At a rung the dominated and the hopeless stop; a rung that tells nothing stops nobody."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nas.pruning import Line, RungJudge, RungOption, SlotOutlook, fit_lines, rung_ends

SHARP: Line = (1.0, 1.0, 1.02)


def _option(name: str, ms: float, draft: float, spread: float = 1.3) -> RungOption:
    """Pruning took training to leave a loss as it is, give or take `spread`."""
    return RungOption(
        variant=name,
        costs={"ms": ms},
        estimate=(draft, draft / spread, draft * spread),
        draft=(draft, draft, draft),
    )


def _outlook(*options: RungOption, **changed: object) -> SlotOutlook:
    teacher = RungOption(variant="teacher", costs={"ms": 1.0}, estimate=(0.0, 0.0, 0.0))
    known = {
        "options": (teacher, *options),
        "prices": ({"ms": 0.2},),
        "gap": 0.0,
        "factor": 1.3,
        "lines": (SHARP,),
        **changed,
    }
    return SlotOutlook.model_validate(known)


NEAR = (_option("a", 0.5, 0.10), _option("b", 0.5, 0.11))


def test_what_learns_less_at_equal_cost_is_dominated() -> None:
    stopped = RungJudge(_outlook(*NEAR)).after(0, {"a": 0.5, "b": 0.9})
    assert stopped == {"b": "dominated by a"}


def test_nobody_stops_where_the_intervals_still_meet() -> None:
    assert RungJudge(_outlook(*NEAR)).after(0, {"a": 0.9, "b": 0.83}) == {}


def test_what_is_too_dear_at_the_prices_is_hopeless() -> None:
    """At 0.2 nats a ms the teacher's block costs 0.2, `a` 0.1 + 0.1, `b` 0.02 + its loss."""
    options = (_option("a", 0.5, 0.10), _option("b", 0.1, 0.30))
    stopped = RungJudge(_outlook(*options)).after(0, {"a": 0.5, "b": 0.9})
    assert stopped.keys() == {"b"}
    assert stopped["b"].startswith("hopeless: dearer by ")
    low, high = 0.27 / 1.02, 0.05 * 1.02
    expected = (low + 0.02) - (high + 0.1)
    assert float(stopped["b"].split()[3]) == pytest.approx(expected, rel=0.05)
    assert RungJudge(_outlook(*options, gap=1.0)).after(0, {"a": 0.5, "b": 0.9}) == {}


@pytest.mark.parametrize("lines", [(), ((1.0, 1.0, 1.3),), ((1.0, 1.0, 9.0),)])
def test_a_rung_that_tells_no_more_than_pruning_knew_stops_nobody(lines: tuple[Line, ...]) -> None:
    judge = RungJudge(_outlook(*NEAR, lines=lines))
    assert judge.after(0, {"a": 0.1, "b": 1.0}) == {}


def test_the_spared_go_on_but_are_rivals() -> None:
    judge = RungJudge(_outlook(*NEAR, spared=("b",)))
    assert judge.after(0, {"a": 0.5, "b": 0.9}) == {}
    judge = RungJudge(_outlook(*NEAR, spared=("a",)))
    assert judge.after(0, {"a": 0.5, "b": 0.9}).keys() == {"b"}


def test_what_no_longer_trains_is_a_rival_as_it_was() -> None:
    judge = RungJudge(_outlook(*NEAR, lines=(SHARP, SHARP)))
    assert judge.after(0, {"a": 0.5, "b": 0.46}) == {}
    assert judge.after(1, {"b": 0.44}) == {}  # 0.048 beside 0.05
    assert judge.after(1, {"b": 0.6}) == {"b": "dominated by a"}


def test_an_outlook_travels_as_json() -> None:
    outlook = _outlook(*NEAR)
    assert SlotOutlook.model_validate_json(outlook.model_dump_json()) == outlook


@pytest.mark.parametrize(
    ("steps", "rungs", "factor", "ends"),
    [
        (100, 1, 2.0, [100]),
        (100, 3, 2.0, [25, 50, 100]),
        (81, 4, 3.0, [3, 9, 27, 81]),
        (2, 4, 2.0, [1, 2]),
    ],
)
def test_each_rung_is_a_factor_further(
    steps: int, rungs: int, factor: float, ends: list[int]
) -> None:
    assert rung_ends(steps, rungs, factor) == ends


def test_a_line_finds_how_what_is_left_becomes_a_loss() -> None:
    random = np.random.default_rng(0)
    drafts = random.uniform(0.01, 1.0, 8)
    left = random.uniform(0.3, 1.0, (8, 2))
    truth = 0.8 * (drafts * left[:, 1]) ** 0.9
    first, second = fit_lines(drafts.tolist(), left.tolist(), truth.tolist(), 0.8)
    assert second == pytest.approx((0.8, 0.9, 1.0), rel=1e-6)
    assert second[2] < first[2] < math.inf
    assert fit_lines(drafts[:3].tolist(), left[:3].tolist(), truth[:3].tolist(), 0.8) == ()
