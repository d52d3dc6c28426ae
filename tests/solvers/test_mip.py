"""The exact solver against brute force, and its honesty about time limits."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import HealthCheck, given, settings

import nas.solvers._labels as labels
import nas.solvers._mip as mip
import nas.solvers._pulp_adapter as adapter
from nas.errors import CapabilityError, ConfigError, PassError
from nas.ir.problem import Budget, Problem
from nas.solvers import Difference, MipSolver, create_solver, verify
from nas.solvers._labels import LabelAnswer
from nas.solvers._program import build_program
from nas.solvers._pulp_adapter import IntegerAnswer
from nas.solvers._relaxation import relax
from nas.solvers._table import build_table
from tests.solvers.instances import (
    brute_force,
    hard_problem,
    make_problem,
    random_problem,
    small_problems,
)


@pytest.fixture
def branch_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """The label search gives up at once, so that branch and bound does all the work."""
    monkeypatch.setattr(mip, "search_labels", lambda *_: LabelAnswer("gave_up"))


FEW = settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    derandomize=True,
)


def agrees_with_brute_force(problem: Problem, solver: MipSolver) -> None:
    solution = solver.solve(problem)
    verify(problem, solution)
    best = brute_force(problem)
    if best is None:
        assert solution.status == "infeasible"
        return
    magnitude = sum(max(abs(o.loss) for o in options) for options in problem.slots.values())
    assert solution.proven
    assert solution.objective == pytest.approx(best, rel=2e-6, abs=1e-9 * magnitude)
    assert solution.bound is not None
    assert solution.bound <= best + 1e-9 * magnitude


@FEW
@given(small_problems())
def test_finds_the_optimum_of_small_problems(problem: Problem) -> None:
    agrees_with_brute_force(problem, MipSolver(backend="highs"))


@pytest.mark.usefixtures("branch_only")
@FEW
@given(small_problems())
def test_branch_and_bound_finds_the_optimum_of_small_problems(problem: Problem) -> None:
    agrees_with_brute_force(problem, MipSolver(backend="highs"))


@pytest.mark.usefixtures("branch_only")
@settings(FEW, max_examples=25)
@given(small_problems())
def test_finds_the_optimum_with_cbc(problem: Problem) -> None:
    agrees_with_brute_force(problem, MipSolver(backend="cbc"))


@FEW
@given(small_problems())
def test_heuristics_never_beat_the_bound(problem: Problem) -> None:
    best = brute_force(problem)
    for name in ("greedy", "equal_split", "random"):
        try:
            solution = create_solver(name).solve(problem)
        except PassError:
            continue
        verify(problem, solution)
        assert solution.status != "proven"
        assert (solution.status == "infeasible") <= (best is None)
        if best is not None:
            assert solution.lp_bound <= best + 1e-9 * (1 + abs(best))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("share", [0.35, 0.5, 0.7])
def test_labels_core_and_whole_problem_agree(
    seed: int, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = random_problem(seed, slots=20, options=8, share=share)
    by_labels = MipSolver().solve(problem)
    monkeypatch.setattr(mip, "search_labels", lambda *_: LabelAnswer("gave_up"))
    core = MipSolver().solve(problem)
    monkeypatch.setattr(mip, "_reach", lambda *_: float("inf"))
    whole = MipSolver().solve(problem)
    for solution in (by_labels, core, whole):
        verify(problem, solution)
        assert solution.proven
        assert solution.objective == pytest.approx(whole.objective, rel=2e-6)


def test_labels_find_the_optimum_without_branch_and_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = random_problem(1, slots=20, options=8)
    best = MipSolver().solve(problem).objective
    monkeypatch.setattr(mip, "solve_integer", None)
    monkeypatch.setattr(mip, "_first_picks", lambda *_: [])
    assert MipSolver().solve(problem).objective == best


def test_labels_give_up_and_branch_and_bound_takes_over(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = hard_problem(slots=10, options=6)
    best = MipSolver().solve(problem)
    monkeypatch.setattr(labels, "_MAX_STEP", 1)
    other = MipSolver().solve(problem)
    assert best.proven
    assert other.proven
    assert best.objective == pytest.approx(other.objective, rel=2e-6)


@pytest.mark.usefixtures("branch_only")
def test_widens_the_core_without_a_first_pick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mip, "_first_picks", lambda *_: [])
    monkeypatch.setattr(mip, "_CORE_PER_SLOT", 1)
    problem = random_problem(5, slots=8, options=5)
    solution = MipSolver().solve(problem)
    verify(problem, solution)
    monkeypatch.undo()
    assert solution.proven
    assert solution.objective == pytest.approx(MipSolver().solve(problem).objective, rel=2e-6)


def test_infeasible_beyond_the_relaxation_is_proven() -> None:
    """Even costs cannot sum to 3, although the LP relaxation can."""
    even = {"a": (0.0, 0.0), "b": (0.0, 2.0)}
    problem = make_problem(
        {"s": even, "t": even},
        Budget(name="most", cost="a", limit=3.0),
        Budget(name="least", cost="a", limit=3.0, sense="min"),
    )
    solution = MipSolver().solve(problem)
    assert solution.status == "infeasible"
    with pytest.raises(PassError, match="does not prove"):
        create_solver("greedy").solve(problem)


def stopped(found: IntegerAnswer) -> IntegerAnswer:
    return dataclasses.replace(found, outcome="feasible", bound=None)


@pytest.mark.usefixtures("branch_only")
def test_an_incumbent_at_the_time_limit_is_not_proven(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = random_problem(6, slots=20, options=8)
    original = mip.solve_integer
    monkeypatch.setattr(mip, "solve_integer", lambda *a, **k: stopped(original(*a, **k)))
    solution = MipSolver().solve(problem)
    verify(problem, solution)
    assert solution.status == "incumbent"
    assert solution.gap > 1e-6
    assert solution.bound == solution.lp_bound


@pytest.mark.parametrize("backend", ["highs", "cbc"])
def test_a_tiny_time_limit_gives_an_incumbent(backend: adapter.Backend) -> None:
    problem = random_problem(7, slots=60, options=20)
    solution = MipSolver(backend).solve(problem, time_limit_s=1e-6)
    verify(problem, solution)
    assert solution.status == "incumbent"
    assert solution.gap > 1e-6


@pytest.mark.parametrize("backend", ["highs", "cbc"])
def test_the_package_stopped_early_is_not_optimal(backend: adapter.Backend) -> None:
    """PuLP's own status says "Optimal" for such a search."""
    table = build_table(hard_problem(slots=60, options=30))
    relaxation = relax(table)
    program = build_program(table, relaxation.columns)
    found = adapter.solve_integer(program, time_limit_s=0.1, abs_gap=0.0, backend=backend)
    assert found.outcome in ("feasible", "unknown")
    if found.picked is not None and found.bound is not None:
        assert found.bound < table.total_loss(relaxation.columns[found.picked])


