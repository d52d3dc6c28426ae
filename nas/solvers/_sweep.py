"""The front of loss against one budget, by repeated solves."""

from __future__ import annotations

from collections.abc import Sequence

from nas.errors import ConfigError
from nas.ir.problem import Problem, Solution
from nas.solvers._base import PROVEN_GAP, Solver
from nas.solvers._mip import MipSolver


def with_limit(problem: Problem, budget_name: str, limit: float) -> Problem:
    """A copy of `problem` with another limit for one budget; raises ConfigError if it has none."""
    names = [budget.name for budget in problem.budgets]
    if budget_name not in names:
        raise ConfigError(f"no budget {budget_name!r}; this problem has: {', '.join(names)}")
    budgets = tuple(
        budget.model_copy(update={"limit": limit}) if budget.name == budget_name else budget
        for budget in problem.budgets
    )
    return problem.model_copy(update={"budgets": budgets})


def sweep(
    problem: Problem,
    budget_name: str,
    values: Sequence[float],
    *,
    solver: Solver | None = None,
    time_limit_s: float | None = None,
    gap: float = PROVEN_GAP,
) -> list[Solution]:
    """Solve with each limit in `values`; the undominated answers, from the tightest limit on.

    A point is dropped when it is infeasible or when another has no more loss and no more of the
    budget's cost (no less, for `min`); of equal points one stays. `time_limit_s` and `gap` hold for
    each solve. The limit of a point is its cost plus (for `min`: minus) its slack.
    """
    chosen = solver or MipSolver()
    limited = [with_limit(problem, budget_name, value) for value in values]
    budget = next(b for b in problem.budgets if b.name == budget_name)
    sign = 1.0 if budget.sense == "max" else -1.0
    solved = [chosen.solve(p, time_limit_s=time_limit_s, gap=gap) for p in limited]
    points = sorted(
        (
            (sign * found.costs[budget.cost], found.objective, i)
            for i, found in enumerate(solved)
            if found.objective is not None
        ),
    )
    front: list[Solution] = []
    for _, loss, i in points:
        least = front[-1].objective if front else None
        if least is None or loss < least:
            front.append(solved[i])
    return front
