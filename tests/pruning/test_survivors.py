"""What could still enter a solution stays; the rest goes for a reason."""

from __future__ import annotations

import numpy as np
import pytest

from nas.ir import Budget, Option, Problem
from nas.pruning import Estimate, judge_candidates
from nas.solvers import MipSolver


def _library(seed: int, slots: int = 12, options: int = 8) -> Problem:
    random = np.random.default_rng(seed)
    found = {}
    for s in range(slots):
        scale = np.exp(random.normal())
        costs = np.sort(random.uniform(0.05, 0.95, options))
        losses = scale * (1 - costs) ** 2 * np.exp(0.5 * random.normal(size=options))
        found[f"s{s}"] = (
            Option(variant="teacher", loss=0.0, costs={"ms": 1.0}),
            *(
                Option(variant=f"v{i}", loss=float(loss), costs={"ms": float(cost)})
                for i, (loss, cost) in enumerate(zip(losses, costs, strict=True))
            ),
        )
    budget = Budget(name="ms", cost="ms", limit=0.6 * slots)
    return Problem(slots=found, budgets=(budget,))


def _estimates(problem: Problem, factor: float) -> dict[str, Estimate]:
    return {
        f"{slot}/{o.variant}": Estimate(o.loss, o.loss / factor, o.loss * factor)
        for slot, group in problem.slots.items()
        for o in group
        if o.variant != "teacher"
    }


@pytest.mark.parametrize("seed", range(6))
def test_with_known_losses_the_optimum_is_found_among_the_survivors(seed: int) -> None:
    problem = _library(seed)
    verdicts = judge_candidates(problem, _estimates(problem, 1.0), keep=0.5, reach=0.1, cells=3)
    kept = {(v.slot, v.variant) for v in verdicts if v.kept}
    assert len(kept) <= 0.5 * len(verdicts)
    smaller = problem.model_copy(
        update={
            "slots": {
                slot: tuple(o for o in group if o.variant == "teacher" or (slot, o.variant) in kept)
                for slot, group in problem.slots.items()
            }
        }
    )
    for limit in (problem.budgets[0].limit, 0.9 * problem.budgets[0].limit):
        budgets = (problem.budgets[0].model_copy(update={"limit": limit}),)
        whole = MipSolver().solve(problem.model_copy(update={"budgets": budgets}))
        pruned = MipSolver().solve(smaller.model_copy(update={"budgets": budgets}))
        assert pruned.objective == pytest.approx(whole.objective, rel=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_what_is_dominated_enters_no_solution_that_the_intervals_allow(seed: int) -> None:
    problem, factor = _library(seed), 1.2
    verdicts = judge_candidates(problem, _estimates(problem, factor), keep=1.0, reach=0.0, cells=3)
    gone = {(v.slot, v.variant): v.reason for v in verdicts if not v.kept}
    assert any(reason.startswith("dominated") for reason in gone.values())
    random = np.random.default_rng(seed)
    for _ in range(5):
        drawn = problem.model_copy(
            update={
                "slots": {
                    slot: tuple(
                        o.model_copy(
                            update={"loss": o.loss * factor ** float(random.uniform(-1, 1))}
                        )
                        for o in group
                    )
                    for slot, group in problem.slots.items()
                }
            }
        )
        chosen = set(MipSolver().solve(drawn).choice.items())
        assert not {key for key in chosen & set(gone) if gone[key].startswith("dominated")}


def test_wide_intervals_keep_more_than_narrow_ones() -> None:
    problem = _library(0)
    counts = [
        sum(
            v.kept
            for v in judge_candidates(
                problem, _estimates(problem, factor), keep=1.0, reach=0.1, cells=3
            )
        )
        for factor in (1.0, 1.5, 10.0)
    ]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]


def test_what_the_solutions_choose_stays_whatever_the_share() -> None:
    problem = _library(1)
    verdicts = judge_candidates(problem, _estimates(problem, 1.2), keep=0.01, reach=0.0, cells=3)
    chosen = {(s, v) for s, v in MipSolver().solve(problem).choice.items() if v != "teacher"}
    assert {(v.slot, v.variant) for v in verdicts if v.kept} == chosen
    assert {v.reason for v in verdicts if not v.kept and v.regret_nats < 1e-3} <= {
        "beyond the share to keep"
    }


def test_without_budgets_only_losses_count() -> None:
    problem = _library(2).model_copy(update={"budgets": ()})
    verdicts = judge_candidates(problem, _estimates(problem, 1.0), keep=1.0, reach=0.1, cells=3)
    assert all("hopeless" in v.reason for v in verdicts)
