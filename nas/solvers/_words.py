"""Budgets and prices in words; units are read from the names of the costs."""

from __future__ import annotations

from nas.ir.problem import Problem, Solution

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
    words = cost.lower().replace(".", "_").split("_")
    for begin in range(len(words)):
        suffix = "_".join(words[begin:])
        if suffix in _UNITS:
            return _UNITS[suffix]
    return "unit"


def duals_in_words(problem: Problem, solution: Solution) -> list[str]:
    """One sentence a budget on what one more unit is worth, at the optimum of the LP relaxation."""
    return [
        _price(budget.name, budget.cost, budget.sense, solution.duals.get(budget.name, 0.0))
        for budget in problem.budgets
    ]


def _price(name: str, cost: str, sense: str, dual: float) -> str:
    column = name if name == cost else f"{name} ({cost})"
    if dual <= 0:
        return f"{column} does not bind: more of it would not lower the loss"
    change = f"1 {unit_of(cost)} {'more' if sense == 'max' else 'less'}"
    asked = "of" if sense == "max" else "asked of"
    return f"{change} {asked} {column} would lower the loss by {dual:.2g}"
