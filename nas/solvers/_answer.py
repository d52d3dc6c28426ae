"""From a pick to a `Solution`: totals from the raw problem, gap, and a status that is earned."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from nas.errors import ConfigError
from nas.ir.problem import Budget, Problem, Solution
from nas.solvers._base import PROVEN_GAP
from nas.solvers._relaxation import Relaxation
from nas.solvers._table import Table

_TINY = 1e-12


@dataclass(frozen=True)
class Clock:
    """Wall time since the start of a solve, against its limit."""

    limit_s: float | None
    began: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.began

    @property
    def left_s(self) -> float | None:
        """Seconds left, never below 0; None without a limit."""
        return None if self.limit_s is None else max(0.0, self.limit_s - self.seconds)

    @property
    def over(self) -> bool:
        return self.limit_s is not None and self.seconds >= self.limit_s


def check_request(time_limit_s: float | None, gap: float) -> None:
    """Raise ConfigError for a limit or a gap without sense."""
    if time_limit_s is not None and not time_limit_s > 0:
        raise ConfigError(f"time limit: {time_limit_s} s; give a positive number of seconds")
    if not (math.isfinite(gap) and gap >= 0):
        raise ConfigError(f"gap: {gap}; give a relative gap >= 0, such as 1e-6")


def relative_gap(objective: float, bound: float) -> float:
    """(objective - bound) / max(|objective|, tiny)."""
    return max(0.0, objective - bound) / max(abs(objective), _TINY)


def answer(
    problem: Problem,
    choice: Mapping[str, str],
    *,
    bound: float,
    lp_bound: float,
    duals: dict[str, float],
    exact: bool,
    solver: str,
    seconds: float,
) -> Solution:
    """The solution of `choice`, its totals summed from the problem.

    With `exact` it is called proven when the gap is at most 1e-6; otherwise always an incumbent.
    """
    picked = [
        next(option for option in problem.slots[slot] if option.variant == variant)
        for slot, variant in choice.items()
    ]
    objective = math.fsum(option.loss for option in picked)
    costs = {
        budget.cost: math.fsum([budget.fixed, *(option.costs[budget.cost] for option in picked)])
        for budget in problem.budgets
    }
    # Bounds are sums of as many terms as the objective: below this they differ by rounding alone.
    rounding = _TINY * math.fsum(abs(option.loss) for option in picked)
    bound, lp_bound = (
        objective if objective - value <= rounding else value for value in (bound, lp_bound)
    )
    gap = relative_gap(objective, bound)
    return Solution(
        status="proven" if exact and gap <= PROVEN_GAP else "incumbent",
        choice=dict(choice),
        objective=objective,
        bound=bound,
        lp_bound=lp_bound,
        gap=gap,
        costs=costs,
        slack={budget.name: _slack(budget, costs[budget.cost]) for budget in problem.budgets},
        duals=duals,
        solver=solver,
        seconds=seconds,
    )


def with_choice(
    problem: Problem, solution: Solution, choice: Mapping[str, str], realised_kl: float
) -> Solution:
    """`solution` with a feasible choice that was run as a whole; its bound on the sum stays."""
    assert solution.bound is not None
    assert solution.lp_bound is not None
    moved = answer(
        problem,
        choice,
        bound=solution.bound,
        lp_bound=solution.lp_bound,
        duals=solution.duals,
        exact=solution.proven,
        solver=f"{solution.solver} and refine",
        seconds=solution.seconds,
    )
    return moved.model_copy(update={"realised_kl": realised_kl})


def infeasible(problem: Problem, *, solver: str, seconds: float) -> Solution:
    """The answer that no choice meets the budgets, with the tightest value of each alone."""
    return Solution(
        status="infeasible",
        tightest={budget.name: tightest_alone(problem, budget) for budget in problem.budgets},
        solver=solver,
        seconds=seconds,
    )


def tightest_alone(problem: Problem, budget: Budget) -> float:
    """The least (`max`) or greatest (`min`) total that `budget` alone leaves feasible."""
    best = min if budget.sense == "max" else max
    return math.fsum(
        [
            budget.fixed,
            *(best(o.costs[budget.cost] for o in options) for options in problem.slots.values()),
        ]
    )


def budget_bound(table: Table, relaxation: Relaxation) -> float:
    """The Lagrangian bound of the budgets alone, without the rows of differences.

    It can be recomputed from a solution's `duals` and the problem, and holds with differences too.
    """
    count = len(table.budgets)
    duals = relaxation.duals[:count]
    least = table.slot_min(table.loss + duals @ table.rows[:count])
    return math.fsum([*least.tolist(), *(-duals * table.caps[:count]).tolist()])


def budget_duals(table: Table, relaxation: Relaxation) -> dict[str, float]:
    """Dual price of each budget by name, per unit of its cost."""
    return {name: float(d) for name, d in zip(table.budgets, relaxation.duals, strict=False)}


def _slack(budget: Budget, total: float) -> float:
    left = budget.limit - total if budget.sense == "max" else total - budget.limit
    # A budget met but for rounding is met exactly.
    rounding = 1e-9 * (abs(budget.limit) + abs(total))
    return 0.0 if -rounding <= left < 0 else left
