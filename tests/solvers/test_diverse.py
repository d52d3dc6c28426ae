"""Diverse answers and prices in words."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from nas.errors import ConfigError
from nas.ir.problem import Budget, Problem, Solution
from nas.solvers import (
    Difference,
    GreedySolver,
    MipSolver,
    diverse,
    duals_in_words,
    unit_of,
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


def test_prices_in_words_match_what_one_more_unit_saves() -> None:
    """Many equal slots: one more unit of memory removes one unit of loss in a hundred."""
    problem = make_problem(
        {f"s{i}": {"full": (0.0, 100.0, 1.0), "none": (1.0, 0.0, 1.0)} for i in range(10)},
        Budget(name="memory_mib", cost="memory_mib", limit=500.0),
        Budget(name="speedup", cost="prefill_ms", limit=500.0),
        costs="memory_mib prefill_ms",
    )
    solution = MipSolver().solve(problem)
    assert solution.duals == pytest.approx({"memory_mib": 0.01, "speedup": 0.0})
    assert duals_in_words(problem, solution) == [
        "1 MiB more of memory_mib would lower the loss by 0.01",
        "speedup (prefill_ms) does not bind: more of it would not lower the loss",
    ]


def test_prices_of_a_min_budget() -> None:
    problem = make_problem(
        {f"s{i}": {"low": (0.0, 0.0), "high": (1.0, 4.0)} for i in range(4)},
        Budget(name="rate", cost="tokens_per_s", limit=8.0, sense="min"),
        costs="tokens_per_s",
    )
    assert duals_in_words(problem, MipSolver().solve(problem)) == [
        "1 token/s less asked of rate (tokens_per_s) would lower the loss by 0.25"
    ]


@pytest.mark.parametrize(
    ("cost", "unit"),
    [
        ("stats.memory_mib", "MiB"),
        ("prefill_ms", "ms"),
        ("kv_mib_per_sequence", "MiB per sequence"),
        ("throughput_tokens_per_s", "token/s"),
        ("params_m", "million parameters"),
        ("cost", "unit"),
    ],
)
def test_units_are_read_from_names(cost: str, unit: str) -> None:
    assert unit_of(cost) == unit
