"""Sequential re-linearisation on a loss that is known everywhere."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from nas.ir import Budget, Option, Problem
from nas.solvers import Quadratic, last_kept, option_names, refine_choice

SLOTS = 8


class Landscape:
    """The KL of a choice is |target - sum of its vectors|^2; `lie` bends what an expansion says."""

    def __init__(self, lie: float = 0.0) -> None:
        random = np.random.default_rng(1)
        self.vectors = random.standard_normal((SLOTS, 2, 5))
        self.vectors[:, 0] = 0
        self.target, self.lie, self.runs = 2 * random.standard_normal(5), lie, 0
        costs = ({"ms": 2.0}, {"ms": 1.0})
        self.problem = Problem(
            slots={
                str(s): tuple(Option(variant=str(v), loss=0.0, costs=costs[v]) for v in (0, 1))
                for s in range(SLOTS)
            },
            budgets=(Budget(name="ms", cost="ms", limit=1.5 * SLOTS),),
        )
        self.start = {str(s): str(int(s < SLOTS // 2)) for s in range(SLOTS)}

    def total(self, choice: Mapping[str, str]) -> np.ndarray:
        return np.sum([self.vectors[int(s), int(v)] for s, v in choice.items()], axis=0)

    def realise(self, choice: Mapping[str, str]) -> float:
        self.runs += 1
        return float(np.square(self.target - self.total(choice)).sum())

    def expand(self, choice: Mapping[str, str], n: int) -> tuple[Problem, Quadratic]:
        moves = np.array(
            [
                self.vectors[int(s), int(v)] - self.vectors[int(s), int(choice[s])]
                for s, v in (name.split("/") for name in option_names(self.problem))
            ]
        )
        slope = -2 * moves @ (self.target - self.total(choice))
        return self.problem, Quadratic((1 - self.lie) * slope, moves @ moves.T)


def test_an_honest_expansion_is_followed_to_a_lower_loss_under_the_budget() -> None:
    land = Landscape()
    steps = refine_choice(
        land.start, expand=land.expand, realise=land.realise, rounds=5, radius=SLOTS
    )
    end = last_kept(steps)
    assert end.realised_kl < 0.7 * steps[0].realised_kl
    assert all(step.realised_kl == pytest.approx(step.expected_kl) for step in steps)
    assert sum(2 - int(v) for v in end.choice.values()) <= 1.5 * SLOTS
    kept = [step.realised_kl for step in steps if step.kept]
    assert kept == sorted(kept, reverse=True)


def test_a_lying_expansion_is_never_believed() -> None:
    land = Landscape(lie=2.0)  # it points uphill
    steps = refine_choice(
        land.start, expand=land.expand, realise=land.realise, rounds=5, radius=SLOTS
    )
    assert len(steps) > 1
    assert last_kept(steps).realised_kl <= steps[0].realised_kl
    rejected = [step for step in steps[1:] if not step.kept]
    assert rejected
    assert all(step.expected_kl < step.realised_kl for step in rejected)


def test_a_round_keeps_the_lowest_of_what_it_ran() -> None:
    land = Landscape(lie=-3.0)  # promises too much: long steps go too far
    steps = refine_choice(
        land.start, expand=land.expand, realise=land.realise, rounds=3, radius=SLOTS
    )
    shorter = False
    for n in {step.round for step in steps}:
        group = [step for step in steps if step.round == n]
        for kept in (step for step in group if step.kept):
            assert kept.realised_kl == min(step.realised_kl for step in group)
            shorter |= kept.radius < group[0].radius
    assert shorter


def test_no_choice_is_run_twice_in_a_round() -> None:
    land = Landscape(lie=2.0)
    steps = refine_choice(
        land.start, expand=land.expand, realise=land.realise, rounds=1, radius=SLOTS
    )
    choices = [tuple(step.choice.items()) for step in steps]
    assert len(set(choices)) == len(choices) == land.runs


def test_every_round_is_counted_even_those_not_needed() -> None:
    land, rounds = Landscape(), []
    refine_choice(
        land.start,
        expand=land.expand,
        realise=land.realise,
        rounds=7,
        radius=SLOTS,
        advance=rounds.append,
    )
    assert sum(rounds) == 7
