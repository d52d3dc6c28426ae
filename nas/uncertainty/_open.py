"""Which options could still be in the answer: a race, decided by paired differences.

With prices for the budgets, no answer that holds an option loses less than the Lagrangian bound and
what the option is dearer than the best of its slot. Where the second surely exceeds the gap between
the bound and an answer at hand, the option is out (racing by paired tests: Maron and Moore, NeurIPS
1993; Birattari et al., GECCO 2002).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from nas.ir.problem import Option, Problem, Solution
from nas.uncertainty._base import Floats
from nas.uncertainty._interval import student_quantile


def open_options(
    problem: Problem,
    solution: Solution,
    scores: Mapping[str, Floats],
    confidence: float,
    looks: int = 1,
) -> dict[str, list[str]]:
    """Slot -> variants that are not out at `confidence`, the chosen one first.

    `scores`: `slot/variant` to one loss a sequence, NaN where it was not measured; an option
    without scores is known exactly. The confidence is that of a slot: its options, and the `looks`
    that are taken in all, share the error probability (Bonferroni); prices and gap are taken as
    they were found. Options that have fewer than two sequences in common with the best of their
    slot stay in.
    """
    prices = problem.prices(solution.duals)
    priced = {slot: [_priced(o, prices) for o in group] for slot, group in problem.slots.items()}
    bound = sum(min(values) for values in priced.values()) - _allowance(problem, solution)
    gap = max(0.0, (solution.objective or 0.0) - bound)
    found = {}
    for slot, group in problem.slots.items():
        best = group[int(np.argmin(priced[slot]))]
        share = 1 - (1 - confidence) / (looks * max(1, len(group) - 1))
        chosen = solution.choice[slot]
        rivals = [
            o.variant
            for o in group
            if o.variant != chosen and _dearer(slot, o, best, prices, scores, share) <= gap
        ]
        found[slot] = [chosen, *rivals]
    return found


def _priced(option: Option, prices: Mapping[str, float]) -> float:
    return option.loss + sum(price * option.costs[cost] for cost, price in prices.items())


def _allowance(problem: Problem, solution: Solution) -> float:
    """The budgets, less what stands outside the slots, at their prices."""
    return sum(
        (1.0 if b.sense == "max" else -1.0) * solution.duals.get(b.name, 0.0) * (b.limit - b.fixed)
        for b in problem.budgets
    )


def _dearer(
    slot: str,
    option: Option,
    best: Option,
    prices: Mapping[str, float],
    scores: Mapping[str, Floats],
    confidence: float,
) -> float:
    """By how much `option` is dearer than `best`, at least; -inf where too little is known."""
    costs: float = sum(p * (option.costs[cost] - best.costs[cost]) for cost, p in prices.items())
    pair = [scores.get(f"{slot}/{o.variant}", np.array([o.loss])) for o in (option, best)]
    ours, theirs = pair
    if len(ours) == len(theirs) == 1:
        return option.loss - best.loss + costs
    differences = (ours - theirs)[~np.isnan(ours - theirs)]
    count = len(differences)
    if count < 2:
        return -math.inf
    error = float(np.std(differences, ddof=1)) / count**0.5
    # One side only: the two-sided quantile of 1 - 2 alpha.
    reach = student_quantile(2 * confidence - 1, count - 1) * error
    return float(differences.mean() - reach + costs)
