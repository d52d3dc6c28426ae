"""Fronts over one and two budgets, and the work that earlier points spare."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import nas.solvers._labels as labels
from nas.errors import ConfigError, PassError
from nas.ir.problem import Budget, Problem, Solution
from nas.solvers import (
    GreedySolver,
    Known,
    MipSolver,
    SweepPoint,
    create_solver,
    front,
    solver_names,
    sweep,
    verify,
    with_limit,
)
from tests.solvers.instances import brute_force, hard_problem, make_problem, random_problem

LATENCIES = [1.0, 6.0, 8.0, 9.0, 10.0, 12.0, 15.0, 40.0]
MEMORIES = [500.0, 700.0, 900.0, 1100.0, 4000.0]


class CountingSolver(MipSolver):
    """The exact solver, counting its solves; with `cold` it is told nothing beforehand."""

    def __init__(self, cold: bool = False) -> None:
        super().__init__()
        self.cold, self.solves = cold, 0

    def solve(self, problem: Problem, *, known: Known | None = None, **options: Any) -> Solution:
        self.solves += 1
        return super().solve(problem, known=None if self.cold else known, **options)


@pytest.fixture
def small() -> Problem:
    return random_problem(3, slots=5, options=4)


def limit_of(point: SweepPoint, name: str) -> float:
    return next(b.limit for b in point.problem.budgets if b.name == name)


def check(points: Sequence[SweepPoint]) -> None:
    """Every point is certified and as good as trying everything under its own limits."""
    for point in points:
        verify(point.problem, point.solution)
        best = brute_force(point.problem)
        if best is None:
            assert point.solution.status == "infeasible"
        else:
            assert point.solution.proven
            assert point.solution.objective == pytest.approx(best, rel=2e-6)


def test_a_sweep_over_one_budget_is_optimal_everywhere(small: Problem) -> None:
    points = sweep(small, {"latency_ms": LATENCIES})
    assert [limit_of(point, "latency_ms") for point in points] == LATENCIES
    check(points)


@pytest.mark.parametrize("seed", range(4))
def test_a_grid_over_two_budgets_is_optimal_everywhere(seed: int) -> None:
    problem = random_problem(seed, slots=5, options=4)
    points = sweep(problem, {"latency_ms": LATENCIES, "memory_mib": MEMORIES})
    assert [(limit_of(point, "latency_ms"), limit_of(point, "memory_mib")) for point in points] == [
        (ms, mib) for ms in LATENCIES for mib in MEMORIES
    ]
    check(points)
    assert {point.solution.status for point in points} == {"proven", "infeasible"}


def test_the_front_is_undominated_and_complete(small: Problem) -> None:
    points = sweep(small, {"latency_ms": LATENCIES, "memory_mib": MEMORIES})
    kept = front(points)
    spent = [(p.solution.costs["latency_ms"], p.solution.costs["memory_mib"]) for p in kept]
    losses = [p.solution.objective for p in kept]
    values = [(*costs, loss) for costs, loss in zip(spent, losses, strict=True)]
    assert spent == sorted(spent)
    for one in values:
        better = [v for v in values if v != one and all(np.array(v) <= np.array(one))]
        assert not better
    assert len(set(values)) == len(values)
    for point in points:
        if point.feasible:
            assert any(other.no_worse_than(point) for other in kept)


def test_the_front_over_one_budget_only_falls() -> None:
    points = sweep(random_problem(2), {"latency_ms": [0.0, 20, 25, 30, 35, 40, 1e6, 2e6]})
    kept = front(points)
    losses = [point.solution.objective for point in kept]
    assert 3 <= len(kept) < len(points)
    assert losses == sorted(losses, reverse=True)
    assert len(set(losses)) == len(losses)
    assert all(point.searched for point in kept)


def test_a_sweep_of_a_min_budget_starts_at_the_tightest() -> None:
    problem = make_problem(
        {f"s{i}": {"low": (0.0, 1.0), "high": (1.0 + i, 2.0)} for i in range(3)},
        Budget(name="score", cost="a", limit=0.0, sense="min"),
    )
    points = sweep(problem, {"score": [3, 4, 5, 6, 7]})
    check(points)
    assert [(p.solution.costs["a"], p.solution.objective) for p in front(points)] == [
        (6.0, 6.0),
        (5.0, 3.0),
        (4.0, 1.0),
        (3.0, 0.0),
    ]


def test_a_sweep_names_the_budgets_there_are() -> None:
    with pytest.raises(ConfigError, match="latency_ms, memory_mib"):
        sweep(random_problem(1), {"latency": [1.0]})


def test_no_choice_is_searched_for_twice(small: Problem) -> None:
    """However fine the steps: between two optima there is nothing to search."""
    solver = CountingSolver()
    points = sweep(small, {"latency_ms": list(np.linspace(0, 30, 200))}, solver=solver)
    check(points[::20])
    feasible = {point.solution.objective for point in points if point.feasible}
    assert solver.solves == sum(point.searched for point in points)
    assert solver.solves <= len(feasible) + 1


def test_a_grid_needs_fewer_solves_than_it_has_points(small: Problem) -> None:
    solver = CountingSolver()
    axes = {"latency_ms": list(np.linspace(5, 20, 12)), "memory_mib": list(range(400, 1600, 100))}
    points = sweep(small, axes, solver=solver)
    check(points)
    assert solver.solves < len(points) / 2


def test_everything_tighter_than_an_infeasible_limit_is_known_to_be_infeasible() -> None:
    solver = CountingSolver()
    points = sweep(random_problem(1), {"latency_ms": [-3.0, -2.0, -1.0]}, solver=solver)
    assert [point.solution.status for point in points] == ["infeasible"] * 3
    assert solver.solves == 1
    assert front(points) == []


def test_what_is_known_makes_a_search_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels of the search, summed over a sweep, with and without what earlier points prove."""
    counts = {"labels": 0}
    extend = labels._extend

    def counted(found: Any, *rest: Any) -> None:
        extend(found, *rest)
        counts["labels"] += len(found.loss)

    monkeypatch.setattr(labels, "_extend", counted)
    problem = hard_problem(slots=14, options=6)
    axes = {"a": [0.40 * 14, 0.401 * 14, 0.402 * 14], "b": [0.40 * 14, 0.401 * 14, 0.402 * 14]}

    def work(solver: MipSolver) -> tuple[list[float | None], int]:
        counts["labels"] = 0
        found = [point.solution.objective for point in sweep(problem, axes, solver=solver)]
        return found, counts["labels"]

    warm, fewer = work(CountingSolver())
    cold, more = work(CountingSolver(cold=True))
    assert warm == pytest.approx(cold, rel=2e-6)
    assert fewer < more


