"""Trials near the decision find what knowing every loss would choose, for a part of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from nas.ir import Budget, Option, Problem
from nas.solvers import MipSolver
from nas.trials import try_nearby


def _library(seed: int, slots: int = 16, options: int = 8) -> tuple[Problem, dict[str, float]]:
    """A problem of true losses, and their proxies."""
    random, found, proxies = np.random.default_rng(seed), {}, {}
    for s in range(slots):
        scale, bias = np.exp(random.normal()), random.normal(0, 0.3)
        costs = np.sort(random.uniform(0.05, 0.95, options))
        losses = scale * (1 - costs) ** 2 * np.exp(0.3 * random.normal(size=options))
        for v in range(options):
            proxies[f"s{s}/v{v}"] = float(losses[v] * np.exp(bias + 0.2 * random.normal()))
        found[f"s{s}"] = (
            Option(variant="teacher", loss=0.0, costs={"ms": 1.0}),
            *(
                Option(variant=f"v{i}", loss=float(loss), costs={"ms": float(cost)})
                for i, (loss, cost) in enumerate(zip(losses, costs, strict=True))
            ),
        )
    budget = Budget(name="ms", cost="ms", limit=0.6 * slots)
    return Problem(slots=found, budgets=(budget,)), proxies


class _Laboratory:
    def __init__(self, problem: Problem) -> None:
        self.true = {f"{s}/{o.variant}": o.loss for s, g in problem.slots.items() for o in g}
        self.asked: list[str] = []

    def __call__(self, names: Sequence[str]) -> dict[str, float]:
        self.asked += names
        return {name: self.true[name] for name in names}


def _choice(problem: Problem, losses: dict[str, float]) -> dict[str, str]:
    slots = {
        slot: tuple(
            o.model_copy(update={"loss": losses.get(f"{slot}/{o.variant}", o.loss)}) for o in group
        )
        for slot, group in problem.slots.items()
    }
    return MipSolver().solve(problem.model_copy(update={"slots": slots})).choice


def _loss(true: dict[str, float], choice: dict[str, str]) -> float:
    return sum(true[f"{slot}/{variant}"] for slot, variant in choice.items())


def test_most_of_what_the_proxies_lose_is_won_back_by_few_trials() -> None:
    lost, left, trials = 0.0, 0.0, 0
    for seed in range(8):
        problem, proxies = _library(seed)
        laboratory = _Laboratory(problem)
        best = _loss(laboratory.true, MipSolver().solve(problem).choice)
        found = try_nearby(problem, proxies, laboratory, most=32)
        lost += _loss(laboratory.true, _choice(problem, proxies)) / best - 1
        left += _loss(laboratory.true, _choice(problem, found.means)) / best - 1
        trials += len(found.known)
        assert sorted(found.known) == sorted(laboratory.asked)  # none is asked for twice
        assert sum(found.rounds) == len(found.known) <= 32
    assert left < 0.25 * lost
    assert trials <= 0.25 * 8 * len(proxies)


def test_with_trials_enough_everything_chosen_has_been_run() -> None:
    problem, proxies = _library(1)
    laboratory = _Laboratory(problem)
    found = try_nearby(problem, proxies, laboratory, most=128)
    chosen = {f"{s}/{v}" for s, v in _choice(problem, found.means).items() if v != "teacher"}
    assert chosen <= set(found.known)
    assert len(found.known) < 64  # it ends by itself
    best = _loss(laboratory.true, MipSolver().solve(problem).choice)
    assert _loss(laboratory.true, _choice(problem, found.means)) <= 1.01 * best


def test_trials_are_the_same_each_time_and_an_infeasible_reach_is_left_out() -> None:
    problem, proxies = _library(2)
    first = try_nearby(problem, proxies, _Laboratory(problem), most=20, reach=0.95)
    again = try_nearby(problem, proxies, _Laboratory(problem), most=20, reach=0.95)
    assert first.known == again.known
    assert first.rounds == again.rounds
    np.testing.assert_array_equal(first.belief.center, again.belief.center)


def test_options_that_are_no_candidates_keep_their_loss() -> None:
    problem, proxies = _library(3)
    fewer = {name: loss for name, loss in proxies.items() if not name.startswith("s0/")}
    laboratory = _Laboratory(problem)
    found = try_nearby(problem, fewer, laboratory, most=10)
    assert set(found.names) == set(fewer)
    assert not any(name.startswith("s0/") for name in laboratory.asked)


@pytest.mark.parametrize("most", [1, 5])
def test_no_more_than_asked_for_are_run(most: int) -> None:
    problem, proxies = _library(4)
    assert len(try_nearby(problem, proxies, _Laboratory(problem), most=most).known) == most
