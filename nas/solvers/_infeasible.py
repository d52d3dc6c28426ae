"""Why nothing meets the budgets, and the least that would have to give."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NoReturn, Self

from pydantic import BaseModel, ConfigDict, Field

from nas.errors import ConfigError, InfeasibleError
from nas.ir.problem import Budget, Option, Problem, Solution
from nas.solvers._answer import tightest_alone
from nas.solvers._base import Solver
from nas.solvers._loosen import loosen_together
from nas.solvers._mip import MipSolver
from nas.solvers._words import unit_of


@dataclass(frozen=True)
class Quotient:
    """A budget that was written as `numerator` over its cost, in `unit`: more of it is tighter."""

    numerator: float
    unit: str


class BudgetDiagnosis(BaseModel):
    """One budget that was asked for, in `unit`, fixed part included.

    `alone` is the tightest feasible value with no other budget, `with_others` the one with all
    others kept (None when those conflict already). `exact` is False when a time limit left
    `with_others` feasible but perhaps not tightest.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    cost: str
    sense: str
    unit: str
    limit: float
    alone: float
    with_others: float | None
    exact: bool = True

    @property
    def shift(self) -> float:
        """Relative change of the limit that makes the problem feasible; inf when it cannot."""
        if self.with_others is None:
            return math.inf
        return abs(self.with_others - self.limit) / max(abs(self.limit), 1e-12)

    def written_as(self, quotient: Quotient) -> Self:
        """The same in the user's terms: what the cost may at most be, its quotient is at least."""
        top, others = quotient.numerator, self.with_others
        return self.model_copy(
            update={
                "sense": "min",
                "unit": quotient.unit,
                "limit": top / self.limit,
                "alone": top / self.alone,
                "with_others": None if others is None else top / others,
            }
        )