def test_a_proven_optimum_needs_no_search(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = hard_problem(slots=10, options=6)
    best = MipSolver().solve(problem)
    monkeypatch.setattr("nas.solvers._mip.search_labels", None)
    again = MipSolver().solve(problem, known=Known(choice=best.choice, bound=best.bound))
    verify(problem, again)
    assert (again.status, again.objective) == ("proven", best.objective)


@pytest.mark.parametrize("name", solver_names())
def test_every_solver_takes_what_is_known(name: str) -> None:
    problem = random_problem(4, share=0.6)
    best = MipSolver().solve(problem)
    told = create_solver(name).solve(problem, known=Known(choice=best.choice, bound=best.bound))
    verify(problem, told)
    assert told.bound == pytest.approx(best.bound)


def test_a_start_that_breaks_a_budget_is_repaired() -> None:
    problem = random_problem(4)
    heavy = MipSolver().solve(problem.model_copy(update={"budgets": ()})).choice
    solution = MipSolver().solve(problem, known=Known(choice=heavy))
    verify(problem, solution)
    assert solution.proven


def test_a_start_from_another_problem_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"start: .*s5"):
        MipSolver().solve(random_problem(1), known=Known(choice={f"s{i}": "v1" for i in range(5)}))


def test_a_heuristic_sweep_stays_a_heuristic() -> None:
    problem = random_problem(2)
    points = sweep(problem, {"latency_ms": [25.0, 30.0, 35.0]}, solver=GreedySolver())
    for point in points:
        verify(point.problem, point.solution)
        assert point.solution.status == "incumbent"
        best = MipSolver().solve(with_limit(problem, "latency_ms", limit_of(point, "latency_ms")))
        assert point.solution.objective is not None
        assert point.solution.bound is not None
        assert best.objective is not None
        assert point.solution.bound <= best.objective * (1 + 1e-9)
        assert best.objective <= point.solution.objective * (1 + 2e-6)


def test_a_search_that_finds_nothing_leaves_its_point_unknown(small: Problem) -> None:
    class Failing(MipSolver):
        """Gives up at one limit of the latency."""

        def solve(self, problem: Problem, **options: Any) -> Solution:
            if problem.budgets[0].limit in (10.0, 40.0):
                raise PassError("no time")
            return super().solve(problem, **options)

    points = sweep(small, {"latency_ms": LATENCIES}, solver=Failing())

    unknown = [limit_of(point, "latency_ms") for point in points if not point.settled]
    assert 40.0 in unknown
    assert all(point.failure == "no time" for point in points if not point.settled)
    check([point for point in points if point.settled])
    assert {limit_of(p, "latency_ms") for p in front(points)}.isdisjoint(unknown)
