"""Solving again under other losses is as exact as solving anew."""

from __future__ import annotations

import numpy as np
import pytest

from nas.errors import PassError
from nas.ir.problem import Problem
from nas.solvers import MipSolver, Resolver
from tests.solvers.instances import hard_problem, random_problem, with_losses


@pytest.mark.parametrize(
    "problem", [random_problem(0), random_problem(1, slots=20, options=8), hard_problem(12, 6)]
)
def test_other_losses_are_solved_to_the_same_optimum_as_from_the_start(problem: Problem) -> None:
    generator = np.random.default_rng(0)
    resolver = Resolver(problem)
    for _ in range(12):
        losses = resolver.losses * generator.lognormal(0.0, 0.3, len(resolver.losses))

        found = resolver.solve(losses)

        expected = MipSolver().solve(with_losses(problem, losses)).objective
        assert found.loss == pytest.approx(expected, rel=2e-6)
        assert found.loss == pytest.approx(losses[found.pick].sum())
        assert found.loss * (1 - 2e-6) <= found.bound <= found.loss


def test_losses_of_another_world_are_solved_too() -> None:
    problem = random_problem(3)
    resolver = Resolver(problem)
    resolver.solve(resolver.losses)
    other = np.random.default_rng(1).normal(size=len(resolver.losses))

    found = resolver.solve(other)

    expected = MipSolver().solve(with_losses(problem, other)).objective
    assert found.loss == pytest.approx(expected, rel=2e-6)


def test_a_choice_becomes_the_pick_of_its_options() -> None:
    problem = random_problem(4)
    resolver = Resolver(problem)
    solution = MipSolver().solve(problem)

    pick = resolver.pick(solution.choice)

    assert resolver.losses[pick].sum() == pytest.approx(solution.objective)


def test_budgets_that_nothing_meets_are_an_error() -> None:
    problem = random_problem(5, share=0.01)

    with pytest.raises(PassError, match="nothing feasible"):
        Resolver(problem).solve(np.zeros(72))
