"""What could still enter a solution: predicted losses with intervals, at the budgets' prices."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.ir import Budget, Option, Problem
from nas.solvers import MipSolver

Floats = NDArray[np.floating[Any]]
Prices = Mapping[str, float]


@dataclass(frozen=True)
class Estimate:
    """The loss that a trained candidate is expected to have, in nats a token."""

    point: float
    low: float
    high: float


@dataclass(frozen=True)
class Verdict:
    """What becomes of a candidate, and why.

    `regret_nats`: how much dearer than the best of its slot it is expected to be, at the prices of
    the budgets that suit it best. `cell`: its part of the space by cost, 0 the cheapest.
    """

    slot: str
    variant: str
    kept: bool
    reason: str
    regret_nats: float
    cell: int


def judge_candidates(
    problem: Problem,
    estimates: Mapping[str, Estimate],
    *,
    keep: float,
    reach: float,
    cells: int,
    time_limit_s: float = 60.0,
) -> list[Verdict]:
    """One verdict for each estimated option of `problem`, whose losses are the point estimates.

    The budgets are met as they are, and tighter and looser by the share `reach`; what a solution
    chooses stays. Out go the dominated (another is no dearer in any budget, and its loss lower at
    the ends of both intervals) and the hopeless (even with its loss at the lower end and its rivals
    at the upper one, it is dearer at all prices by more than the gap of the solution). Then the
    least regret wins, the best two of every part of a slot by cost (as in AutoDistil,
    arXiv 2201.12507) before the others, until the share `keep` of all is full.
    """
    chosen, prices, gap = solutions_about(problem, reach, time_limit_s)
    found: list[Verdict] = []
    for slot, options in problem.slots.items():
        here = [o for o in options if f"{slot}/{o.variant}" in estimates]
        known = {o.variant: estimates.get(f"{slot}/{o.variant}", _exact(o)) for o in options}
        regrets = _regrets(options, known, prices)
        parts = _cells(here, problem, cells)
        for option in here:
            name = option.variant
            reason = (
                ""
                if (slot, name) in chosen
                else reason_against(option, options, known, prices, gap)
            )
            regret = 0.0 if (slot, name) in chosen else regrets[name]
            found.append(Verdict(slot, name, not reason, reason, regret, parts[name]))
    return _within_share(found, chosen, math.floor(keep * len(found)))


def solutions_about(
    problem: Problem, reach: float, time_limit_s: float
) -> tuple[set[tuple[str, str]], list[Prices], float]:
    """What the solutions about the budgets choose, their prices, and the largest gap to the
    Lagrangian bound."""
    chosen: set[tuple[str, str]] = set()
    prices: list[Prices] = []
    gap = 0.0
    for scale in dict.fromkeys((1.0, 1.0 - reach, 1.0 + reach)):
        budgets = tuple(_scaled(budget, scale) for budget in problem.budgets)
        here = problem.model_copy(update={"budgets": budgets})
        solution = MipSolver().solve(here, time_limit_s=time_limit_s)
        if solution.status == "infeasible":
            continue
        chosen |= set(solution.choice.items())
        prices.append(here.prices(solution.duals))
        if solution.objective is not None and solution.lp_bound is not None:
            gap = max(gap, solution.objective - solution.lp_bound)
    return chosen, prices or [{}], gap


def _scaled(budget: Budget, scale: float) -> Budget:
    """The budget with `scale` times as much for the slots."""
    limit = budget.fixed + scale * (budget.limit - budget.fixed)
    return budget.model_copy(update={"limit": limit})


def _exact(option: Option) -> Estimate:
    return Estimate(option.loss, option.loss, option.loss)


def _priced(option: Option, prices: Prices) -> float:
    return sum(price * option.costs[cost] for cost, price in prices.items())


def _regrets(
    options: Sequence[Option], known: Mapping[str, Estimate], prices: Iterable[Prices]
) -> dict[str, float]:
    """Variant -> the least, over the prices, of what it is dearer than the slot's best."""
    rows = []
    for price in prices:
        values = np.array([known[o.variant].point + _priced(o, price) for o in options])
        rows.append(values - values.min())
    return dict(zip((o.variant for o in options), np.min(rows, axis=0).tolist(), strict=True))


def reason_against(
    option: Option,
    options: Sequence[Option],
    known: Mapping[str, Estimate],
    prices: Sequence[Prices],
    gap: float,
) -> str:
    """Why an option is out: dominated or hopeless, as in `judge_candidates`; empty if it is not."""
    mine, costs = known[option.variant], {cost for price in prices for cost in price}
    for rival in options:
        cheaper = all(rival.costs[cost] <= option.costs[cost] for cost in costs)
        if rival is not option and costs and cheaper and known[rival.variant].high < mine.low:
            return f"dominated by {rival.variant}"
    margins = []
    for price in prices:
        rivals = min(known[o.variant].high + _priced(o, price) for o in options)
        margins.append(mine.low + _priced(option, price) - rivals)
    if min(margins) > gap:
        return f"hopeless: dearer by {min(margins):.2g} nats or more at the budgets' prices"
    return ""


def _cells(options: Sequence[Option], problem: Problem, cells: int) -> dict[str, int]:
    """Variant -> its part of the slot by cost, in equal shares, 0 the cheapest.

    The cost is that of the first budget: with several, they mostly rise and fall together.
    """
    if not problem.budgets or not options:
        return {o.variant: 0 for o in options}
    cost = problem.budgets[0].cost
    order = sorted(options, key=lambda o: o.costs[cost])
    return {o.variant: i * cells // len(order) for i, o in enumerate(order)}


def _within_share(
    found: Sequence[Verdict], chosen: set[tuple[str, str]], most: int
) -> list[Verdict]:
    """At most `most` verdicts stay positive, but always those that a solution chose."""
    standing = sorted((v for v in found if v.kept), key=lambda v: v.regret_nats)
    seen: dict[tuple[str, int], int] = {}
    ranked = []
    for verdict in standing:
        place = seen.get((verdict.slot, verdict.cell), 0)
        seen[verdict.slot, verdict.cell] = place + 1
        must = (verdict.slot, verdict.variant) in chosen
        ranked.append((not must, place // 2, verdict.regret_nats, verdict))
    ranked.sort(key=lambda row: row[:3])
    late = {id(row[3]) for row in ranked[most:] if row[0]}
    return [
        Verdict(v.slot, v.variant, False, "beyond the share to keep", v.regret_nats, v.cell)
        if id(v) in late
        else v
        for v in found
    ]
