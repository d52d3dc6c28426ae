"""Check a solution against the raw problem with code that shares nothing with the solvers.

Everything is summed again with `math.fsum` in plain Python; the LP bound is proven again from the
solution's dual prices. The bound of a branch and bound cannot be recomputed, so only its order is
checked: LP bound <= bound <= objective.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING

from nas.errors import PassError
from nas.ir.problem import Budget, Option, Problem, Solution
from nas.solvers._base import Difference

if TYPE_CHECKING:
    from nas.solvers._joint import JointSolution

_RELATIVE = 1e-9
_PROVEN = 1e-6


def verify(problem: Problem, solution: Solution, *, forbid: Sequence[Difference] = ()) -> None:
    """Raise PassError naming everything in which `solution` disagrees with `problem`.

    Checked: one known option in every slot, objective, costs, slack, every budget, bound and gap,
    the LP bound from the duals, the differences asked for, and that `proven` is claimed only with a
    gap of at most 1e-6. Sums may differ by 1e-9 of the magnitudes summed.
    """
    if solution.status == "infeasible":
        faults = _check_infeasible(problem, solution)
    else:
        faults = _check_choice(problem, solution)
        if not faults:
            picked = _picked(problem, solution)
            faults = [
                *_check_objective(solution, picked),
                *_check_budgets(problem, solution, picked),
                *_check_bounds(problem, solution, picked),
                *_check_differences(solution, forbid),
            ]
    if faults:
        raise PassError(
            f"the solution of solver {solution.solver} fails its certificate: "
            + "; ".join(faults)
            + "; solve again with another solver and report this"
        )


def verify_joint(problem: Problem, found: JointSolution) -> None:
    """Raise PassError for a joint answer that disagrees with `problem` or with itself.

    Checked: each solution as by `verify`, that any two differ in as many slots as asked, the sum,
    that the dual prices of the solutions prove the LP bound, and the order of bounds and gap.
    """
    for solution in found.solutions:
        verify(problem, solution)
    faults = [
        f"solutions {i + 1} and {j + 1}: fewer than {found.differ} slots differ"
        for (i, one), (j, other) in combinations(enumerate(found.solutions), 2)
        if sum(one.choice[slot] != other.choice[slot] for slot in problem.slots) < found.differ
    ]
    if found.status != "infeasible":
        faults += _check_sum(problem, found)
    elif found.solutions or found.objective is not None:
        faults.append("status: infeasible claimed beside solutions")
    if faults:
        raise PassError(
            "the joint answer fails its certificate: "
            + "; ".join(faults)
            + "; solve greedily and report this"
        )


def _check_sum(problem: Problem, found: JointSolution) -> list[str]:
    picked = [option for s in found.solutions for option in _picked(problem, s)]
    objective = math.fsum(option.loss for option in picked)
    magnitude = math.fsum(abs(option.loss) for option in picked)
    faults = []
    if _differ(found.objective, objective, magnitude):
        faults.append(f"objective: {found.objective} claimed, {objective} summed")
    bound, lp_bound, gap = found.bound, found.lp_bound, found.gap
    if bound is None or lp_bound is None or gap is None:
        return [*faults, "bound, lp_bound and gap: an answer needs all three"]
    proven = math.fsum(s.lp_bound for s in found.solutions if s.lp_bound is not None)
    greedy, rounding = found.greedy_objective, _RELATIVE * magnitude
    if lp_bound > proven + rounding:
        faults.append(f"lp_bound: {lp_bound} claimed, the duals prove only {proven}")
    if greedy is not None and greedy < objective - rounding:
        faults.append(f"greedy_objective: {greedy} lies below {objective}")
    return faults + _check_order(found, objective, bound, lp_bound, gap, rounding)


def _check_order(
    found: Solution | JointSolution,
    objective: float,
    bound: float,
    lp_bound: float,
    gap: float,
    rounding: float,
) -> list[str]:
    faults = []
    if not bound <= objective + rounding:
        faults.append(f"bound: {bound} lies above the objective {objective}")
    if not lp_bound <= bound + rounding:
        faults.append(f"lp_bound: {lp_bound} lies above the bound {bound}")
    expected = max(0.0, objective - bound) / max(abs(objective), 1e-12)
    if not abs(gap - expected) <= 1e-9 + _RELATIVE * expected:
        faults.append(f"gap: {gap} claimed, {expected} computed")
    if found.status == "proven" and not gap <= _PROVEN:
        faults.append(f"status: proven claimed with a gap of {gap}")
    return faults


def _check_choice(problem: Problem, solution: Solution) -> list[str]:
    faults = [f"choice: slot {s} is missing" for s in problem.slots if s not in solution.choice]
    for slot, variant in solution.choice.items():
        if slot not in problem.slots:
            faults.append(f"choice: the problem has no slot {slot}")
        elif all(option.variant != variant for option in problem.slots[slot]):
            faults.append(f"choice: slot {slot} has no variant {variant}")
    return faults


def _picked(problem: Problem, solution: Solution) -> list[Option]:
    return [
        next(option for option in options if option.variant == solution.choice[slot])
        for slot, options in problem.slots.items()
    ]


def _differ(claimed: float | None, summed: float, magnitude: float) -> bool:
    if claimed is None or not math.isfinite(claimed):
        return True
    return abs(claimed - summed) > _RELATIVE * magnitude


def _check_objective(solution: Solution, picked: Sequence[Option]) -> list[str]:
    summed = math.fsum(option.loss for option in picked)
    if _differ(solution.objective, summed, math.fsum(abs(option.loss) for option in picked)):
        return [f"objective: {solution.objective} claimed, {summed} summed"]
    return []


def _check_budgets(problem: Problem, solution: Solution, picked: Sequence[Option]) -> list[str]:
    faults = _names_differ("costs", solution.costs, {budget.cost for budget in problem.budgets})
    faults += _names_differ("slack", solution.slack, {budget.name for budget in problem.budgets})
    for budget in problem.budgets:
        terms = [budget.fixed, *(option.costs[budget.cost] for option in picked)]
        total = math.fsum(terms)
        left = budget.limit - total if budget.sense == "max" else total - budget.limit
        magnitude = _magnitude(problem, budget)
        if left < -_RELATIVE * magnitude:
            faults.append(f"budget {budget.name}: {total} against {budget.sense} {budget.limit}")
        claimed = solution.costs.get(budget.cost)
        if claimed is not None and _differ(claimed, total, magnitude):
            faults.append(f"costs.{budget.cost}: {claimed} claimed, {total} summed")
        slack = solution.slack.get(budget.name)
        if slack is not None and _differ(slack, left, magnitude):
            faults.append(f"slack.{budget.name}: {slack} claimed, {left} summed")
    return faults


def _names_differ(field: str, values: dict[str, float], wanted: set[str]) -> list[str]:
    return [f"{field}: {name} is missing" for name in sorted(wanted - values.keys())] + [
        f"{field}: {name} is no part of the problem" for name in sorted(values.keys() - wanted)
    ]


def _magnitude(problem: Problem, budget: Budget) -> float:
    largest = [max(abs(o.costs[budget.cost]) for o in opts) for opts in problem.slots.values()]
    return math.fsum([abs(budget.limit), abs(budget.fixed), *largest])


def _check_bounds(problem: Problem, solution: Solution, picked: Sequence[Option]) -> list[str]:
    objective = math.fsum(option.loss for option in picked)
    bound, lp_bound, gap = solution.bound, solution.lp_bound, solution.gap
    if bound is None or lp_bound is None or gap is None:
        return ["bound, lp_bound and gap: a solution needs all three"]
    rounding = _RELATIVE * math.fsum(abs(option.loss) for option in picked)
    faults = _check_order(solution, objective, bound, lp_bound, gap, rounding)
    return faults + _check_duals(problem, solution, lp_bound)


def _check_duals(problem: Problem, solution: Solution, lp_bound: float) -> list[str]:
    """Weak duality: prices >= 0 prove the bound `sum of min(loss + price cost) - price limit`."""
    unknown = solution.duals.keys() - {budget.name for budget in problem.budgets}
    faults = [f"duals: {name} is no budget" for name in sorted(unknown)]
    faults += [f"duals.{k}: {v} is negative" for k, v in solution.duals.items() if not v >= 0]
    if faults:
        return faults
    prices = [
        (budget, solution.duals.get(budget.name, 0.0) * (1 if budget.sense == "max" else -1))
        for budget in problem.budgets
    ]
    terms = [
        min(math.fsum([o.loss, *(p * o.costs[b.cost] for b, p in prices)]) for o in options)
        for options in problem.slots.values()
    ]
    terms += [price * (budget.fixed - budget.limit) for budget, price in prices]
    priced = math.fsum(
        abs(price) * _magnitude(problem, budget) for budget, price in prices
    ) + math.fsum(max(abs(o.loss) for o in options) for options in problem.slots.values())
    if lp_bound > math.fsum(terms) + _RELATIVE * priced:
        return [f"lp_bound: {lp_bound} claimed, the duals prove only {math.fsum(terms)}"]
    return []


def _check_differences(solution: Solution, forbid: Sequence[Difference]) -> list[str]:
    faults = []
    for difference in forbid:
        differing = sum(solution.choice.get(s) != v for s, v in difference.choice.items())
        if differing < difference.at_least:
            faults.append(
                f"choice: differs from an earlier one in {differing} slots, "
                f"{difference.at_least} asked"
            )
    return faults


def _check_infeasible(problem: Problem, solution: Solution) -> list[str]:
    faults = []
    if solution.choice or solution.objective is not None:
        faults.append("status: infeasible claimed beside a choice")
    for budget in problem.budgets:
        best = min if budget.sense == "max" else max
        extremes = [best(o.costs[budget.cost] for o in opts) for opts in problem.slots.values()]
        least = math.fsum([budget.fixed, *extremes])
        claimed = solution.tightest.get(budget.name)
        if claimed is not None and _differ(claimed, least, _magnitude(problem, budget)):
            faults.append(f"tightest.{budget.name}: {claimed} claimed, {least} summed")
    return faults