class Infeasibility(BaseModel):
    """Every budget and how it fails.

    `conflict` is a smallest set of budgets that cannot be met together; `relaxation` the single
    budget whose limit needs the least relative change, None when no single one is enough. Then
    `together` holds limits that one choice meets, of the budgets that have to move; `least`: their
    summed relative excess is proven to be the least. `impossible`: what no choice meets alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    budgets: tuple[BudgetDiagnosis, ...]
    conflict: tuple[str, ...]
    relaxation: str | None
    together: dict[str, float] = Field(default_factory=dict)
    least: bool = False
    impossible: tuple[str, ...] = ()

    @property
    def tightest(self) -> dict[str, float]:
        """The tightest feasible value of each budget alone."""
        return {budget.name: budget.alone for budget in self.budgets}

    @classmethod
    def of(cls, budgets: Sequence[BudgetDiagnosis], conflict: tuple[str, ...]) -> Self:
        """Finds the relaxation."""
        relaxable = [budget for budget in budgets if budget.with_others is not None]
        cheapest = min(relaxable, key=lambda budget: budget.shift, default=None)
        name = cheapest.name if cheapest else None
        return cls(budgets=tuple(budgets), conflict=conflict, relaxation=name)

    def written_as(self, quotients: Mapping[str, Quotient]) -> Self:
        """The same, with the budgets that `quotients` names in the terms that the user wrote."""
        budgets = [
            budget.written_as(quotients[budget.name]) if budget.name in quotients else budget
            for budget in self.budgets
        ]
        together = {
            name: quotients[name].numerator / limit if name in quotients else limit
            for name, limit in self.together.items()
        }
        # The least excess of a cost is not quite the least shortfall of its quotient.
        least = self.least and quotients.keys().isdisjoint(together)
        update = {"together": together, "least": least, "impossible": self.impossible}
        return self.of(budgets, self.conflict).model_copy(update=update)

    def explain(self) -> str:
        """The diagnosis in words, several lines."""
        if len(self.impossible) > 1:
            lines = [
                f"no choice meets any of these budgets, each alone: {', '.join(self.impossible)}"
            ]
        elif len(self.conflict) == 1:
            lines = [f"no choice meets the budget {self.conflict[0]}"]
        else:
            lines = [f"no choice meets these budgets together: {', '.join(self.conflict)}"]
        lines += [f"  {_describe(budget)}" for budget in self.budgets]
        return "\n".join([*lines, self._way_out()])

    def _way_out(self) -> str:
        relaxed = next((b for b in self.budgets if b.name == self.relaxation), None)
        if relaxed is not None:
            return (
                f"cheapest way out: {relaxed.name} = {_number(relaxed, relaxed.with_others)} "
                f"{relaxed.unit} ({100 * relaxed.shift:.2g} % away), all others kept"
            )
        moved = [
            f"{budget.name} = {_number(budget, self.together[budget.name])} {budget.unit}"
            for budget in self.budgets
            if budget.name in self.together
        ]
        if not moved:
            return "no single budget is enough to relax: relax several, or drop one"
        which = "cheapest" if self.least else "one"
        return f"no single budget is enough to relax; {which} way out: {', '.join(moved)} together"


def diagnose(
    problem: Problem, *, time_limit_s: float | None = None, solver: Solver | None = None
) -> Infeasibility:
    """Explain an infeasible problem; `time_limit_s` is for each of the searches it takes.

    Raises ConfigError when the problem is feasible, PassError when a search finds nothing in time.
    """
    exact = solver or MipSolver()
    conflict = _smallest_conflict(problem, exact, time_limit_s)
    if conflict is None:
        raise ConfigError("the problem is feasible: there is nothing to diagnose")
    budgets = [_diagnose_budget(problem, b, exact, time_limit_s) for b in problem.budgets]
    found = Infeasibility.of(budgets, conflict)
    update: dict[str, object] = {"impossible": _impossible(problem, exact, time_limit_s)}
    if found.relaxation is None:
        loosened = loosen_together(problem, time_limit_s=time_limit_s)
        if loosened is not None:
            update |= {"together": loosened.limits, "least": loosened.least}
    return found.model_copy(update=update)


def raise_infeasible(
    problem: Problem, *, time_limit_s: float | None = None, solver: Solver | None = None
) -> NoReturn:
    """Raise InfeasibleError with the diagnosis in words and the tightest value of each budget."""
    found = diagnose(problem, time_limit_s=time_limit_s, solver=solver)
    raise InfeasibleError(found.explain(), tightest=found.tightest)


def _smallest_conflict(
    problem: Problem, solver: Solver, time_limit_s: float | None
) -> tuple[str, ...] | None:
    """By size, so that the first set found has no smaller one; None when all can be met."""
    for size in range(1, len(problem.budgets) + 1):
        for subset in combinations(problem.budgets, size):
            if _tightened(problem, None, subset, solver, time_limit_s).status == "infeasible":
                return tuple(budget.name for budget in subset)
    return None


def _impossible(problem: Problem, solver: Solver, time_limit_s: float | None) -> tuple[str, ...]:
    """The budgets that no choice meets, each alone."""
    return tuple(
        budget.name
        for budget in problem.budgets
        if _tightened(problem, None, [budget], solver, time_limit_s).status == "infeasible"
    )


def _diagnose_budget(
    problem: Problem, budget: Budget, solver: Solver, time_limit_s: float | None
) -> BudgetDiagnosis:
    others = [other for other in problem.budgets if other.name != budget.name]
    found = _tightened(problem, budget, others, solver, time_limit_s)
    reached = None
    if found.objective is not None:
        reached = budget.fixed + (1 if budget.sense == "max" else -1) * found.objective
    return BudgetDiagnosis(
        name=budget.name,
        cost=budget.cost,
        sense=budget.sense,
        unit=unit_of(budget.cost),
        limit=budget.limit,
        alone=tightest_alone(problem, budget),
        with_others=reached,
        exact=found.status != "incumbent",
    )


def _tightened(
    problem: Problem,
    budget: Budget | None,
    kept: Sequence[Budget],
    solver: Solver,
    time_limit_s: float | None,
) -> Solution:
    """Minimise the cost of `budget` (maximise for `min`; nothing for None) under `kept` alone."""
    sign = -1.0 if budget is not None and budget.sense == "min" else 1.0
    slots = {
        slot: tuple(
            Option(
                variant=option.variant,
                loss=sign * option.costs[budget.cost] if budget is not None else 0.0,
                costs=option.costs,
            )
            for option in options
        )
        for slot, options in problem.slots.items()
    }
    return solver.solve(Problem(slots=slots, budgets=tuple(kept)), time_limit_s=time_limit_s)


def _number(budget: BudgetDiagnosis, value: float | None) -> str:
    """Six digits, rounded to the feasible side so that the printed value works when typed in."""
    if value is None or value == 0:
        return "0"
    step = 10.0 ** (math.floor(math.log10(abs(value))) - 5)
    rounded = math.ceil(value / step - 1e-6)
    if budget.sense == "min":
        rounded = math.floor(value / step + 1e-6)
    return f"{rounded * step:.10g}"


def _describe(budget: BudgetDiagnosis) -> str:
    asked, best = ("at most", "least") if budget.sense == "max" else ("at least", "most")
    text = (
        f"{budget.name}: {asked} {budget.limit:.10g} {budget.unit} asked; "
        f"the {best} of any choice is {_number(budget, budget.alone)}"
    )
    if budget.with_others is None:
        return f"{text}; the other budgets conflict without it"
    hedge = "" if budget.exact else " (found within the time limit)"
    return f"{text}, with the other budgets kept {_number(budget, budget.with_others)}{hedge}"
