"""Diagnoses of infeasible problems, each against enumeration by hand."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import HealthCheck, assume, given, settings

from nas.errors import ConfigError, InfeasibleError
from nas.ir.problem import Budget, Option, Problem
from nas.solvers import MipSolver, Quotient, diagnose, raise_infeasible
from nas.solvers._loosen import loosen_together
from tests.solvers.instances import brute_force, make_problem, small_problems

OPTIONS = {"full": (0.0, 10.0, 1.0), "half": (1.0, 6.0, 3.0), "none": (2.0, 2.0, 8.0)}


def trade(limit_ms: float, limit_mib: float) -> Problem:
    """Two slots in which less latency costs memory; latencies 4 to 20, memories 2 to 16."""
    return make_problem(
        {"s": OPTIONS, "t": OPTIONS},
        Budget(name="speedup", cost="prefill_ms", limit=limit_ms),
        Budget(name="memory_mib", cost="memory_mib", limit=limit_mib, fixed=100.0),
        costs="prefill_ms memory_mib",
    )


def test_two_budgets_in_conflict() -> None:
    found = diagnose(trade(8.0, 106.0))
    assert found.conflict == ("speedup", "memory_mib")
    assert found.tightest == {"speedup": 4.0, "memory_mib": 102.0}
    by_name = {budget.name: budget for budget in found.budgets}
    assert by_name["speedup"].with_others == pytest.approx(12.0)
    assert by_name["memory_mib"].with_others == pytest.approx(111.0)
    assert found.relaxation == "memory_mib"
    text = found.explain()
    assert "no choice meets these budgets together: speedup, memory_mib" in text
    assert "cheapest way out: memory_mib = 111 MiB (4.7 % away), all others kept" in text
    assert "at most 8 ms asked" in text


def test_one_budget_out_of_reach() -> None:
    found = diagnose(trade(3.0, 200.0))
    assert found.conflict == ("speedup",)
    assert found.relaxation == "speedup"
    assert "no choice meets the budget speedup" in found.explain()
    other = next(budget for budget in found.budgets if budget.name == "memory_mib")
    assert other.with_others is None
    assert "the other budgets conflict without it" in found.explain()


def test_no_single_budget_is_enough() -> None:
    found = diagnose(trade(3.0, 101.0))
    assert found.relaxation is None
    assert found.conflict == ("speedup",)
    assert found.impossible == ("speedup", "memory_mib")
    # All of 4 to 20 ms are over 3 ms by 1/3 each; memory weighs a hundredth of that.
    assert (found.together, found.least) == ({"speedup": 4.0, "memory_mib": 116.0}, True)
    text = found.explain()
    assert "no choice meets any of these budgets, each alone: speedup, memory_mib" in text
    assert "cheapest way out: speedup = 4 ms, memory_mib = 116 MiB together" in text


def test_limits_together_in_the_terms_that_were_written() -> None:
    found = diagnose(trade(3.0, 101.0)).written_as({"speedup": Quotient(20.0, "times")})
    assert (found.together, found.least) == ({"speedup": 5.0, "memory_mib": 116.0}, False)
    assert "one way out: speedup = 5 times, memory_mib = 116 MiB together" in found.explain()


def test_two_budgets_that_are_possible_alone_may_have_to_move_together() -> None:
    """Each of three slots can spare one of three costs only; two of the three have to give."""
    options = {"a": (0.0, 1.0, 3.0, 3.0), "b": (0.0, 3.0, 1.0, 3.0), "c": (0.0, 3.0, 3.0, 1.0)}
    problem = make_problem(
        {"s": options}, *(Budget(name=name, cost=name, limit=2.0) for name in "abc")
    )
    found = diagnose(problem)
    assert (found.impossible, found.relaxation) == ((), None)
    assert sorted(found.together.values()) == [3.0, 3.0]
    assert found.least


def summed_excess(problem: Problem, options: tuple[Option, ...]) -> float:
    excess = []
    for budget in problem.budgets:
        total = math.fsum([budget.fixed, *(option.costs[budget.cost] for option in options)])
        over = total - budget.limit if budget.sense == "max" else budget.limit - total
        excess.append(max(0.0, over) / abs(budget.limit))
    return math.fsum(excess)


@settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(small_problems())
def test_limits_together_are_met_with_the_least_excess(problem: Problem) -> None:
    assume(problem.budgets and all(abs(budget.limit) > 0.01 for budget in problem.budgets))
    found = loosen_together(problem)
    assert found is not None
    assert found.least
    asked = {budget.name: budget.limit for budget in problem.budgets}
    excess = sum(
        abs(limit - asked[name]) / abs(asked[name]) for name, limit in found.limits.items()
    )
    every = itertools.product(*problem.slots.values())
    least = min(summed_excess(problem, options) for options in every)
    assert excess == pytest.approx(least, rel=1e-6, abs=1e-6)
    moved = [
        budget.model_copy(update={"limit": found.limits.get(budget.name, budget.limit)})
        for budget in problem.budgets
    ]
    assert brute_force(problem.model_copy(update={"budgets": tuple(moved)})) is not None


def test_a_min_budget() -> None:
    problem = make_problem(
        {"s": {"a": (0.0, 1.0), "b": (0.0, 2.5)}},
        Budget(name="score", cost="a", limit=3.0, sense="min", fixed=0.25),
    )
    found = diagnose(problem)
    assert found.tightest == {"score": 2.75}
    assert found.budgets[0].with_others == 2.75
    assert "at least 3 unit asked; the most of any choice is 2.75" in found.explain()


def test_a_quotient_is_diagnosed_as_it_was_written() -> None:
    """A speed-up of 2.5 over a teacher of 20 ms is a limit of 8 ms on the student."""
    found = diagnose(trade(8.0, 106.0)).written_as({"speedup": Quotient(20.0, "times")})
    assert found.tightest == {"speedup": 5.0, "memory_mib": 102.0}
    text = found.explain()
    assert "speedup: at least 2.5 times asked; the most of any choice is 5, with" in text
    assert "with the other budgets kept 1.66666\n" in text  # rounded so that it can be met
    assert "memory_mib: at most 106 MiB asked" in text
    assert found.relaxation == "memory_mib"


def test_the_cheapest_way_out_is_judged_in_the_terms_that_were_written() -> None:
    """From 8 ms to 12 ms is 50 % more, from a speed-up of 2.5 to 1.67 is 33 % less."""
    problem = make_problem(
        {"s": OPTIONS, "t": OPTIONS},
        Budget(name="speedup", cost="prefill_ms", limit=8.0),
        Budget(name="memory_mib", cost="memory_mib", limit=8.0),
        costs="prefill_ms memory_mib",
    )
    found = diagnose(problem)
    assert found.relaxation == "memory_mib"  # from 8 to 11 MiB: 37.5 %
    assert found.written_as({"speedup": Quotient(20.0, "times")}).relaxation == "speedup"


def test_raises_with_the_tightest_values() -> None:
    with pytest.raises(InfeasibleError, match="cheapest way out") as caught:
        raise_infeasible(trade(8.0, 106.0))
    assert caught.value.tightest == {"speedup": 4.0, "memory_mib": 102.0}


def test_a_feasible_problem_has_no_diagnosis() -> None:
    with pytest.raises(ConfigError, match="feasible"):
        diagnose(trade(20.0, 116.0))


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(small_problems())
def test_conflicts_are_minimal_and_relaxations_work(problem: Problem) -> None:
    assume(brute_force(problem) is None)
    found = diagnose(problem)

    def feasible(budgets: list[Budget]) -> bool:
        return brute_force(problem.model_copy(update={"budgets": tuple(budgets)})) is not None

    conflict = [budget for budget in problem.budgets if budget.name in found.conflict]
    assert not feasible(conflict)
    for budget in conflict:
        assert feasible([other for other in conflict if other is not budget])
    for diagnosis in found.budgets:
        if diagnosis.with_others is None:
            continue
        relaxed = [
            b.model_copy(update={"limit": diagnosis.with_others}) if b.name == diagnosis.name else b
            for b in problem.budgets
        ]
        solution = MipSolver().solve(problem.model_copy(update={"budgets": tuple(relaxed)}))
        assert solution.proven
