"""Prices in words, and what a price of 0 in the LP relaxation hides."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, assume, given, settings

from nas.ir.problem import Budget, Problem
from nas.solvers import GreedySolver, MipSolver, duals_in_words, unit_of, without_unpriced
from tests.solvers.instances import brute_force, hard_problem, make_problem, small_problems


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
        "1 MiB more of memory_mib would lower the loss by 0.01 in the LP relaxation",
        "speedup (prefill_ms) does not bind in the LP relaxation (price 0)",
    ]


def test_prices_of_a_min_budget() -> None:
    problem = make_problem(
        {f"s{i}": {"low": (0.0, 0.0), "high": (1.0, 4.0)} for i in range(4)},
        Budget(name="rate", cost="tokens_per_s", limit=8.0, sense="min"),
        costs="tokens_per_s",
    )
    assert duals_in_words(problem, MipSolver().solve(problem)) == [
        "1 token/s less asked of rate (tokens_per_s) would lower the loss by 0.25 "
        "in the LP relaxation"
    ]


def coupled(limit_ms: float) -> Problem:
    """The LP mixes `x` and `z`, in no time: only whole choices need `y`, of 3 ms."""
    options = {"x": (0.0, 3.0, 0.0), "y": (1.0, 0.0, 3.0), "z": (5.0, 0.0, 0.0)}
    return make_problem(
        {"s": options, "t": options},
        Budget(name="mem_mib", cost="mem_mib", limit=5.0),
        Budget(name="run_ms", cost="run_ms", limit=limit_ms),
        costs="mem_mib run_ms",
    )


def test_a_budget_without_a_price_may_cost_something_all_the_same() -> None:
    problem = coupled(2.0)
    solution = MipSolver().solve(problem)
    without = without_unpriced(problem, solution)
    assert (solution.duals["run_ms"], solution.objective) == (0.0, 5.0)
    assert {name: free.objective for name, free in without.items()} == {"run_ms": 1.0}
    assert duals_in_words(problem, solution, without)[1] == (
        "run_ms does not bind in the LP relaxation (price 0), "
        "but without this limit the loss would be 1"
    )


def test_a_budget_that_does_not_bind_is_called_so_once_it_is_proven() -> None:
    problem = coupled(3.0)
    solution = MipSolver().solve(problem)
    without = without_unpriced(problem, solution)
    assert duals_in_words(problem, solution, without)[1] == (
        "run_ms does not bind: without this limit the loss would be the same"
    )


def test_nothing_is_claimed_without_a_proof() -> None:
    """Of a heuristic's answer, and where the time is short."""
    problem = coupled(2.0)
    assert without_unpriced(problem, GreedySolver().solve(problem)) == {}
    loose = Budget(name="d", cost="a", limit=1e9)
    hard = hard_problem(slots=14, options=6)
    hard = hard.model_copy(update={"budgets": (*hard.budgets, loose)})
    solution = MipSolver().solve(hard)
    assert without_unpriced(hard, solution, time_limit_s=1e-6) == {}
    assert "d (a) does not bind in the LP relaxation (price 0)" in duals_in_words(hard, solution)


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(small_problems())
def test_what_the_loss_would_be_is_what_trying_everything_says(problem: Problem) -> None:
    assume(problem.budgets and brute_force(problem) is not None)
    solution = MipSolver().solve(problem)
    without = without_unpriced(problem, solution)
    unpriced = {name for name, dual in solution.duals.items() if dual == 0}
    assert without.keys() == unpriced
    for name, free in without.items():
        kept = tuple(budget for budget in problem.budgets if budget.name != name)
        best = brute_force(problem.model_copy(update={"budgets": kept}))
        assert free.objective == pytest.approx(best, rel=2e-6, abs=1e-9)


@pytest.mark.parametrize(
    ("cost", "unit"),
    [
        ("stats.memory_mib", "MiB"),
        ("prefill_ms", "ms"),
        ("kv_mib_per_sequence", "MiB per sequence"),
        ("throughput_tokens_per_s", "token/s"),
        ("params_m", "million parameters"),
        ("cost", "unit"),
        ("m", "unit"),
        ("stats.m", "unit"),
        ("stats.ms", "ms"),
    ],
)
def test_units_are_read_from_names(cost: str, unit: str) -> None:
    assert unit_of(cost) == unit
