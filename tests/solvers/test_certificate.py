"""The certificate must catch every tampering."""

from __future__ import annotations

from typing import Any

import pytest

import nas.solvers._certificate as certificate
from nas.errors import PassError
from nas.ir.problem import Problem, Solution
from nas.solvers import Difference, MipSolver, verify
from tests.solvers.instances import random_problem


@pytest.fixture(scope="module")
def problem() -> Problem:
    return random_problem(1)


@pytest.fixture(scope="module")
def solution(problem: Problem) -> Solution:
    return MipSolver().solve(problem)


def tampered(solution: Solution, **changes: Any) -> Solution:
    return solution.model_copy(update=changes)


def test_accepts_the_honest_answer(problem: Problem, solution: Solution) -> None:
    verify(problem, solution)


def test_tampering_with_the_choice(problem: Problem, solution: Solution) -> None:
    without = {slot: v for slot, v in solution.choice.items() if slot != "s3"}
    for choice, words in (
        (without, "s3 is missing"),
        ({**solution.choice, "s99": "v0"}, "no slot s99"),
        ({**solution.choice, "s3": "v99"}, "s3 has no variant v99"),
    ):
        with pytest.raises(PassError, match=words):
            verify(problem, tampered(solution, choice=choice))


def test_a_swapped_variant_moves_objective_and_costs(problem: Problem, solution: Solution) -> None:
    other = "v2" if solution.choice["s3"] != "v2" else "v1"
    with pytest.raises(PassError, match=r"objective: .*costs\.latency_ms.*slack\.latency_ms"):
        verify(problem, tampered(solution, choice={**solution.choice, "s3": other}))


@pytest.mark.parametrize("field", ["objective", "bound", "lp_bound", "gap"])
@pytest.mark.parametrize("value", [None, float("nan"), 1e3])
def test_tampering_with_a_figure(
    problem: Problem, solution: Solution, field: str, value: float | None
) -> None:
    with pytest.raises(PassError, match=field):
        verify(problem, tampered(solution, **{field: value}))


@pytest.mark.parametrize("field", ["costs", "slack"])
def test_tampering_with_totals(problem: Problem, solution: Solution, field: str) -> None:
    honest = getattr(solution, field)
    shifted = {**honest, "latency_ms": honest["latency_ms"] + 1e-4}
    for values, words in (
        (shifted, f"{field}.latency_ms"),
        ({"latency_ms": honest["latency_ms"]}, f"{field}: memory_mib is missing"),
        ({**honest, "joules": 1.0}, f"{field}: joules is no part"),
    ):
        with pytest.raises(PassError, match=words):
            verify(problem, tampered(solution, **{field: values}))


def test_a_broken_budget(problem: Problem, solution: Solution) -> None:
    tight = problem.model_copy(
        update={
            "budgets": tuple(
                b.model_copy(update={"limit": solution.costs[b.cost] * (1 - 1e-6)})
                for b in problem.budgets
            )
        }
    )
    with pytest.raises(PassError, match="budget latency_ms"):
        verify(tight, solution)


def test_prices_that_do_not_carry_the_bound(problem: Problem, solution: Solution) -> None:
    for duals, words in (
        ({}, "the duals prove only"),
        ({k: 2 * v for k, v in solution.duals.items()}, "the duals prove only"),
        ({**solution.duals, "latency_ms": -1.0}, r"duals\.latency_ms"),
        ({**solution.duals, "joules": 0.0}, "joules is no budget"),
    ):
        with pytest.raises(PassError, match=words):
            verify(problem, tampered(solution, duals=duals))


def test_proven_needs_a_closed_gap(problem: Problem, solution: Solution) -> None:
    bound = solution.lp_bound
    gap = (solution.objective - bound) / solution.objective
    assert gap > 1e-6
    verify(problem, tampered(solution, bound=bound, gap=gap, status="incumbent"))
    with pytest.raises(PassError, match="proven claimed"):
        verify(problem, tampered(solution, bound=bound, gap=gap))


def test_differences_that_were_asked_for(problem: Problem, solution: Solution) -> None:
    with pytest.raises(PassError, match="differs from an earlier one in 0 slots, 2 asked"):
        verify(problem, solution, forbid=[Difference(choice=solution.choice, at_least=2)])


def test_infeasible_beside_an_answer(problem: Problem, solution: Solution) -> None:
    with pytest.raises(PassError, match="infeasible claimed beside a choice"):
        verify(problem, tampered(solution, status="infeasible"))
    empty = Solution(status="infeasible", tightest={"latency_ms": 1.0}, solver="x", seconds=0)
    with pytest.raises(PassError, match=r"tightest\.latency_ms"):
        verify(problem, empty)


def test_shares_no_code_with_the_solvers() -> None:
    with open(certificate.__file__) as source:
        imports = [line for line in source if line.startswith(("from", "import"))]
    assert [line.split()[1] for line in imports if "nas.solvers" in line] == ["nas.solvers._base"]
    assert not any("numpy" in line for line in imports)