def test_without_any_pick_and_proof_it_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mip, "_first_picks", lambda *_: [])
    with pytest.raises(PassError, match="longer time limit"):
        MipSolver().solve(random_problem(6), time_limit_s=1e-9)


def test_a_wide_gap_is_an_incumbent() -> None:
    problem = random_problem(9, slots=20, options=8)
    solution = MipSolver().solve(problem, gap=0.5)
    verify(problem, solution)
    assert solution.gap <= 0.5
    assert solution.status == ("proven" if solution.gap <= 1e-6 else "incumbent")


@pytest.mark.usefixtures("branch_only")
def test_a_pick_within_tolerance_only_is_ruled_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package once returns a pick that breaks a budget; the search goes on without it."""
    problem = make_problem(
        {f"s{i}": {"a": (0.0, 2.0 + i), "b": (1.0 + i / 7, 1.0)} for i in range(6)},
        Budget(name="x", cost="a", limit=16.0),
    )
    original = mip.solve_integer
    calls = []

    def loose(program, **options):
        calls.append(len(program.caps))
        if len(calls) == 1:
            program = dataclasses.replace(program, caps=program.caps + 0.5)
        return original(program, **options)

    monkeypatch.setattr(mip, "solve_integer", loose)
    monkeypatch.setattr(mip, "_first_picks", lambda *_: [])
    solution = MipSolver().solve(problem)
    verify(problem, solution)
    assert max(calls) > 1
    assert solution.objective == pytest.approx(brute_force(problem))


def test_difference_excludes_exactly_the_choice() -> None:
    problem = make_problem({"s": {"a": (0.0,), "b": (3.0,)}, "t": {"a": (0.0,), "b": (2.0,)}})
    solver = MipSolver()
    losses, forbid = [], []
    while (found := solver.solve(problem, forbid=forbid)).status != "infeasible":
        losses.append(found.objective)
        forbid.append(Difference(choice=found.choice))
    assert losses == [0.0, 2.0, 3.0, 5.0]


def test_names_the_command_that_adds_a_solver(monkeypatch: pytest.MonkeyPatch) -> None:
    import pulp

    class Absent:
        def __init__(self, **_: object) -> None: ...

        def available(self) -> bool:
            return False

    for name in ("HiGHS", "PULP_CBC_CMD", "COIN_CMD"):
        monkeypatch.setattr(pulp, name, Absent)
    with pytest.raises(CapabilityError, match="pip install highspy"):
        MipSolver().solve(random_problem(1))


def test_falls_back_to_cbc(monkeypatch: pytest.MonkeyPatch) -> None:
    import pulp

    monkeypatch.setattr(pulp.HiGHS, "available", lambda _: False)
    assert adapter.default_backend() == "cbc"
    assert MipSolver().solve(random_problem(1)).proven
    with pytest.raises(CapabilityError, match="pip install highspy"):
        MipSolver(backend="highs").solve(random_problem(1))


def test_unknown_backend_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="highs or cbc"):
        MipSolver(backend="gurobi").solve(random_problem(1))  # type: ignore[arg-type]


@pytest.mark.parametrize("unit", [1e-9, 1e-3, 1.0, 1e9])
def test_units_do_not_matter(unit: float) -> None:
    problem = random_problem(10, slots=15, options=6)
    scaled = Problem(
        slots={
            slot: tuple(
                option.model_copy(
                    update={
                        "loss": unit * option.loss,
                        "costs": {k: v / unit for k, v in option.costs.items()},
                    }
                )
                for option in options
            )
            for slot, options in problem.slots.items()
        },
        budgets=tuple(
            b.model_copy(update={"limit": b.limit / unit, "fixed": b.fixed / unit})
            for b in problem.budgets
        ),
    )
    plain, other = MipSolver().solve(problem), MipSolver().solve(scaled)
    verify(scaled, other)
    assert other.proven
    assert other.objective / unit == pytest.approx(plain.objective, rel=2e-6)
