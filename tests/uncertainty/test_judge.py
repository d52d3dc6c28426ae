"""What is called certain, fixed, optimistic or expected is so, by trying everything."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from nas.errors import ConfigError
from nas.ir.problem import Budget, Problem
from nas.progress import SilentProgress
from nas.solvers import MipSolver, Resolver
from nas.uncertainty import (
    RelativeNoise,
    Scrutiny,
    SequenceNoise,
    Uncertainty,
    judge,
    objective_intervals,
    replicate,
    uncertainty_tables,
)
from tests.solvers.instances import make_problem, meets, random_problem, with_losses
from tests.uncertainty.scored import scored

TRIALS = 200


def _judged(problem: Problem, scores: dict[str, np.ndarray], **settings: float) -> Uncertainty:
    choice = MipSolver().solve(problem).choice
    return judge(problem, choice, SequenceNoise(problem, scores), Scrutiny(**settings))


def _least_without(problem: Problem, slot: str, variant: str) -> float:
    others = {
        s: [o for o in opts if (s, o.variant) != (slot, variant)]
        for s, opts in problem.slots.items()
    }
    return min(
        math.fsum(o.loss for o in options)
        for options in itertools.product(*others.values())
        if meets(problem, options)
    )


@pytest.mark.parametrize("seed", range(3))
def test_the_regret_of_a_slot_is_what_the_best_answer_without_its_choice_adds(seed: int) -> None:
    problem, scores = scored(5, seed)
    solution = MipSolver().solve(problem)

    found = _judged(problem, scores, resamples=5)

    for slot, variant in solution.choice.items():
        regret = _least_without(problem, slot, variant) - solution.objective
        assert found.slots[slot].choice == variant
        assert found.slots[slot].regret == pytest.approx(regret, abs=1e-6)
        assert found.slots[slot].fixed == (regret > 0.01 * solution.objective)


def test_a_slot_without_another_way_has_no_regret_and_is_fixed() -> None:
    table = {
        "only": {"a": (1.0, 1.0)},
        "forced": {"cheap": (2.0, 1.0), "dear": (0.5, 9.0)},
        "free": {"a": (1.0, 1.0), "b": (1.001, 1.0)},
    }
    problem = make_problem(table, Budget(name="a", cost="a", limit=4.0), costs="a")

    found = judge(
        problem,
        {"only": "a", "forced": "cheap", "free": "a"},
        RelativeNoise(problem, 0.05),
        Scrutiny(resamples=30),
    )

    assert [found.slots[s].regret for s in ("only", "forced")] == [None, None]
    assert found.fixed == ["only", "forced"]
    assert found.certain == ["only", "forced"]
    assert found.slots["free"].regret == pytest.approx(0.001)
    assert 0.2 < found.slots["free"].frequency < 0.8


def test_frequencies_are_those_of_solving_every_draw_from_the_start() -> None:
    problem, scores = scored(6)
    found = _judged(problem, scores, resamples=40, seed=3)
    draws = SequenceNoise(problem, scores).draws(40, np.random.default_rng(3))
    choices = [MipSolver().solve(with_losses(problem, drawn)).choice for drawn in draws]

    for slot, certainty in found.slots.items():
        for variant, share in certainty.frequencies.items():
            assert share == pytest.approx(np.mean([c[slot] == variant for c in choices]))
        assert sum(certainty.frequencies.values()) == pytest.approx(1.0)
        assert certainty.certain == (certainty.frequency >= 0.9)


def test_losses_of_an_architecture_and_of_candidates_have_intervals() -> None:
    problem, scores = scored(8)
    found = _judged(problem, scores, resamples=20)

    solution = MipSolver().solve(problem)
    assert found.measured.estimate == pytest.approx(solution.objective)
    assert found.optimism >= 0
    assert found.expected.estimate == pytest.approx(found.measured.estimate + found.optimism)
    for slot, options in problem.slots.items():
        assert found.slots[slot].losses.keys() == {o.variant for o in options}
        assert found.slots[slot].losses["v3"].low == found.slots[slot].losses["v3"].high
        assert found.slots[slot].losses["v1"].low < found.slots[slot].losses["v1"].high


def test_exact_scores_leave_nothing_in_doubt() -> None:
    problem, scores = scored(4)
    same = {name: np.full(4, values.mean()) for name, values in scores.items()}

    found = _judged(problem, same, resamples=10)

    assert found.certain == list(problem.slots)
    assert found.optimism == pytest.approx(0.0, abs=1e-9)
    assert found.expected.low == pytest.approx(found.expected.high)


def test_few_sequences_are_said_to_be_few() -> None:
    few, many = (_judged(*scored(n), resamples=10) for n in (3, 12))

    assert "rests on 3 sequences" in few.notes[0]
    assert few.notes[0] in "".join(map(str, uncertainty_tables(few)))
    assert many.notes == ()


def test_the_table_names_the_slots_in_doubt_and_no_others() -> None:
    problem = random_problem(0)
    choice = MipSolver().solve(problem).choice
    found = judge(problem, choice, RelativeNoise(problem, 0.3), Scrutiny(resamples=20))
    assert 0 < len(found.certain) < len(found.slots)

    *_, doubts = uncertainty_tables(found)

    listed = {str(cell) for cell in doubts.columns[0].cells}  # type: ignore[union-attr]
    assert listed == found.slots.keys() - set(found.certain)


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"confidence": 90.0}, "--confidence 90"), ({"resamples": 1}, "--resamples 1")],
)
def test_a_scrutiny_without_sense_is_refused(settings: dict[str, float], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Scrutiny(**settings)  # type: ignore[arg-type]


def test_the_interval_holds_the_true_loss_of_a_choice_made_by_noisy_scores() -> None:
    """Losses off by 5 %: 90 % intervals hold the truth in at least 85 % of trials, and those that
    leave the winner's optimism out do so less often."""
    problem = random_problem(0, slots=30, options=8)
    generator, resolver = np.random.default_rng(0), Resolver(problem)
    true = resolver.losses
    held = {"measured": 0, "expected": 0}
    for seed in range(TRIALS):
        noisy = true * (1 + 0.05 * generator.standard_normal(len(true)))
        noise = RelativeNoise(with_losses(problem, noisy), 0.05)
        pick = resolver.solve(noisy).pick
        drawn = replicate(resolver, pick, noise, 3, seed, SilentProgress())
        measured, expected = objective_intervals(noise, pick, drawn, 0.9)
        truth = float(true[pick].sum())
        held["measured"] += measured.holds(truth)
        held["expected"] += expected.holds(truth)

    assert held["expected"] >= 0.85 * TRIALS
    assert held["measured"] < held["expected"]
