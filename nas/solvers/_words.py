"""Budgets and prices in words; units are read from the names of the costs."""

from __future__ import annotations

from collections.abc import Mapping

from nas.ir.problem import Budget, Problem, Solution
from nas.solvers._answer import relative_gap
from nas.solvers._base import PROVEN_GAP

_UNITS = {
    "tokens_per_s": "token/s",
    "mib_per_sequence": "MiB per sequence",
    "mib": "MiB",
    "gib": "GiB",
    "ms": "ms",
    "us": "us",
    "s": "s",
    "params_m": "million parameters",
    "m": "million",
    "gflops": "GFLOP",
    "mj": "mJ",
    "watts": "W",
}


def unit_of(cost: str) -> str:
    """The unit that a cost's name ends in (`stats.memory_mib`: MiB); "unit" when it names none."""
    path = cost.lower()
    words = path.replace(".", "_").split("_")
    suffixes = ["_".join(words[begin:]) for begin in range(len(words))]
    # A column that is called no more than `m` is as likely metres: what is counted stands before.
    alone = path.split(".")[-1] == "m"
    return next((_UNITS[s] for s in suffixes if s in _UNITS and not (alone and s == "m")), "unit")


def duals_in_words(
    problem: Problem, solution: Solution, without: Mapping[str, Solution] | None = None
) -> list[str]:
    """One sentence a budget on what one more unit is worth, at the optimum of the LP relaxation.

    `without`: for budgets that have no price, the proven optimum without this one
    (`without_unpriced`); where it is not known, nothing is said of the true optimum.
    """
    found = without or {}
    return [
        _price(budget, solution.duals.get(budget.name, 0.0), solution, found.get(budget.name))
        for budget in problem.budgets
    ]


def _price(budget: Budget, dual: float, solution: Solution, free: Solution | None) -> str:
    name, cost = budget.name, budget.cost
    column = name if name == cost else f"{name} ({cost})"
    if dual <= 0:
        return f"{column} {_unpriced(solution, free)}"
    upper = budget.sense == "max"
    change = f"1 {unit_of(cost)} {'more' if upper else 'less'}"
    asked = "of" if upper else "asked of"
    return f"{change} {asked} {column} would lower the loss by {dual:.2g} in the LP relaxation"


def _unpriced(solution: Solution, free: Solution | None) -> str:
    if free is None or free.objective is None or solution.objective is None:
        return "does not bind in the LP relaxation (price 0)"
    if relative_gap(solution.objective, free.objective) <= PROVEN_GAP:
        return "does not bind: without this limit the loss would be the same"
    return (
        "does not bind in the LP relaxation (price 0), but without this limit the loss would be "
        f"{free.objective:.6g}"
    )
