"""Diverse answers."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from nas.errors import ConfigError, PassError
from nas.ir.problem import Problem, Solution
from nas.solvers import (
    Difference,
    GreedySolver,
    MipSolver,
    diverse,
    select_diverse,
    verify,
)
from tests.solvers.instances import hard_problem, make_problem, random_problem


def test_diverse_solutions_differ_pairwise_and_get_no_better() -> None:
    problem = random_problem(1, share=0.6)
    found = diverse(problem, 4, 5)
    assert len(found) == 4
    for i, solution in enumerate(found):
        verify(
            problem,
            solution,
            forbid=[Difference(choice=earlier.choice, at_least=5) for earlier in found[:i]],
        )
        assert solution.proven
    for one, other in itertools.combinations(found, 2):
        assert sum(one.choice[s] != other.choice[s] for s in problem.slots) >= 5
        assert one.objective <= other.objective


def test_the_bound_of_one_solution_holds_for_the_next() -> None:
    """A second solve without time knows at least that it cannot beat the first."""

    class Hurried(MipSolver):
        def solve(self, problem: Problem, **options: Any) -> Solution:
            if options["forbid"]:
                options["time_limit_s"] = 1e-6
            return super().solve(problem, **options)

    problem = hard_problem(slots=10, options=6)
    first, second = diverse(problem, 2, 1, solver=Hurried())
    assert first.proven
    assert second.status == "incumbent"
    assert second.bound == first.objective


def test_diverse_stops_when_nothing_else_exists() -> None:
    problem = make_problem({"s": {"a": (0.0,), "b": (1.0,)}})
    assert [found.choice["s"] for found in diverse(problem, 5, 1)] == ["a", "b"]


def test_diverse_takes_any_solver() -> None:
    found = diverse(random_problem(1, share=0.7), 2, 3, solver=GreedySolver())
    assert [solution.solver for solution in found] == ["greedy", "greedy"]


@pytest.mark.parametrize(("k", "differ"), [(0, 1), (2, 0), (2, 13)])
def test_diverse_refuses_requests_without_sense(k: int, differ: int) -> None:
    with pytest.raises(ConfigError, match="slots"):
        diverse(random_problem(1), k, differ)


class Failing(MipSolver):
    """Finds nothing once it has given `answers` answers."""

    def __init__(self, answers: int) -> None:
        super().__init__()
        self.left = answers

    def solve(self, problem: Problem, **options: Any) -> Solution:
        self.left -= 1
        if self.left < 0:
            raise PassError("no time")
        return super().solve(problem, **options)


def test_what_was_found_outlives_a_search_that_finds_nothing() -> None:
    found = select_diverse(random_problem(1, share=0.6), 4, 5, solver=Failing(2))
    assert (len(found.solutions), found.failure) == (2, "no time")
    with pytest.raises(PassError, match="no time"):
        diverse(random_problem(1), 4, 5, solver=Failing(0))


def test_that_no_further_solution_exists_is_no_failure() -> None:
    problem = make_problem({"s": {"a": (0.0,), "b": (1.0,)}})
    assert select_diverse(problem, 5, 1).failure is None
