"""Local search with interactions against brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from nas.errors import ConfigError
from nas.ir import Budget, Option, Problem
from nas.solvers import MipSolver, Quadratic, best_swaps, improve, option_names


def _instance(seed: int, slots: int = 5, options: int = 3) -> tuple[Problem, Quadratic]:
    random = np.random.default_rng(seed)
    total = slots * options
    vectors = random.standard_normal((total, 6))
    vectors[::options] = 0  # the first option of a slot is the teacher's
    linear = np.where(np.arange(total) % options == 0, 0.0, random.uniform(-0.2, 0.2, total))
    pair = vectors @ vectors.T
    problem = Problem(
        slots={
            f"s{s}": tuple(
                Option(
                    variant=f"v{o}",
                    loss=float(pair[s * options + o, s * options + o]),
                    costs={"ms": float(options - o) + 0.1 * s},
                )
                for o in range(options)
            )
            for s in range(slots)
        },
        budgets=(Budget(name="ms", cost="ms", limit=0.62 * slots * options),),
    )
    return problem, Quadratic(linear, pair)


def _value(problem: Problem, model: Quadratic, choice: dict[str, str]) -> float:
    names = option_names(problem)
    return model.value(np.array([names.index(f"{s}/{v}") for s, v in choice.items()]))


def _feasible(problem: Problem, radius: int, home: dict[str, str]) -> list[dict[str, str]]:
    found = []
    for options in itertools.product(*problem.slots.values()):
        choice = {s: o.variant for s, o in zip(problem.slots, options, strict=True)}
        cost = sum(o.costs["ms"] for o in options)
        if cost <= problem.budgets[0].limit and sum(choice[s] != home[s] for s in home) <= radius:
            found.append(choice)
    return found


@pytest.mark.parametrize("radius", [1, 2, 5])
def test_answers_are_feasible_local_optima_and_mostly_global(radius: int) -> None:
    hits = 0
    for seed in range(20):
        problem, model = _instance(seed)
        start = MipSolver().solve(problem).choice
        found = improve(problem, model, start, radius=radius)
        allowed = _feasible(problem, radius, start)
        assert found in allowed
        value = _value(problem, model, found)
        assert value <= _value(problem, model, start)
        near = [c for c in allowed if sum(c[s] != found[s] for s in c) <= 2]
        assert value <= min(_value(problem, model, c) for c in near) + 1e-9
        hits += value <= min(_value(problem, model, c) for c in allowed) + 1e-9
    assert hits >= 15


@pytest.mark.parametrize("count", [0, 1, 7, 1000])
def test_best_swaps_are_the_first_of_all_neighbours(count: int) -> None:
    for seed in range(10):
        problem, model = _instance(seed)
        start = MipSolver().solve(problem).choice
        allowed = [c for c in _feasible(problem, 2, start) if c != start]
        ranked = sorted(allowed, key=lambda c: _value(problem, model, c))[:count]
        found = best_swaps(problem, model, start, count)
        values = [_value(problem, model, c) for c in found]
        assert values == pytest.approx([_value(problem, model, c) for c in ranked])
        assert all(c in allowed for c in found)


def test_the_radius_is_about_the_incumbent() -> None:
    problem, model = _instance(3)
    home = MipSolver().solve(problem).choice
    once = improve(problem, model, home, radius=1)
    again = improve(problem, model, once, incumbent=home, radius=1)
    assert again == once


def test_a_start_outside_the_budgets_is_refused() -> None:
    problem, model = _instance(0)
    with pytest.raises(ConfigError, match="start"):
        improve(problem, model, dict.fromkeys(problem.slots, "v0"))
