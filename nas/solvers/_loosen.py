"""The least excess over all budgets together, where no single one is enough to relax."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from nas.ir.problem import Budget, Problem
from nas.solvers._answer import tightest_alone
from nas.solvers._program import build_program
from nas.solvers._pulp_adapter import solve_integer
from nas.solvers._table import Floats, build_table

_GAP = 1e-7
"""Summed relative excess that is not worth a search."""
_LIMIT_S = 30.0


@dataclass(frozen=True)
class Loosened:
    """`limits` that one choice meets, by budget: those that have to move. `least`: no other choice
    is proven to need less, summed over all budgets relative to their limits."""

    limits: dict[str, float]
    least: bool


def loosen_together(problem: Problem, *, time_limit_s: float | None = None) -> Loosened | None:
    """The limits that exceed those asked for by the least sum of relative excess.

    Relative to the limit, or to the tightest value of the budget where the limit is 0. The search
    takes 30 s at most where no `time_limit_s` is given. None when it found nothing in time.
    """
    table = build_table(problem)
    program = build_program(table, np.arange(table.options, dtype=np.int64))
    worth = program.row_units / np.array([_scale(problem, budget) for budget in problem.budgets])
    unit = float(worth.max())
    found = solve_integer(
        replace(program, loss=np.zeros(table.options), slack=worth / unit, unit=unit, offset=0.0),
        time_limit_s=_LIMIT_S if time_limit_s is None else time_limit_s,
        abs_gap=_GAP,
    )
    if found.picked is None:
        return None
    over: Floats = table.rows[:, found.picked].sum(axis=1) > table.caps
    choice = table.choice(found.picked)
    limits = {
        b.name: _total(problem, b, choice) for b, o in zip(problem.budgets, over, strict=True) if o
    }
    return Loosened(limits, least=found.outcome == "optimal")


def _scale(problem: Problem, budget: Budget) -> float:
    return abs(budget.limit) or abs(tightest_alone(problem, budget)) or 1.0


def _total(problem: Problem, budget: Budget, choice: dict[str, str]) -> float:
    picked = (
        option.costs[budget.cost]
        for slot, options in problem.slots.items()
        for option in options
        if option.variant == choice[slot]
    )
    return math.fsum([budget.fixed, *picked])
