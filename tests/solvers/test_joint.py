"""Joint diversity: the least sum of losses of several choices that differ pairwise."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import nas.solvers._joint as joint
from nas.errors import ConfigError, PassError
from nas.ir.problem import Budget, Problem
from nas.solvers import JointSolution, diverse, diverse_jointly, verify_joint
from nas.solvers._pulp_adapter import IntegerAnswer
from tests.solvers.instances import make_problem, meets, random_problem, small_problems


def best_sum(problem: Problem, k: int, differ: int) -> float | None:
    """The least sum by trying every set of `k` feasible choices."""
    feasible = [
        choice for choice in itertools.product(*problem.slots.values()) if meets(problem, choice)
    ]
    apart = {
        (i, j)
        for (i, one), (j, other) in itertools.combinations(enumerate(feasible), 2)
        if sum(a != b for a, b in zip(one, other, strict=True)) >= differ
    }
    sums = [
        math.fsum(option.loss for i in group for option in feasible[i])
        for group in itertools.combinations(range(len(feasible)), k)
        if all(pair in apart for pair in itertools.combinations(group, 2))
    ]
    return min(sums, default=None)


def crossing(*more: str) -> Problem:
    """In two slots `b` costs what only one of them may spend: `ab` and `ba` are feasible; `bb`, the
    one that differs from the best choice `aa` in both, is not. `c` is bad and costs nothing."""
    options = {"a": (0.0, 0.0), "b": (1.0, 1.0), "c": (9.0, 0.0)}
    offered = {variant: options[variant] for variant in ("a", "b", *more)}
    return make_problem({"s": offered, "t": offered}, Budget(name="x", cost="a", limit=1.0))


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(small_problems(most_slots=3, most_options=3), st.integers(1, 3), st.integers(1, 3))
def test_the_sum_is_the_least_and_never_above_the_greedy_one(
    problem: Problem, k: int, differ: int
) -> None:
    differ = min(differ, len(problem.slots))
    found = diverse_jointly(problem, k, differ)
    verify_joint(problem, found)
    greedy = diverse(problem, k, differ)
    count = len(found.solutions)
    assert len(greedy) <= count <= k
    for more in range(count + 1, k + 1):
        assert best_sum(problem, more, differ) is None
    if not count:
        assert found.status == "infeasible"
        return
    magnitude = count * sum(max(abs(o.loss) for o in opts) for opts in problem.slots.values())
    rounding = 1e-9 * magnitude
    best = best_sum(problem, count, differ)
    assert found.status == "proven"
    assert found.objective == pytest.approx(best, rel=2e-6, abs=rounding)
    assert found.bound <= best + rounding
    if len(greedy) == count:
        assert found.objective <= math.fsum(s.objective for s in greedy) + rounding


@pytest.mark.parametrize("seed", range(3))
def test_the_sum_of_larger_problems_is_proven_and_below_the_greedy_one(seed: int) -> None:
    problem = random_problem(seed, slots=6, options=4)
    found = diverse_jointly(problem, 3, 4)
    verify_joint(problem, found)
    greedy = diverse(problem, 3, 4)
    assert found.status == "proven"
    assert found.greedy_objective == pytest.approx(math.fsum(s.objective for s in greedy))
    assert found.objective <= found.greedy_objective
    losses = [solution.objective for solution in found.solutions]
    assert losses == sorted(losses)


def test_joint_gives_the_best_up_for_a_better_sum() -> None:
    found = diverse_jointly(crossing("c"), 2, 2)
    verify_joint(crossing("c"), found)
    assert (found.status, found.objective, found.greedy_objective) == ("proven", 2.0, 10.0)


def test_joint_finds_more_solutions_than_greedy() -> None:
    greedy, found = diverse(crossing(), 2, 2), diverse_jointly(crossing(), 2, 2)
    verify_joint(crossing(), found)
    assert [s.choice for s in greedy] == [{"s": "a", "t": "a"}]
    assert {tuple(s.choice.values()) for s in found.solutions} == {("a", "b"), ("b", "a")}
    assert (found.objective, found.greedy_objective) == (2.0, None)


def test_fewer_solutions_where_no_more_exist() -> None:
    problem = make_problem({"s": {"a": (0.0,), "b": (1.0,)}})
    found = diverse_jointly(problem, 5, 1)
    verify_joint(problem, found)
    assert [s.choice["s"] for s in found.solutions] == ["a", "b"]
    assert (found.status, found.objective) == ("proven", 1.0)


def test_a_problem_without_an_answer_has_no_joint_one() -> None:
    problem = make_problem({"s": {"a": (0.0, 2.0)}}, Budget(name="x", cost="a", limit=1.0))
    found = diverse_jointly(problem, 2, 1)
    verify_joint(problem, found)
    assert (found.status, found.solutions, found.objective) == ("infeasible", (), None)


def test_without_time_the_greedy_answer_stands_with_an_honest_gap(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stopped(*_: Any, **__: Any) -> IntegerAnswer:
        return IntegerAnswer("unknown", None, None)

    monkeypatch.setattr(joint, "solve_integer", stopped)
    problem = random_problem(1, share=0.6)
    found = diverse_jointly(problem, 3, 4)
    verify_joint(problem, found)
    assert found.status == "incumbent"
    assert found.gap > 1e-6
    assert found.objective == found.greedy_objective
    assert found.bound == pytest.approx(3 * diverse(problem, 1, 1)[0].objective)


@pytest.mark.parametrize(("k", "differ"), [(0, 1), (2, 0), (2, 13)])
def test_requests_without_sense_are_refused(k: int, differ: int) -> None:
    with pytest.raises(ConfigError, match="slots"):
        diverse_jointly(random_problem(1), k, differ)


@pytest.fixture(scope="module")
def honest() -> JointSolution:
    return diverse_jointly(random_problem(1, share=0.6), 2, 4)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"objective": 0.0}, "objective: 0.0 claimed"),
        ({"bound": 1e3}, "bound: 1000.0 lies above"),
        ({"lp_bound": 1e3}, "lp_bound: 1000.0 claimed, the duals prove only"),
        ({"gap": 0.5}, "gap: 0.5 claimed"),
        ({"gap": None}, "needs all three"),
        ({"differ": 12}, "solutions 1 and 2: fewer than 12 slots differ"),
        ({"greedy_objective": -1.0}, "greedy_objective: -1.0 lies below"),
        ({"status": "infeasible"}, "infeasible claimed beside solutions"),
    ],
)
def test_the_certificate_catches_tampering(
    honest: JointSolution, changes: dict[str, Any], words: str
) -> None:
    problem = random_problem(1, share=0.6)
    verify_joint(problem, honest)
    with pytest.raises(PassError, match=words):
        verify_joint(problem, honest.model_copy(update=changes))
