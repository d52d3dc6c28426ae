"""An option that is out is in no optimum; what has not been seen stays in."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings

from nas.config import ScoreConfig
from nas.ir.problem import Problem
from nas.solvers import MipSolver
from nas.uncertainty import open_options
from tests.solvers.instances import brute_force, meets, random_problem, small_problems, with_losses
from tests.uncertainty.scored import names_of, scored


def _open(problem: Problem, scores: dict[str, np.ndarray], looks: int = 1) -> set[str]:
    confidence = ScoreConfig().race_confidence
    found = open_options(problem, MipSolver().solve(problem), scores, confidence, looks)
    return {f"{slot}/{variant}" for slot, variants in found.items() for variant in variants}


def _in_an_optimum(problem: Problem) -> set[str]:
    least = brute_force(problem)
    assert least is not None
    found = set()
    for options in itertools.product(*problem.slots.values()):
        close = math.isclose(math.fsum(o.loss for o in options), least, rel_tol=0, abs_tol=1e-12)
        if close and meets(problem, options):
            found |= {f"{s}/{o.variant}" for s, o in zip(problem.slots, options, strict=True)}
    return found


@settings(max_examples=60, deadline=None)
@given(small_problems())
def test_exactly_known_options_are_out_only_where_no_optimum_holds_them(problem: Problem) -> None:
    if brute_force(problem) is not None:
        assert _in_an_optimum(problem) <= _open(problem, {})


def test_much_is_out_when_all_is_known() -> None:
    problem = random_problem(3, slots=40, options=8)
    left = _open(problem, {})
    assert len(left) < 0.5 * len(names_of(problem))
    assert {f"{s}/{v}" for s, v in MipSolver().solve(problem).choice.items()} <= left


def test_the_true_optimum_stays_in_while_the_hopeless_leave() -> None:
    kept, left = [], []
    for seed in range(60):
        problem, scores = scored(400, seed, slots=12, options=5)
        best = {f"{s}/{v}" for s, v in MipSolver().solve(problem).choice.items()}
        few = {name: values[:6] for name, values in scores.items()}
        names = names_of(problem)
        seen = with_losses(problem, [few[n].mean() if n in few else 0.0 for n in names])
        found = _open(seen, few, looks=3)
        kept.append(best <= found)
        left.append(len(found) / len(names))
    assert np.mean(kept) >= 0.95
    assert np.mean(left) < 0.8


@pytest.mark.parametrize("common", [0, 1])
def test_two_sequences_in_common_are_the_least_to_judge_by(common: int) -> None:
    problem, scores = scored(8, 0)
    hopeless = next(n for n in names_of(problem) if n not in _open(problem, scores))
    gappy = {name: values.copy() for name, values in scores.items()}
    gappy[hopeless][common:] = np.nan
    assert hopeless in _open(problem, gappy)


def test_more_looks_ask_for_more_evidence() -> None:
    problem, scores = scored(6, 1, slots=12, options=5)
    assert _open(problem, scores, looks=1) < _open(problem, scores, looks=1000)
