"""The baselines: what they are supposed to do, and how far from the optimum they may be."""

from __future__ import annotations

import pytest

from nas.errors import CapabilityError, ConfigError
from nas.ir.problem import Budget
from nas.solvers import (
    EqualSplitSolver,
    EvolutionSolver,
    GreedySolver,
    MipSolver,
    RandomSolver,
)
from tests.solvers.instances import make_problem, random_problem


def test_marginal_ratio_takes_the_cheapest_loss_per_unit_saved() -> None:
    problem = make_problem(
        {
            "s": {"full": (0.0, 10.0), "half": (1.0, 5.0)},
            "t": {"full": (0.0, 10.0), "half": (0.5, 9.0)},
        },
        Budget(name="x", cost="a", limit=15.0),
    )
    assert GreedySolver().solve(problem).choice == {"s": "half", "t": "full"}


def test_greedy_spends_what_its_swaps_left_over() -> None:
    """The swap in s saves more than asked, after which t can take its better option back."""
    problem = make_problem(
        {
            "t": {"full": (0.0, 4.0), "half": (0.1, 2.0)},
            "s": {"full": (0.0, 20.0), "none": (1.0, 0.0)},
        },
        Budget(name="x", cost="a", limit=10.0),
    )
    solution = GreedySolver().solve(problem)
    assert solution.choice == {"t": "full", "s": "none"}


def test_equal_split_hands_on_what_a_slot_leaves() -> None:
    options = {"full": (0.0, 10.0), "half": (1.0, 5.0), "none": (4.0, 0.0)}
    problem = make_problem(
        {f"s{i}": options for i in range(4)}, Budget(name="x", cost="a", limit=27.0)
    )
    choice = EqualSplitSolver().solve(problem).choice
    assert list(choice.values()) == ["half", "half", "half", "full"]


@pytest.mark.parametrize("seed", range(5))
def test_baselines_stand_in_the_known_order(seed: int) -> None:
    problem = random_problem(seed, slots=30, options=8)
    best = MipSolver().solve(problem).objective
    ratio = {
        solver.name: solver.solve(problem).objective / best
        for solver in (GreedySolver(), EqualSplitSolver(), RandomSolver())
    }
    assert 1 <= ratio["greedy"] < 1.1
    assert ratio["greedy"] <= ratio["equal_split"] < ratio["random"]


def test_random_depends_on_its_seed_and_more_samples_help() -> None:
    problem = random_problem(1)
    one, other = (RandomSolver(seed=s).solve(problem) for s in (1, 2))
    assert one.choice != other.choice
    assert RandomSolver(seed=1, samples=50).solve(problem).objective < one.objective


def test_evolution_improves_with_trials() -> None:
    problem = random_problem(1)
    few, many = (EvolutionSolver(trials=n).solve(problem).objective for n in (20, 300))
    assert many < few


def test_evolution_names_the_command_that_adds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(CapabilityError, match="pip install"):
        EvolutionSolver().solve(random_problem(1))


def test_settings_without_sense_are_refused() -> None:
    with pytest.raises(ConfigError, match="samples"):
        RandomSolver(samples=0)
    with pytest.raises(ConfigError, match="population"):
        EvolutionSolver(population=1)
