"""Problems whose losses are means of known per-sequence scores."""

from __future__ import annotations

import numpy as np

from nas.ir.problem import Problem
from tests.solvers.instances import random_problem, with_losses

Scores = dict[str, np.ndarray]


def names_of(problem: Problem) -> list[str]:
    """`slot/variant` of every option."""
    return [f"{s}/{o.variant}" for s, options in problem.slots.items() for o in options]


def scored(
    sequences: int, seed: int = 0, slots: int = 6, options: int = 4
) -> tuple[Problem, Scores]:
    """A problem, and scores that share a factor by sequence; the heaviest option of a slot has
    none, and loses nothing, as a teacher's own block."""
    generator = np.random.default_rng(seed)
    problem = random_problem(seed, slots, options)
    exact = np.array([name.endswith(f"/v{options - 1}") for name in names_of(problem)])
    true = np.array([o.loss for opts in problem.slots.values() for o in opts])
    factors = generator.lognormal(0, 0.4, (sequences, 1)) * generator.lognormal(
        0, 0.3, (sequences, len(true))
    )
    values = np.where(exact, 0.0, true * factors)
    scores = {
        name: column
        for name, column, sure in zip(names_of(problem), values.T, exact, strict=True)
        if not sure
    }
    return with_losses(problem, values.mean(axis=0)), scores
