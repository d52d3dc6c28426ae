"""The front of loss against one or more budgets, by solves that build on each other.

Three facts spare work, for limits that are nowhere tighter than others: a choice that meets the
tighter ones meets the looser ones; no choice within the tighter ones loses less than a bound
proven for the looser ones; and where nothing meets the looser ones, nothing meets the tighter ones.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from nas.errors import ConfigError, PassError
from nas.ir.problem import Problem, Solution
from nas.solvers._answer import answer, infeasible, relative_gap
from nas.solvers._base import PROVEN_GAP, Known, Solver
from nas.solvers._mip import MipSolver


@dataclass(frozen=True)
class SweepPoint:
    """The answer under one combination of limits.

    `place` holds the position on each axis. `searched` is False where the answer followed from
    those of other limits. `solution` is None where the search ended with neither an answer nor a
    proof; `failure` says why.
    """

    place: tuple[int, ...]
    problem: Problem
    swept: tuple[str, ...]
    solution: Solution | None
    searched: bool
    failure: str | None = None

    @cached_property
    def _tightness(self) -> tuple[float, ...]:
        """The limit of each swept budget, its sign turned for `min`: more is looser."""
        limits = {b.name: b.limit if b.sense == "max" else -b.limit for b in self.problem.budgets}
        return tuple(limits[name] for name in self.swept)

    @cached_property
    def _spent(self) -> tuple[float, ...]:
        """The total of each swept budget, in the same sense."""
        assert self.solution is not None
        by_name, costs = (
            {budget.name: budget for budget in self.problem.budgets},
            self.solution.costs,
        )
        return tuple(
            costs[by_name[name].cost] * (1 if by_name[name].sense == "max" else -1)
            for name in self.swept
        )

    @property
    def settled(self) -> bool:
        """Whether there is an answer, be it that nothing is feasible."""
        return self.solution is not None

    @property
    def feasible(self) -> bool:
        return self.solution is not None and self.solution.objective is not None

    def looser_than(self, limits: tuple[float, ...]) -> bool:
        """Whether no limit of this point is tighter than the one of `limits`."""
        return all(mine >= other for mine, other in zip(self._tightness, limits, strict=True))

    def fits(self, limits: tuple[float, ...]) -> bool:
        """Whether the choice of this point meets `limits`, too."""
        return self.feasible and all(
            mine <= other for mine, other in zip(self._spent, limits, strict=True)
        )

    @property
    def rank(self) -> tuple[tuple[float, ...], float, bool, tuple[int, ...]]:
        """Sorts points so that none comes before another that dominates it."""
        return (self._spent, _loss(self), not self.searched, self.place)

    def no_worse_than(self, other: SweepPoint) -> bool:
        """No more of any swept budget and no more loss; both points must be feasible."""
        return self.fits(other._spent) and _loss(self) <= _loss(other)


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
    axes: Mapping[str, Sequence[float]],
    *,
    solver: Solver | None = None,
    time_limit_s: float | None = None,
    gap: float = PROVEN_GAP,
) -> list[SweepPoint]:
    """Solve under every combination of the limits in `axes`, from the loosest to the tightest.

    `axes` maps names of budgets to limits; the points come in the order of their places, the last
    axis fastest. A point is searched only where the points before it do not settle it, and then
    starts from what they prove. `time_limit_s` and `gap` hold for each search; one that ends with
    neither an answer nor a proof leaves its point without a solution, and the others go on.

    Raises ConfigError for an unknown budget.
    """
    chosen = solver or MipSolver()
    names = tuple(axes)
    points: list[SweepPoint] = []
    for place in _loosest_first(problem, axes):
        limited = problem
        for name, i in zip(names, place, strict=True):
            limited = with_limit(limited, name, axes[name][i])
        known = _Known.of(limited, names, points)
        solution, failure = known.answer(limited, chosen.name, gap), None
        searched = solution is None
        if solution is None:
            try:
                solution = chosen.solve(
                    limited, time_limit_s=time_limit_s, gap=gap, known=known.for_search()
                )
            except PassError as error:
                failure = str(error)
        points.append(SweepPoint(place, limited, names, solution, searched, failure))
    return sorted(points, key=lambda point: point.place)


def front(points: Sequence[SweepPoint]) -> list[SweepPoint]:
    """The undominated points, from the tightest on; of equal ones the one that was searched.

    A point is dominated when another has no more loss and no more of any swept budget's cost (no
    less, for `min`). Points where nothing is feasible, or nothing was found, are left out.
    """
    kept: list[SweepPoint] = []
    for point in sorted((p for p in points if p.feasible), key=lambda p: p.rank):
        if not any(other.no_worse_than(point) for other in kept):
            kept.append(point)
    return kept


@dataclass(frozen=True)
class _Known:
    """What earlier points say of a new one: `looser` has the best bound, `fitting` the best choice
    that is feasible here."""

    looser: SweepPoint | None
    fitting: SweepPoint | None

    @classmethod
    def of(cls, limited: Problem, names: tuple[str, ...], points: Sequence[SweepPoint]) -> _Known:
        here = {b.name: b.limit if b.sense == "max" else -b.limit for b in limited.budgets}
        limits = tuple(here[name] for name in names)
        return cls(
            max(
                (p for p in points if p.settled and p.looser_than(limits)), key=_bound, default=None
            ),
            min((p for p in points if p.fits(limits)), key=_loss, default=None),
        )

    def answer(self, problem: Problem, solver: str, gap: float) -> Solution | None:
        """The answer where nothing is left to search for."""
        if self.looser is None:
            return None
        if not self.looser.feasible:
            return infeasible(problem, solver=solver, seconds=0.0)
        if self.fitting is None or relative_gap(_loss(self.fitting), _bound(self.looser)) > gap:
            return None
        proof, fitting = _solution(self.looser), _solution(self.fitting)
        if proof.lp_bound is None:
            return None
        # The prices prove at least as much here: limits that shrink only raise that bound.
        return answer(
            problem,
            fitting.choice,
            bound=_bound(self.looser),
            lp_bound=proof.lp_bound,
            duals=proof.duals,
            exact=proof.proven or fitting.proven,
            solver=solver,
            seconds=0.0,
        )

    def for_search(self) -> Known | None:
        """The bound, and the best choice to start from, be it one to repair."""
        start = self.fitting or self.looser
        if start is None:
            return None
        if self.looser is None:
            return Known(choice=_solution(start).choice)
        near, lp_gap = _solution(self.looser), None
        if near.proven and near.lp_bound is not None:
            lp_gap = max(0.0, _loss(self.looser) - near.lp_bound)
        return Known(choice=_solution(start).choice, bound=near.bound, lp_gap=lp_gap)


def _loosest_first(problem: Problem, axes: Mapping[str, Sequence[float]]) -> list[tuple[int, ...]]:
    """Every combination of positions, each after all that are looser."""
    senses = {budget.name: budget.sense for budget in problem.budgets}
    orders = [
        sorted(range(len(values)), key=values.__getitem__, reverse=senses.get(name) != "min")
        for name, values in axes.items()
    ]
    return list(itertools.product(*orders))


def _solution(point: SweepPoint) -> Solution:
    assert point.solution is not None
    return point.solution


def _loss(point: SweepPoint) -> float:
    objective = _solution(point).objective
    return math.inf if objective is None else objective


def _bound(point: SweepPoint) -> float:
    """Infinite where nothing is feasible: neither is anything under tighter limits."""
    bound = _solution(point).bound
    return math.inf if bound is None else bound
