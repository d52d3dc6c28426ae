"""What the budgets without a price are worth after all: an LP price of 0 proves nothing."""

from __future__ import annotations

from nas.errors import PassError
from nas.ir.problem import Budget, Problem, Solution
from nas.solvers._base import Known
from nas.solvers._mip import MipSolver

_LEAST_S = 1.0


def without_unpriced(
    problem: Problem, solution: Solution, *, time_limit_s: float | None = None
) -> dict[str, Solution]:
    """For each budget without a price, the optimum without this budget, all others kept.

    Only what is proven is in it, and nothing for a solution that is not proven itself. A search may
    take as long as that of `solution` did (a second at least), and never more than `time_limit_s`.
    """
    if not solution.proven:
        return {}
    limit_s = max(_LEAST_S, solution.seconds)
    if time_limit_s is not None:
        limit_s = min(limit_s, time_limit_s)
    found = {
        budget.name: _without(problem, budget, solution, limit_s)
        for budget in problem.budgets
        if not solution.duals.get(budget.name, 0.0) > 0
    }
    return {name: free for name, free in found.items() if free is not None and free.proven}


def _without(
    problem: Problem, budget: Budget, solution: Solution, limit_s: float
) -> Solution | None:
    kept = tuple(other for other in problem.budgets if other.name != budget.name)
    # The LP bound is proven by the prices, and that of this budget is 0: it holds without it, too.
    known = Known(choice=solution.choice, bound=solution.lp_bound)
    try:
        return MipSolver().solve(
            problem.model_copy(update={"budgets": kept}), time_limit_s=limit_s, known=known
        )
    except PassError:
        return None
