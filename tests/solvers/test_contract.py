"""What every solver must do, whichever it is."""

from __future__ import annotations

import pytest

from nas.errors import ConfigError
from nas.ir.problem import Budget, Problem, Solution
from nas.solvers import (
    Difference,
    EvolutionSolver,
    MipSolver,
    Solver,
    create_solver,
    solver_names,
    verify,
)
from tests.solvers.instances import make_problem, random_problem

SOLVERS = ["mip", "mip-cbc", "greedy", "equal_split", "evolution", "random", "depth_cut"]


def build(name: str) -> Solver:
    if name == "evolution":
        return EvolutionSolver(trials=150)
    return MipSolver(backend="cbc") if name == "mip-cbc" else create_solver(name)


@pytest.fixture(params=SOLVERS)
def solver(request: pytest.FixtureRequest) -> Solver:
    return build(request.param)


def exact(solver: Solver) -> bool:
    return isinstance(solver, MipSolver)


def test_answers_with_a_certificate(solver: Solver) -> None:
    problem = random_problem(1)
    solution = solver.solve(problem)
    verify(problem, solution)
    assert solution.status == ("proven" if exact(solver) else "incumbent")
    assert solution.solver == solver.name
    assert solution.seconds > 0
    assert all(slack >= 0 for slack in solution.slack.values())
    assert Solution.model_validate_json(solution.model_dump_json()) == solution


def test_is_deterministic(solver: Solver) -> None:
    problem = random_problem(2)
    assert solver.solve(problem).choice == solver.solve(problem).choice


def test_no_budget_takes_the_least_loss(solver: Solver) -> None:
    problem = make_problem(
        {"s0": {"skip": (2.0,), "b": (1.0,)}, "s1": {"skip": (0.0,), "b": (-1.0,)}}
    )
    solution = solver.solve(problem)
    verify(problem, solution)
    if solver.name != "random":
        assert solution.choice == {"s0": "b", "s1": "b"}
        assert solution.gap == 0


def test_reports_infeasible_with_the_tightest_value(solver: Solver) -> None:
    problem = make_problem(
        {"s": {"a": (0.0, 5.0), "b": (1.0, 3.0)}, "t": {"a": (0.0, 4.0)}},
        Budget(name="latency_ms", cost="a", limit=7.5, fixed=1.0),
    )
    solution = solver.solve(problem)
    verify(problem, solution)
    assert solution.status == "infeasible"
    assert solution.tightest == {"latency_ms": 8.0}
    assert not solution.choice


def test_meets_a_limit_exactly(solver: Solver) -> None:
    options = {"a": (0.0, 0.3), "skip": (1.0, 0.1)}
    problem = make_problem(
        {f"s{i}": options for i in range(3)}, Budget(name="x", cost="a", limit=0.3)
    )
    solution = solver.solve(problem)
    verify(problem, solution)
    assert set(solution.choice.values()) == {"skip"}
    assert solution.slack["x"] == pytest.approx(0, abs=1e-12)


def test_meets_a_min_budget(solver: Solver) -> None:
    problem = make_problem(
        {f"s{i}": {"skip": (0.0, 1.0), "high": (0.5 + i, 4.0)} for i in range(4)},
        Budget(name="throughput_tokens_per_s", cost="a", limit=10.0, sense="min"),
    )
    solution = solver.solve(problem)
    verify(problem, solution)
    assert solution.costs["a"] >= 10
    if solver.name in ("mip", "greedy", "depth_cut"):
        assert solution.objective == 2.0


def test_honours_differences(solver: Solver) -> None:
    problem = random_problem(3, share=0.7)
    first = solver.solve(problem)
    forbid = [Difference(choice=first.choice, at_least=5)]
    second = solver.solve(problem, forbid=forbid)
    verify(problem, second, forbid=forbid)
    assert sum(first.choice[slot] != second.choice[slot] for slot in problem.slots) >= 5


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"time_limit_s": 0.0}, "time limit"),
        ({"gap": -1.0}, "gap"),
        ({"gap": float("nan")}, "gap"),
        ({"forbid": [Difference(choice={"nowhere": "v0"})]}, "nowhere/v0"),
        ({"forbid": [Difference(choice={"s0": "v1"}, at_least=2)]}, "names only 1"),
    ],
)
def test_refuses_requests_without_sense(solver: Solver, options: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        solver.solve(random_problem(1), **options)


@pytest.mark.parametrize(
    ("budgets", "words"),
    [
        ([Budget(name="x", cost="a", limit=1), Budget(name="x", cost="a", limit=2)], "twice"),
        ([Budget(name="x", cost="a", limit=float("nan"))], "no limit"),
        (
            [Budget(name="x", cost="a", limit=1), Budget(name="y", cost="a", limit=1, fixed=2)],
            "fixed part",
        ),
    ],
)
def test_refuses_budgets_without_sense(solver: Solver, budgets: list, words: str) -> None:
    problem = make_problem({"s": {"a": (0.0, 1.0)}}, *budgets)
    with pytest.raises(ConfigError, match=words):
        solver.solve(problem)


def test_every_registered_solver_is_tested() -> None:
    assert {*solver_names()} == {build(name).name for name in SOLVERS}


def test_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'greedy'"):
        create_solver("gredy")


def test_options_without_a_problem_column_are_refused_early() -> None:
    with pytest.raises(ValueError, match="lacks the cost z"):
        Problem.model_validate(
            {
                "slots": {"s": [{"variant": "a", "loss": 0, "costs": {}}]},
                "budgets": [{"name": "z", "cost": "z", "limit": 1}],
            }
        )
